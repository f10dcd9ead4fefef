"""What a search chooses from: keys of `train`, how their values are drawn, and plans with values chosen.

Values are plain data by key, such as {"train.batch_size": 32}. A mapping among them changes the keys that it holds and
leaves its neighbours, so {"train.optimizer": {"name": "adam", "params": {}}} keeps the learning rate.
"""

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from openal_ray import config, config_file
from openal_ray.config_values import in_words
from openal_ray.errors import ConfigError, unknown_name
from openal_ray.training.loop import check_plan

Values = dict[str, Any]
KINDS = ("loguniform", "uniform", "int", "choice")
AUGMENT = "train.augment."
NOT_SEARCHED = (*config.WHERE_IT_TRAINS, "continue", "micro_batches", "cpus_per_worker")
"""Keys of `train` that say where it trains, from which weights on, or in which parts."""
MOST_CHECKED = 256  # plans that are tried before any work

TORCHAL = {
    "train.optimizer.lr": {"loguniform": [1e-5, 1e-2]},
    "train.optimizer.params.weight_decay": {"loguniform": [1e-8, 1e-3]},
    "train.batch_size": {"choice": [8, 16, 32, 64, 128, 256, 512]},
    "train.optimizer": {"choice": [{"name": "sgd", "params": {"momentum": 0.9}}, {"name": "adam", "params": {}}]},
}
"""Munjal et al. 2022, "Towards Robust and Reproducible Active Learning", as their published code draws them."""
TORCHAL_RAND_AUGMENT = {
    f"{AUGMENT}RandAugment.num_ops": {"int": [1, 15]},
    f"{AUGMENT}RandAugment.magnitude": {"int": [1, 9]},
}
"""Likewise, where RandAugment is on; magnitudes are of 10 levels there: num_magnitude_bins=10."""


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, both among them: real ones, uniform in themselves or in their logarithm, or whole."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    @property
    def extremes(self) -> tuple[Any, ...]:
        return (int(self.low), int(self.high)) if self.whole else (self.low, self.high)


@dataclass(frozen=True)
class Choice:
    """One of these, each as likely as the next."""

    options: tuple[Any, ...]

    @property
    def extremes(self) -> tuple[Any, ...]:
        return self.options


Space = dict[str, Range | Choice]


def space_of(configuration: config.Config) -> Space:
    """The space of `tune.space`, or TorchAL's if none is given; raises ConfigError for what is no space."""
    tune, train = configuration.tune, configuration.train
    assert tune is not None
    written = dict(_written(tune.space))
    if not written:
        augmented = any(entry == "RandAugment" or "RandAugment" in entry for entry in train.augment)
        written = TORCHAL | (TORCHAL_RAND_AUGMENT if augmented else {})
    return {key: _distribution(key, entry) for key, entry in written.items()}


def with_values(plan: config.Train, values: Mapping[str, Any]) -> config.Train:
    """The plan with these values in place of its own; raises ConfigError for one that it cannot have."""
    changed = plan.model_dump(mode="json", by_alias=True)
    for key, value in sorted(values.items(), key=lambda entry: entry[0].count(".")):  # general ones first
        if key.startswith(AUGMENT):
            changed["augment"] = _augmented(changed["augment"], key, value)
            continue
        path = key.removeprefix("train.")
        if isinstance(value, Mapping):
            before = _at(changed, path)
            value = {**before, **value} if isinstance(before, Mapping) else value
        changed = config_file.changed(changed, {path: value})
    try:
        return config.parse_as(config.Train, changed)
    except ConfigError as error:
        raise ConfigError("\n".join(f"train.{line}" for line in str(error).splitlines())) from None


def check_space(configuration: config.Config, shape: tuple[int, int, int]) -> None:
    """Tries plans at the edges of the space; raises ConfigError for a key or value that no training can have.

    shape  of the images: height, width, channels
    """
    tune, train = configuration.tune, configuration.train
    assert tune is not None
    if train.most_workers > 1:
        raise ConfigError(
            f"tune: a trial trains on one worker, and several trials side by side; set train.workers=1, got "
            f"{in_words(train.workers)}"
        )
    space = space_of(configuration)
    for values in itertools.islice(_edges(space), MOST_CHECKED):
        try:
            check_plan(with_values(train, values), shape)
        except ConfigError as error:
            told = ", ".join(f"{key}={value!r}" for key, value in values.items())
            raise ConfigError(f"tune.space: no training can have {told}: {error}") from None


