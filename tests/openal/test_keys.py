"""Tests of openal/keys.py: OpenAL's configuration becomes ours, or is refused by the key that has no counterpart."""

from typing import Any

import pytest

from openal_ray import config
from openal_ray.errors import ConfigError
from openal_ray.openal.keys import KEYS, WITHOUT_EFFECT, translate
from openal_ray.strategies import catalogue
from openal_ray.strategies.catalogue import ENTRIES

# OpenAL's defaults with BALD and the command line's required keys, as its documentation lists them.
OPENAL: dict[str, Any] = {
    "DEFAULT": {"seed": 7, "savedir": "runs/mine", "exp_name": "first"},
    "DATASET": {
        "name": "CIFAR10", "datadir": "/datasets", "batch_size": 64, "test_batch_size": 2048, "num_workers": 4,
        "sampler_name": "SubsetRandomSampler", "aug_info": ["RandomHorizontalFlip", {"RandomCrop": {"padding": 4}}],
    },
    "OPTIMIZER": {"name": "SGD", "lr": 0.1, "params": {"weight_decay": 5e-4, "momentum": 0.9}},
    "SCHEDULER": {"name": "multi_step"},
    "TRAIN": {
        "epochs": 200, "grad_accum_steps": 1, "mixed_precision": "fp16", "log_interval": 10,
        "wandb": {"use": False, "entity": None, "project_name": None},
        "resume": {"use": False, "ckp_path": None, "round": None},
        "params": {"steps_per_epoch": 100, "metrics_off": True},
    },
    "LOSS": {"name": "CrossEntropyLoss"},
    "MODEL": {"name": "resnet18", "pretrained": False, "params": {"drop_rate": 0.1}},
    "AL": {
        "strategy": "BALD", "params": {"num_mcdropout": 10}, "n_start": 500, "n_query": 500, "n_end": 5000,
        "n_subset": 0, "init": {"method": "stratified_random_select"}, "continual": False,
    },
}  # fmt: skip
OURS: dict[str, Any] = {
    "seed": 7, "out": "runs/mine",
    "data": {"name": "CIFAR10", "root": "/datasets"},
    "model": {"name": "resnet18", "pretrained": False, "params": {"drop_rate": 0.1}},
    "strategy": {"name": "BALD", "passes": 10},
    "budget": {"start": "stratified", "n_start": 500, "n_query": 500, "n_end": 5000, "n_subset": 0},
    "train": {
        "batch_size": 64, "epochs": 200, "accumulate": 1, "steps_per_epoch": 100, "precision": "float16",
        "continue": False, "augment": ["RandomHorizontalFlip", {"RandomCrop": {"padding": 4}}],
        "scheduler": {"name": "multi_step"},
        "optimizer": {"name": "SGD", "lr": 0.1, "params": {"weight_decay": 5e-4, "momentum": 0.9}},
    },
    "read": {"batch_size": 2048},
    "tracking": {"wandb": False},
}  # fmt: skip


def ours(section: str, **values: Any) -> dict[str, Any]:
    return translate({section: values})[0]


def test_openals_own_defaults_become_ours() -> None:
    translated, lines = translate(OPENAL)
    assert translated == OURS
    config.parse(translated)
    assert "AL.strategy → strategy.name=BALD" in lines
    assert "OPTIMIZER.params.weight_decay → train.optimizer.params.weight_decay=0.0005" in lines
    assert "TRAIN.log_interval has no effect here: progress is always shown" in lines


def test_every_target_is_a_key_of_ours() -> None:
    sections: dict[str, Any] = config.Config().model_dump(by_alias=True) | {"strategy": {"name": "margin"}}
    sections["open_set"] = config.OpenSet().model_dump()
    for target, _ in KEYS.values():
        if target.startswith("strategy."):
            assert any(target.removeprefix("strategy.") in entry.parameters for entry in ENTRIES) or target.endswith(
                "name"
            )
            continue
        section = sections
        for part in target.split("."):
            assert part in section, target
            section = section[part]
    assert not KEYS.keys() & WITHOUT_EFFECT.keys()


def test_our_keys_pass_and_nothing_given_is_changed() -> None:
    given = {"shards": 3, "train": {"epochs": 5}, "strategy": "random", "TRAIN": {"grad_accum_steps": 2}}
    translated, lines = translate(given)
    assert translated == {"shards": 3, "train": {"epochs": 5, "accumulate": 2}, "strategy": "random"}
    assert lines == ["TRAIN.grad_accum_steps → train.accumulate=2"]
    assert given["train"] == {"epochs": 5}
    assert translate({"shards": 3}) == ({"shards": 3}, [])


