"""OpenAL's configuration keys, translated to ours with a line that says to what."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from openal_ray.errors import ConfigError, unknown_name

SECTIONS = ("DEFAULT", "DATASET", "OPTIMIZER", "SCHEDULER", "TRAIN", "MODEL", "AL", "LOSS")


def _same(value: Any) -> Any:
    return value


def _start(value: Any) -> Any:
    known = {"stratified_random_select": "stratified", "random_select": "random"}
    if value not in known:
        raise ConfigError(f"AL.init.method: {unknown_name('start rule', value, known)}")
    return known[value]


def _precision(value: Any) -> Any:
    known = {"fp16": "float16", "bf16": "bfloat16", "no": "float32", None: "float32", False: "float32"}
    if value not in known:
        raise ConfigError(f"TRAIN.mixed_precision: {unknown_name('precision', value, ['fp16', 'bf16', 'no'])}")
    return known[value]


def _none_if_zero(value: Any) -> Any:
    return value or None


def _transforms(value: Any) -> Any:
    return [{name: arguments or {}} for name, arguments in value.items()] if isinstance(value, Mapping) else value


def _scheduler(value: Any) -> Any:
    names = {"cosine_annealing": "cosine", "step_lr": "step"}
    return names.get(value, value)


def _informativeness(value: Any) -> Any:
    known = {"LearningLossAL": "learning_loss", "LeastConfidence": "least_confidence"}
    if value not in known:
        raise ConfigError(f"AL.openset_params.selected_strategy: {unknown_name('strategy inside MQNet', value, known)}")
    return known[value]


Rule = tuple[str, Callable[[Any], Any]]
KEYS: dict[str, Rule] = {
    "DEFAULT.seed": ("seed", _same),
    "DEFAULT.savedir": ("out", _same),
    "DATASET.name": ("data.name", _same),
    "DATASET.datadir": ("data.root", _same),
    "DATASET.params": ("data.params", _same),
    "DATASET.batch_size": ("train.batch_size", _same),
    "DATASET.test_batch_size": ("read.batch_size", _same),
    "DATASET.aug_info": ("train.augment", _transforms),
    "OPTIMIZER.name": ("train.optimizer.name", _same),
    "OPTIMIZER.lr": ("train.optimizer.lr", _same),
    "OPTIMIZER.params": ("train.optimizer.params", _same),
    "SCHEDULER.name": ("train.scheduler.name", _scheduler),
    "SCHEDULER.params": ("train.scheduler.params", _same),
    "SCHEDULER.warmup_params.warmup": ("train.warmup_epochs", _same),
    "TRAIN.epochs": ("train.epochs", _same),
    "TRAIN.grad_accum_steps": ("train.accumulate", _same),
    "TRAIN.mixed_precision": ("train.precision", _precision),
    "TRAIN.params.steps_per_epoch": ("train.steps_per_epoch", _none_if_zero),
    "TRAIN.wandb.use": ("tracking.wandb", _same),
    "TRAIN.wandb.entity": ("tracking.entity", _same),
    "TRAIN.wandb.project_name": ("tracking.project", _same),
    "MODEL.name": ("model.name", _same),
    "MODEL.pretrained": ("model.pretrained", _same),
    "MODEL.params": ("model.params", _same),
    "AL.strategy": ("strategy.name", _same),
    "AL.params.num_mcdropout": ("strategy.passes", _same),
    "AL.params.alpha_cap": ("strategy.cap", _same),
    "AL.params.lamb": ("strategy.weight", _same),
    "AL.params.loss_weight": ("strategy.weight", _same),
    "AL.params.out_features": ("strategy.hidden", _same),
    "AL.params": ("strategy", _same),
    "TRAIN.params.detach_epoch_ratio": ("strategy.detach_share", _same),
    "AL.ood_ratio": ("open_set.noise_ratio", _same),
    "AL.id_ratio": ("open_set.known", float),
    "DATASET.id_ratio": ("open_set.known", float),
    "AL.openset_params.pareta_alpha": ("strategy.rejected", _same),
    "AL.openset_params.selected_strategy": ("strategy.informativeness", _informativeness),
    "AL.openset_params.detector_params.temperature": ("strategy.temperature", _same),
    "AL.openset_params.meta_params.epochs": ("strategy.epochs", _same),
    "AL.openset_params.k": ("strategy.k", _same),
    "AL.openset_params.t": ("strategy.t", _same),
    "AL.n_start": ("budget.n_start", _same),
    "AL.n_query": ("budget.n_query", _same),
    "AL.n_end": ("budget.n_end", _same),
    "AL.n_subset": ("budget.n_subset", _same),
    "AL.init.method": ("budget.start", _start),
    "AL.continual": ("train.continue", _same),
}

# OpenAL's own settings that change no number here; they are dropped, and said to be.
WITHOUT_EFFECT = {
    "DATASET.num_workers": "pictures are decoded by threads, ahead of the network",
    "DATASET.sampler_name": "every pass is a fresh permutation; train.class_weights=balanced weighs rare classes",
    "TRAIN.log_interval": "progress is always shown",
    "TRAIN.params.metrics_off": "training metrics cost nothing here",
    "AL.interval_type": "the best-scored images are asked",
    "DEFAULT.exp_name": "the run folder is `out`",
    "TRAIN.resume.use": "use `openal-ray resume RUN`",
    "LOSS.name": "cross-entropy is the loss",
    "MODEL.params.in_chans": "the network takes the data set's channels",
    "AL.params.layer_ids": "the network says itself which stages it has",
    "AL.params.in_features_list": "the network says itself which stages it has",
    "AL.openset_params": "`openal-ray strategies NAME` lists the parameters; its `train` is the detector's",
    "SCHEDULER.warmup_params.use": "set train.warmup_epochs",
    "SCHEDULER.warmup_params.multiplier": "the ramp ends at the learning rate",
}


def translate(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Our configuration for one that may hold OpenAL's keys, and one line for each key that was translated.

    raises  ConfigError  for a key under OpenAL's sections, or a value of it, that has no counterpart here
    """
    ours = {key: value for key, value in values.items() if key not in SECTIONS}
    lines = []
    for section in SECTIONS:
        settings = dict(_leaves({section: values[section]} if section in values else {}))
        if settings.get("SCHEDULER.warmup_params.use") is False:
            settings.pop("SCHEDULER.warmup_params.warmup", None)
        for path, value in settings.items():
            lines.append(_translate_one(ours, path, value))
    if "open_set" in ours and "DEFAULT" in values:
        draw = {"rule": "openal", "seed": ours.get("seed", 0)}
        ours["open_set"] = {"draw": draw, **ours["open_set"]}
        lines.append(f"DEFAULT.seed → open_set.draw={draw}: it draws the known classes too, as in OpenAL")
    return ours, lines


