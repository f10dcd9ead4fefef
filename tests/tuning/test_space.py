"""What a search may choose from: plans by hand, TorchAL's space, and errors as sentences."""

from typing import Any

import pytest

from openal_ray import runs
from openal_ray.config import Config, Train
from openal_ray.errors import ConfigError
from openal_ray.tuning.space import Choice, Range, check_space, dearest, due, space_of, with_values

SHAPE = (8, 8, 1)


def tuned(*overrides: str, **tune: Any) -> Config:
    return runs.as_config({"tune": tune}, overrides)


def test_values_take_the_place_of_the_plans_own() -> None:
    plan = Train.model_validate({"epochs": 7, "optimizer": {"name": "sgd", "lr": 0.5, "params": {"momentum": 0.9}}})
    changed = with_values(plan, {
        "train.optimizer.params.weight_decay": 0.25, "train.batch_size": 8,
        "train.optimizer": {"name": "adam", "params": {}},
    })  # fmt: skip
    expected = {"epochs": 7, "batch_size": 8}
    expected["optimizer"] = {"name": "adam", "lr": 0.5, "params": {"weight_decay": 0.25}}  # the rate stays
    assert changed == Train.model_validate(expected)


def test_an_argument_of_a_transform_is_set_where_the_transform_stands() -> None:
    plan = Train.model_validate({"augment": ["RandomHorizontalFlip", {"RandAugment": {"num_magnitude_bins": 10}}]})
    changed = with_values(plan, {"train.augment.RandAugment.num_ops": 3, "train.augment.RandomHorizontalFlip.p": 0.1})
    assert changed.augment == (
        {"RandomHorizontalFlip": {"p": 0.1}}, {"RandAugment": {"num_magnitude_bins": 10, "num_ops": 3}},
    )  # fmt: skip
    assert plan.augment[0] == "RandomHorizontalFlip"


def test_without_a_space_it_is_torchals() -> None:
    expected = {
        "train.optimizer.lr": Range(1e-5, 1e-2, log=True),
        "train.optimizer.params.weight_decay": Range(1e-8, 1e-3, log=True),
        "train.batch_size": Choice((8, 16, 32, 64, 128, 256, 512)),
        "train.optimizer": Choice(({"name": "sgd", "params": {"momentum": 0.9}}, {"name": "adam", "params": {}})),
    }
    assert space_of(tuned(preset="torchal")) == expected
    strong = space_of(tuned("train.augment=[{RandAugment: {num_magnitude_bins: 10}}]", preset="torchal"))
    assert {key: one for key, one in strong.items() if key not in expected} == {
        "train.augment.RandAugment.num_ops": Range(1, 15, whole=True),
        "train.augment.RandAugment.magnitude": Range(1, 9, whole=True),
    }


def test_the_preset_is_fifty_random_trials_a_round_unless_told_otherwise() -> None:
    tune = tuned(preset="torchal").tune
    assert tune is not None
    assert (tune.trials, tune.sampler, tune.warm_start, tune.growth) == (50, "random", False, 1)
    fewer = tuned("tune.trials=5", preset="torchal").tune
    assert fewer is not None and (fewer.trials, fewer.sampler) == (5, "random")


def test_an_override_reaches_into_the_space() -> None:
    written = tuned(space={"train.optimizer.lr": {"loguniform": [0.1, 1]}})
    assert space_of(tuned("tune.space.train.optimizer.lr={loguniform: [0.1, 1]}")) == space_of(written)


@pytest.mark.parametrize(
    ("space", "told"),
    [
        ({"model.name": {"choice": ["a"]}}, "tune.space.model.name: keys of a space begin with train., such as"),
        ({"train.workers": {"int": [1, 2]}}, "tune.space.train.workers: says where, from what or in which parts"),
        ({"train.epochs": 3}, "tune.space.train.epochs: must be one of loguniform, uniform, int, choice"),
        ({"train.epochs": {"int": [1, 2], "choice": [1]}}, "train.epochs: must be one of"),
        ({"train.epochs": {"int": [2]}}, r"tune.space.train.epochs.int: must be two numbers, .* got \[2\]"),
        ({"train.epochs": {"int": [5, 2]}}, "the lower first"),
        ({"train.epochs": {"int": [1, 2.5]}}, "two whole numbers"),
        ({"train.optimizer.lr": {"loguniform": [0, 1]}}, "train.optimizer.lr.loguniform: must begin above 0"),
        ({"train.optimizer.lr": {"uniform": [True, 2]}}, "must be two numbers"),
        ({"train.epochs": {"choice": []}}, "train.epochs.choice: must be a list with values in it"),
        ({"train.epochs": {"choice": [{1, 2}]}}, "must be numbers, words, and lists or mappings"),
        ({"train.epochz": {"int": [1, 2]}}, "can have train.epochz=1: train.epochz: unknown key 'epochz'. Did you"),
        ({"train.epochs": {"int": [0, 2]}}, "no training can have train.epochs=0: train.epochs: must be greater than"),
        ({"train.augment.Solarise.p": {"uniform": [0, 1]}}, "train.augment has no such transform"),
        ({"train.optimizer.name": {"choice": ["sgd", "adamw"]}}, "can have train.optimizer.name='adamw': .*momentum"),
        (
            {"train.optimizer": {"choice": [{"name": "rprop", "params": {}}]},
             "train.optimizer.params.weight_decay": {"uniform": [0, 1]}},
            "rprop: .*weight_decay",
        ),
    ],
)  # fmt: skip
def test_what_is_no_space_is_refused_in_a_sentence(space: dict[str, Any], told: str) -> None:
    configuration = tuned("train.optimizer={name: sgd, params: {momentum: 0.9}}", space=space)
    with pytest.raises(ConfigError, match=told):
        check_space(configuration, SHAPE)


def test_every_option_is_tried_however_many_combinations_there_are() -> None:
    many = {f"train.optimizer.params.{name}": {"choice": list(range(1, 11))} for name in ("lambd", "alpha", "t0")}
    space = {"train.optimizer.name": {"choice": ["asgd", "asgd", "asdg"]}, **many}
    with pytest.raises(ConfigError, match="train.optimizer.name='asdg'"):
        check_space(tuned(space=space), SHAPE)


def test_trials_train_on_one_worker() -> None:
    with pytest.raises(ConfigError, match="set train.workers=1, got 2"):
        check_space(tuned("train.workers=2"), SHAPE)


def test_torchals_space_is_fit_for_training() -> None:
    check_space(tuned("train.augment=[{RandAugment: {num_magnitude_bins: 10}}]", preset="torchal"), SHAPE)


def test_the_dearest_plan_has_the_most_epochs() -> None:
    space = space_of(tuned(space={"train.epochs": {"choice": [3, 9, 5]}, "train.batch_size": {"int": [1, 2]}}))
    assert dearest(Train(batch_size=64), space) == Train(epochs=9, batch_size=64)


def test_a_search_is_due_at_first_and_once_the_labelled_set_has_grown() -> None:
    assert due(20, None, 2.0) and due(20, 20, 1.0) and due(40, 20, 2.0)
    assert not due(39, 20, 2.0) and not due(0, None, 1.0)