@pytest.mark.parametrize(
    "strategy", ["random", {"name": "random"}, ["random", "margin"], None], ids=["name", "section", "list", "none"]
)
def test_openals_strategy_replaces_ours(strategy: Any) -> None:
    translated, _ = translate({"strategy": strategy, "AL": {"strategy": "BADGE", "params": {"n_samples": 1}}})
    assert translated["strategy"] == {"name": "BADGE", "n_samples": 1}


@pytest.mark.parametrize(
    ("section", "values", "expected"),
    [
        ("AL", {"init": {"method": "random_select"}}, {"budget": {"start": "random"}}),
        ("TRAIN", {"mixed_precision": "bf16"}, {"train": {"precision": "bfloat16"}}),
        ("TRAIN", {"mixed_precision": False}, {"train": {"precision": "float32"}}),  # YAML reads no as False
        ("TRAIN", {"params": {"steps_per_epoch": 0}}, {"train": {"steps_per_epoch": None}}),
        ("DATASET", {"aug_info": {"RandomHorizontalFlip": None, "RandomCrop": {"padding": 4}}},
         {"train": {"augment": [{"RandomHorizontalFlip": {}}, {"RandomCrop": {"padding": 4}}]}}),
        ("DATASET", {"params": {"imbalance_type": "exp"}}, {"data": {"params": {"imbalance_type": "exp"}}}),
        ("MODEL", {"params": {"in_chans": 1}}, {}),
        ("SCHEDULER", {"name": "cosine_annealing"}, {"train": {"scheduler": {"name": "cosine"}}}),
        ("SCHEDULER", {"name": "step_lr", "params": {"step_size": 20}},
         {"train": {"scheduler": {"name": "step", "params": {"step_size": 20}}}}),
        ("SCHEDULER", {"warmup_params": {"use": True, "warmup": 10}}, {"train": {"warmup_epochs": 10}}),
        ("SCHEDULER", {"warmup_params": {"warmup": 10, "use": False}}, {}),
    ],
)  # fmt: skip
def test_values_become_ours(section: str, values: dict[str, Any], expected: dict[str, Any]) -> None:
    assert ours(section, **values) == expected
    config.parse(expected)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"AL": {"n_strat": 5}}, "AL.n_strat: unknown OpenAL key 'AL.n_strat'. Did you mean 'AL.n_start'?"),
        ({"MODEL": "resnet18"}, "MODEL: unknown OpenAL key 'MODEL'. Did you mean 'MODEL.name'?"),
        ({"AL": {"init": {"method": "batch_select"}}},
         "AL.init.method: unknown start rule 'batch_select'. Did you mean"),
        ({"TRAIN": {"mixed_precision": "fp8"}}, "TRAIN.mixed_precision: unknown precision 'fp8'. Did you mean 'fp16'?"),
        ({"LOSS": {"name": "MSELoss"}}, "LOSS.name: only CrossEntropyLoss is known, got 'MSELoss'"),
    ],
)  # fmt: skip
def test_what_has_no_counterpart_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        translate(values)
    assert str(caught.value).startswith(message)


OPEN_SET: dict[str, Any] = {
    "DEFAULT": {"seed": 3},
    "AL": {
        "strategy": "LfOSA", "ood_ratio": 0.4, "id_ratio": 0.2, "n_start": 500, "n_query": 500, "n_end": 5000,
        "openset_params": {"max_iter": 10, "detector_params": {"temperature": 0.5, "modelname": "resnet18"}},
    },
}  # fmt: skip


def test_openals_open_set_keys_become_ours() -> None:
    translated, lines = translate(OPEN_SET)
    assert translated["open_set"] == {"draw": {"rule": "openal", "seed": 3}, "noise_ratio": 0.4, "known": 0.2}
    assert translated["strategy"] == {"name": "LfOSA", "temperature": 0.5}
    assert "AL.ood_ratio → open_set.noise_ratio=0.4" in lines
    assert any(line.startswith("AL.openset_params.max_iter has no effect here") for line in lines)
    assert any(line.startswith("DEFAULT.seed → open_set.draw=") for line in lines)
    checked = config.parse(translated)
    assert checked.open_set is not None and checked.open_set.known == 0.2
    catalogue.build("LfOSA", checked.strategy.parameters if checked.strategy else {})


def test_openals_parameters_of_strategies_are_ours() -> None:
    for name, params in {
        "AlphaMixSampling": {"alpha_cap": 0.03125}, "KCenterGreedyCB": {"lamb": 5},
        "LearningLossAL": {"loss_weight": 1.0, "margin": 1.0, "layer_ids": ["layer1"], "out_features": 128},
        "MeanSTDSampling": {"num_mcdropout": 10},
    }.items():  # fmt: skip
        strategy = dict(translate({"AL": {"strategy": name, "params": params}})[0]["strategy"])
        catalogue.build(strategy.pop("name"), strategy)
