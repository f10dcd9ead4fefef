"""The Monte Carlo strategies: values worked out by hand, and the definitions from every pass's probabilities."""

import numpy as np
import pytest

from openal_ray import seeds
from openal_ray.errors import ConfigError
from openal_ray.models.monte_carlo import Sampling
from openal_ray.pool import AllBut
from openal_ray.selection import batch_bald
from openal_ray.shard import ReadOrder
from openal_ray.strategies import catalogue
from openal_ray.strategies.query import Query
from openal_ray.testing.pools import Case, digits

# Two images, two passes, two classes: the passes of the first agree, those of the second contradict each other.
AGREE = [[0.75, 0.25], [0.75, 0.25]]
DISAGREE = [[1.0, 0.0], [0.0, 1.0]]
BY_HAND = {  # (agreeing, contradicting)
    "bald": (0.0, np.log(2)),  # H(mean) - mean H = ln 2 - 0
    "mean_std": (0.0, 0.5),
    "variation_ratio": (0.0, 0.5),
    "mc_entropy": (-0.75 * np.log(0.75) - 0.25 * np.log(0.25), np.log(2)),
    "mc_least_confidence": (0.25, 0.5),
    "mc_margin": (0.5, 1.0),
    "mc_ratio": (1 / 3, 1.0),
}


def statistics(mc_probs: np.ndarray) -> dict[str, np.ndarray]:
    """The signals of the definitions, in float64."""
    safe = np.where(mc_probs > 0, mc_probs, 1)
    return {
        "mc_mean": mc_probs.mean(axis=1),
        "mc_std": mc_probs.std(axis=1),
        "mc_votes": np.eye(mc_probs.shape[2])[mc_probs.argmax(axis=2)].mean(axis=1),
        "mc_entropy": -(mc_probs * np.log(safe)).sum(axis=2).mean(axis=1),
    }


@pytest.mark.parametrize("name", BY_HAND)
def test_scores_worked_out_by_hand(name: str) -> None:
    score = catalogue.build(name).score
    np.testing.assert_allclose(score(statistics(np.array([AGREE, DISAGREE]))), BY_HAND[name], atol=1e-12)


@pytest.fixture(scope="module")
def case() -> Case:
    return digits()


@pytest.mark.parametrize("name", BY_HAND)
def test_the_query_is_the_definitions_over_all_passes(name: str, case: Case) -> None:
    strategy = catalogue.build(name, {"passes": 6})
    found: Query = case.ask(strategy, 25, case.shards(2))
    seed = int(seeds.rng(7, 3, "dropout").integers(2**62))
    shards = case.shards(1)
    case.load(strategy, shards, case.pool)
    everything = AllBut(case.pool.size, np.empty(0, np.int64))
    shards.read(ReadOrder("all", "train", everything, ("mc_probs",), Sampling(6, seed)))
    reading = shards.gather("all")
    scores = strategy.score(statistics(reading.signals["mc_probs"].astype(np.float64)))
    np.testing.assert_allclose(found.scores, scores[found.indices], atol=1e-5)
    unlabelled = np.setdiff1d(reading.indices, case.pool.taken)
    assert np.sort(scores[unlabelled])[-25] <= found.scores.min() + 1e-5


def test_passes_are_checked() -> None:
    with pytest.raises(ConfigError, match="passes must be at least 1, got 0"):
        catalogue.build("bald", {"passes": 0})


@pytest.mark.parametrize(
    ("alias", "name"),
    [("BALD", "bald"), ("MeanSTD", "mean_std"), ("MeanSTDSampling", "mean_std"), ("VarRatio", "variation_ratio")],
)
def test_openals_names_lead_here(alias: str, name: str) -> None:
    assert catalogue.find(alias).name == name


def test_batch_bald_is_its_algorithm_on_all_passes_in_one_place(case: Case) -> None:
    parameters = {"passes": 4, "configurations": 64}
    strategy = catalogue.build("batch_bald", parameters)
    shards = case.shards(1)
    case.load(strategy, shards, case.pool)
    seed = int(seeds.rng(7, 3, "dropout").integers(2**62))
    everything = AllBut(case.pool.size, case.pool.taken)
    shards.read(ReadOrder("all", "train", everything, ("mc_probs",), Sampling(4, seed)))
    reading = shards.gather("all")
    expected = batch_bald(reading.signals["mc_probs"], 6, seeds.rng(7, 3, "pick"), 64)
    assert case.ask(strategy, 6, case.shards(2)).indices.tolist() == reading.indices[expected].tolist()
