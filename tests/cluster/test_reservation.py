"""Sums of what trials reserve, worked out by hand."""

import pytest

from openal_ray import config, config_file
from openal_ray.cluster.reservation import adapted, bundles, most_at_once, needed, trainers
from openal_ray.config import Config

BYTES = 400 * 2**20


def trial(*overrides: str) -> Config:
    return adapted(config.parse(config_file.override({"shards": 2}, overrides)))


def test_a_trial_takes_one_cpu_unless_told_otherwise() -> None:
    found = trial()
    assert found.train.mode == "local" and found.cluster.cpus_per_shard == 0.49
    assert bundles(found) == [{"CPU": 0.01}, {"CPU": 0.49}, {"CPU": 0.49}]
    assert trainers(found) == {"CPU": 0, "GPU": 0}
    assert most_at_once([found], {"CPU": 2, "GPU": 0}) == 2


def test_what_the_user_reserved_stays() -> None:
    found = trial("cluster.cpus_per_shard=1", "cluster.gpus_per_shard=0.5", "train.gpus_per_worker=1")
    assert bundles(found) == [{"CPU": 0.01, "GPU": 1}, {"CPU": 1, "GPU": 0.5}, {"CPU": 1, "GPU": 0.5}]
    assert needed(found) == pytest.approx({"CPU": 2.01, "GPU": 2, "memory": 3 * BYTES})
    assert most_at_once([found], {"CPU": 16, "GPU": 5}) == 2  # the GPUs decide
    assert most_at_once([found], {"CPU": 4.02, "GPU": 50}) == 2  # the CPUs decide


def test_a_trial_in_one_process_reserves_its_trainer() -> None:
    found = trial("cluster.use=local", "train.cpus_per_worker=2", "train.gpus_per_worker=0.5")
    assert bundles(found) == [{"CPU": 2, "GPU": 0.5}]
    assert most_at_once([found], {"CPU": 5, "GPU": 8}) == 2


def test_a_trial_that_searches_hyper_parameters_does_so_in_its_own_process() -> None:
    assert trial("train.mode=session", "tune.trials=3").train.mode == "local"


def test_ray_train_is_counted_though_it_lies_outside_the_group() -> None:
    found = trial("train.workers=2", "train.at_once=2", "cluster.cpus_per_shard=0.5")
    assert found.train.mode == "session"
    assert trainers(found) == {"CPU": 4, "GPU": 0}
    assert needed(found)["CPU"] == pytest.approx(5.01)
    assert most_at_once([found], {"CPU": 15, "GPU": 0}) == 2
    assert most_at_once([found], {"CPU": 5, "GPU": 0}) == 0


def test_a_trial_has_the_least_number_of_workers_and_the_micro_batches_of_the_most() -> None:
    few = trial("train.workers=[1,4]")
    assert (few.train.mode, few.train.workers, few.train.micro_batches) == ("local", 1, 4)
    several = trial("train.workers=[2,4]", "train.mode=per_round")
    assert (several.train.mode, several.train.micro_batches, trainers(several)["CPU"]) == ("per_round", 4, 2)


def test_the_largest_trial_and_the_memory_decide() -> None:
    small, large = trial(), trial("shards=8", "cluster.cpus_per_shard=1")
    assert most_at_once([small, large], {"CPU": 17, "GPU": 0}) == 2
    assert most_at_once([small], {"CPU": 64, "GPU": 0, "memory": 7 * BYTES}) == 2


def test_very_many_shards_still_reserve_something() -> None:
    assert bundles(trial("shards=300"))[1] == {"CPU": 0.01}  # Ray refuses an empty bundle