def _translate_one(ours: dict[str, Any], path: str, value: Any) -> str:
    if path == "LOSS.name" and value != "CrossEntropyLoss":
        raise ConfigError(f"LOSS.name: only CrossEntropyLoss is known, got {value!r}")
    known = next((key for key in KEYS if path == key or path.startswith(f"{key}.")), None)
    idle = max((key for key in WITHOUT_EFFECT if path == key or path.startswith(f"{key}.")), key=len, default=None)
    if idle and len(idle) >= len(known or ""):
        return f"{path} has no effect here: {WITHOUT_EFFECT[idle]}"
    if known is None:
        raise ConfigError(f"{path}: {unknown_name('OpenAL key', path, [*KEYS, *WITHOUT_EFFECT])}")
    target, change = KEYS[known]
    target += path.removeprefix(known)
    value = change(value)
    section = ours
    *parents, last = target.split(".")
    for parent in parents:
        section[parent] = section = _section(section.get(parent))
    section[last] = value
    return f"{path} → {target}={value}"


def _section(given: Any) -> dict[str, Any]:
    """A copy of what our key holds already; a bare name is its `name`, a list of names gives way to OpenAL's one."""
    if isinstance(given, str):
        return {"name": given}
    return dict(given) if isinstance(given, Mapping) else {}


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and path not in ("DATASET.aug_info",):
            yield from _leaves(value, f"{path}.")
        elif value is not None:
            yield path, value
