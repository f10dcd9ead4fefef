"""Which runs are averaged, and how."""

import math
import statistics

import numpy as np
import pytest

from openal_ray.errors import RunError
from openal_ray.reports.curves import load
from openal_ray.reports.groups import Estimate, group
from tests.reports.run_folders import MakeRun


def test_seeds_of_a_strategy_on_a_data_set_belong_together(make_run: MakeRun) -> None:
    folders = [
        make_run("badge", seed=1, folder="a"),
        make_run("badge", seed=0, folder="b", config={"cluster": {"use": "local"}, "tracking": {"wandb": True}}),
        make_run("badge", seed=0, folder="c", dataset="mnist"),
        make_run(None, seed=0, folder="d", config={"train": {"epochs": 50}}),
        make_run("random", seed=0, folder="e"),
    ]
    groups = group(load(folders))
    assert [(each.dataset, each.label, each.seeds) for each in groups] == [
        ("digits", "badge", (0, 1)),
        ("digits", "random", (0,)),
        ("digits", "supervised", (0,)),
        ("mnist", "badge", (0,)),
    ]


def test_seeds_that_trained_on_other_numbers_of_workers_are_averaged(make_run: MakeRun) -> None:
    folders = [
        make_run("badge", seed=0, folder="a", config={"train": {"workers": 1, "micro_batches": 4}}),
        make_run("badge", seed=1, folder="b", config={"train": {"workers": [1, 4], "micro_batches": 4}}),
        make_run("badge", seed=0, folder="c", config={"train": {"workers": 1, "micro_batches": 1}}),
    ]
    assert [(each.setting, each.seeds) for each in group(load(folders))] == [
        ("train.micro_batches=4", (0, 1)),
        ("train.micro_batches=1", (0,)),
    ]


def test_seeds_that_take_anothers_hyper_parameters_are_averaged_with_it(make_run: MakeRun) -> None:
    search = {"trials": 50, "reuse_from": None}
    first = make_run("badge", seed=0, folder="a", config={"tune": search})
    second = make_run("badge", seed=1, folder="b", config={"tune": {**search, "reuse_from": str(first)}})
    assert [each.seeds for each in group(load([first, second]))] == [(0, 1)]


def test_runs_that_differ_in_a_strategy_parameter_are_kept_apart(make_run: MakeRun) -> None:
    cold = make_run("lfosa", folder="cold", config={"strategy": {"temperature": 0.5}})
    plain, other = make_run("lfosa", folder="plain"), make_run("badge", folder="badge")
    labels = [each.label for each in group(load([cold, plain, other]))]
    assert labels == ["lfosa(temperature=0.5)", "lfosa(temperature=default)", "badge"]


def test_runs_that_differ_in_another_key_say_so_in_every_strategy(make_run: MakeRun) -> None:
    short = make_run("badge", folder="short")
    long = make_run("random", folder="long", config={"train": {"epochs": 50}})
    groups = group(load([short, long]))
    assert [each.label for each in groups] == ["badge · train.epochs=5", "random · train.epochs=50"]
    assert [each.name for each in groups] == ["badge", "random"]


def test_the_same_experiment_twice_is_refused(make_run: MakeRun) -> None:
    first, second = make_run("badge", seed=4, folder="first"), make_run("badge", seed=4, folder="second")
    message = rf"{first} and {second} are the same experiment twice \(digits, badge, seed 4\); name only one"
    with pytest.raises(RunError, match=message):
        group(load([first, second]))


def test_mean_and_deviation_at_equal_label_counts(make_run: MakeRun) -> None:
    scores = [(0.4, 0.6, 0.8), (0.5, 0.6, 0.9), (0.6, 0.9, 1.0)]
    (found,) = group(load([make_run("badge", seed=seed, accuracy=each) for seed, each in enumerate(scores)]))
    counts, mean, sd = found.mean_curve("accuracy")
    np.testing.assert_array_equal(counts, [100, 200, 300])
    np.testing.assert_allclose(mean, [statistics.mean(column) for column in zip(*scores, strict=True)])
    np.testing.assert_allclose(sd, [statistics.stdev(column) for column in zip(*scores, strict=True)])


def test_only_label_counts_that_all_seeds_cover_are_averaged(make_run: MakeRun) -> None:
    """One seed is unfinished, and open-set answers gave it other counts: it is read between its rounds."""
    whole = make_run("badge", seed=0, labelled=(100, 200, 300, 400), accuracy=(0.1, 0.2, 0.3, 0.4))
    part = make_run("badge", seed=1, labelled=(120, 320), accuracy=(0.5, 0.9))
    (found,) = group(load([whole, part]))
    counts, mean, _ = found.mean_curve("accuracy")
    np.testing.assert_array_equal(counts, [120, 200, 300, 320])
    np.testing.assert_allclose(mean, [(0.12 + 0.5) / 2, (0.2 + 0.66) / 2, (0.3 + 0.86) / 2, (0.32 + 0.9) / 2])


def test_seeds_without_a_common_label_count_have_an_empty_mean(make_run: MakeRun) -> None:
    early = make_run("badge", seed=0, labelled=[100], accuracy=[0.5])
    late = make_run("badge", seed=1, labelled=[110], accuracy=[0.5])
    (found,) = group(load([early, late]))
    assert [len(each) for each in found.mean_curve("accuracy")] == [0, 0, 0]


def test_one_seed_has_no_deviation() -> None:
    assert Estimate.of([0.5]).mean == 0.5
    assert math.isnan(Estimate.of([0.5]).sd)
    assert Estimate.of([0.4, 0.6]) == Estimate(0.5, pytest.approx(statistics.stdev([0.4, 0.6])))


def test_seconds_are_means_over_seeds(make_run: MakeRun) -> None:
    runs = [make_run("badge", seed=seed, seconds=seconds) for seed, seconds in enumerate((1, 3))]
    (found,) = group(load(runs))
    assert found.spent("train") == Estimate(pytest.approx(60), pytest.approx(statistics.stdev([30, 90])))
