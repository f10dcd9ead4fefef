"""Committees: the members' probabilities, read together, scored by the definitions."""

import numpy as np
import pytest

from openal_ray.errors import ConfigError
from openal_ray.models.learners import Classifier
from openal_ray.pool import AllBut
from openal_ray.shard import ReadOrder
from openal_ray.strategies import catalogue
from openal_ray.testing.pools import LEARNER, PLAN, SEED, case
from openal_ray.training.job import Job


def naive(name: str, probs: np.ndarray) -> np.ndarray:
    """The definitions, image by image, in float64; probs [n, k, C]."""
    found = []
    for members in probs.astype(np.float64):
        mean = members.mean(axis=0)
        votes = np.bincount(members.argmax(axis=1), minlength=members.shape[1]) / len(members)
        entropy = {
            "mean": -sum(p * np.log(p) for p in mean if p > 0),
            "votes": -sum(p * np.log(p) for p in votes if p > 0),
            "each": np.mean([-sum(p * np.log(p) for p in member if p > 0) for member in members]),
        }
        found.append(
            {
                "ensemble_entropy": entropy["mean"],
                "ensemble_bald": entropy["mean"] - entropy["each"],
                "ensemble_variation_ratio": 1 - votes.max(),
                "qbc": entropy["votes"],
            }[name]
        )
    return np.array(found)


@pytest.mark.parametrize("name", ["ensemble_entropy", "ensemble_bald", "ensemble_variation_ratio", "qbc"])
def test_the_query_is_the_definition_over_the_members(name: str) -> None:
    strategy = catalogue.build(name, {"members": 3})
    found = case().ask(strategy, 25, case().shards(2))
    shards = case().shards()
    case().load(strategy, shards, case().pool)
    shards.read(ReadOrder("all", "train", AllBut(case().pool.size, case().pool.taken), strategy.needs))
    reading = shards.gather("all")
    probs = np.stack([reading.signals[need] for need in ("probs", "member2.probs", "member3.probs")], axis=1)
    assert np.abs(probs[:, 1] - probs[:, 2]).max() > 0.01  # the members differ
    scores = naive(name, probs)
    expected = np.lexsort((reading.indices, -np.round(scores, 12)))[:25]
    np.testing.assert_array_equal(found.indices, reading.indices[expected])
    np.testing.assert_allclose(found.scores, scores[expected], atol=1e-9)


def test_members_learn_the_same_labels_from_other_first_weights_in_another_order() -> None:
    from openal_ray.strategies.strategy import Round

    none = (np.empty(0, np.int64), np.empty(0, np.int64))
    round = Round(2, case().pool, 10, LEARNER, PLAN, (0.5,), (0.5,), SEED, none)
    jobs = list(catalogue.build("qbc", {"members": 3}).prepare(round).values())
    assert all(isinstance(job, Job) and job.learner == LEARNER and isinstance(job.learner, Classifier) for job in jobs)
    assert all(np.array_equal(job.targets, case().pool.classes) for job in jobs)
    assert len({job.init_seed for job in jobs}) == len({job.order_seed for job in jobs}) == 2


def test_one_member_is_no_committee() -> None:
    with pytest.raises(ConfigError, match="qbc: members must be at least 2, got 1"):
        catalogue.build("qbc", {"members": 1})