def dearest(plan: config.Train, space: Space) -> config.Train:
    """The plan with the most epochs and steps that a search may give it, for its price."""
    long = ("train.epochs", "train.steps_per_epoch")
    return with_values(plan, {key: max(space[key].extremes) for key in long if key in space})


def due(labelled: int, before: int | None, growth: float) -> bool:
    """Whether to search on so many labels; `before` is how many the last search had, None if there was none."""
    return labelled > 0 and (before is None or labelled >= growth * before)


def _written(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The entries by dotted key, also where an override has put them into nested mappings."""
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value and not set(value) & set(KINDS):
            yield from _written(value, f"{path}.")
        else:
            yield path, value


def _distribution(key: str, entry: Any) -> Range | Choice:
    place = f"tune.space.{key}"
    first, _, rest = key.partition(".")
    if first != "train" or not rest:
        raise ConfigError(f"{place}: keys of a space begin with train., such as train.optimizer.lr")
    if rest.partition(".")[0] in NOT_SEARCHED:
        raise ConfigError(f"{place}: says where, from what or in which parts it trains; it cannot be searched")
    if not isinstance(entry, Mapping) or len(entry) != 1:
        raise ConfigError(f"{place}: must be one of {', '.join(KINDS)} with its values, such as "
                          f"{{uniform: [0, 1]}}, got {entry!r}")  # fmt: skip
    kind, values = next(iter(entry.items()))
    if kind not in KINDS:
        raise ConfigError(f"{place}: {unknown_name('distribution', kind, KINDS)}")
    if not isinstance(values, list | tuple) or not values:
        raise ConfigError(f"{place}.{kind}: must be a list with values in it, got {values!r}")
    if kind != "choice":
        return _range(f"{place}.{kind}", kind, values)
    try:
        return Choice(tuple(json.loads(json.dumps(values))))  # as the record will have them
    except (TypeError, ValueError):
        raise ConfigError(
            f"{place}.choice: must be numbers, words, and lists or mappings of them, got {values!r}"
        ) from None


def _range(place: str, kind: str, values: list[Any] | tuple[Any, ...]) -> Range:
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(values) != 2 or len(numbers) != 2 or not values[0] <= values[1]:
        raise ConfigError(f"{place}: must be two numbers, the lower first, got {values!r}")
    if kind == "int" and not all(float(value).is_integer() for value in values):
        raise ConfigError(f"{place}: must be two whole numbers, got {values!r}")
    if kind == "loguniform" and values[0] <= 0:
        raise ConfigError(f"{place}: must begin above 0, got {values!r}")
    return Range(values[0], values[1], log=kind == "loguniform", whole=kind == "int")


def _edges(space: Space) -> Iterator[Values]:
    """Every option and end alone, then every combination of options with all ranges at one end and at the other."""
    ends = {key: one.options if isinstance(one, Choice) else one.extremes for key, one in space.items()}
    first = {key: values[0] for key, values in ends.items()}
    for key, values in ends.items():
        yield from ({**first, key: value} for value in values)
    choices = {key: one.options for key, one in space.items() if isinstance(one, Choice)}
    ranges = {key: one.extremes for key, one in space.items() if isinstance(one, Range)}
    for options in itertools.product(*choices.values()):
        for end in (0, -1) if ranges else (0,):
            chosen = dict(zip(choices, options, strict=True)) | {key: ends[end] for key, ends in ranges.items()}
            yield {key: chosen[key] for key in space}


def _augmented(augment: list[Any], key: str, value: Any) -> list[Any]:
    """`augment` with an argument of one of its transforms set; the key is train.augment.TRANSFORM.ARGUMENT."""
    name, _, argument = key.removeprefix(AUGMENT).partition(".")
    names = [entry if isinstance(entry, str) else next(iter(entry)) for entry in augment]
    if name not in names or not argument:
        raise ConfigError(
            f"{key}: train.augment has no such transform; write train.augment.TRANSFORM.ARGUMENT with one of "
            f"{', '.join(names) or 'those that you put there'}"
        )
    place = names.index(name)
    old = {} if isinstance(augment[place], str) else augment[place][name]
    return [*augment[:place], {name: {**old, argument: value}}, *augment[place + 1 :]]


def _at(values: Mapping[str, Any], path: str) -> Any:
    """What lies under a dotted path, None if there is nothing."""
    found: Any = values
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
