"""Compositions: what a filter lets through, what ranks combine, and how the default steers itself."""

import math

import numpy as np
import pytest

from openal_ray.errors import ConfigError
from openal_ray.pool import AllBut
from openal_ray.record import PastQuery
from openal_ray.selection import scores
from openal_ray.selection.purity import post_hoc
from openal_ray.shard import ReadOrder
from openal_ray.strategies import catalogue
from openal_ray.strategies.open_set import composition
from openal_ray.strategies.open_set.purities import PURITIES
from openal_ray.strategies.strategy import Strategy
from openal_ray.testing.pools import case

POOL = case().pool.annotate(np.arange(500, 560) * 2 + 1, np.full(60, -1))


def signals(strategy: Strategy) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The candidates' dataset indices, and their signals."""
    shards = case().shards()
    case().load(strategy, shards, POOL)
    shards.read(ReadOrder("all", "train", AllBut(POOL.size, POOL.taken), strategy.needs))
    reading = shards.gather("all")
    return reading.indices, dict(reading.signals)


def test_a_filter_picks_the_strategys_best_among_the_known_ones() -> None:
    strategy = catalogue.build("purity_filter", {"factor": 1.0, "train": {"epochs": 60}})
    indices, read = signals(strategy)
    logits = read["detector.logits"].astype(np.float64)
    known = np.log(np.exp(logits[:, :-1]).sum(axis=1)) >= logits[:, -1]
    assert 40 < known.sum() < len(known)
    margin = np.where(known, scores.margin(read["probs"]), -np.inf)
    expected = indices[np.lexsort((indices, -margin))[:40]]
    assert case().ask(strategy, 40, case().shards(3), pool=POOL).indices.tolist() == expected.tolist()


@pytest.mark.parametrize("inside", ["margin", "badge", "k_center"])
def test_too_few_known_ones_are_filled_up_by_the_purest(inside: str) -> None:
    strategy = catalogue.build("purity_filter", {"purity": "max_logit", "inside": inside, "factor": 2.0})
    indices, read = signals(strategy)
    purest = indices[np.lexsort((indices, -post_hoc.max_logit(read["logits"])))[:80]]
    assert np.isin(case().ask(strategy, 40, pool=POOL).indices, purest).all()


@pytest.mark.parametrize(("combine", "weight"), [("product", 0.5), ("rank_sum", 0.3)])
def test_ranks_are_combined(combine: str, weight: float) -> None:
    parameters = {"purity": "energy", "combine": combine, "weight": weight}
    strategy = catalogue.build("purity_filter", parameters)
    indices, read = signals(strategy)
    ranks = [
        values.argsort().argsort() / len(values)
        for values in (post_hoc.energy(read["logits"]), scores.margin(read["probs"]))
    ]
    both = ranks[0] * ranks[1] if combine == "product" else weight * ranks[0] + (1 - weight) * ranks[1]
    best = indices[np.argsort(-both)[:60]]  # ranks of the strategy are right to a thousandth of the pool
    assert np.isin(case().ask(strategy, 40, pool=POOL).indices, best).mean() > 0.95


@pytest.mark.parametrize("purity", [name for name in PURITIES if name != "clipn"])  # see test_clipnal.py
def test_every_purity_serves_every_number_of_shards(purity: str) -> None:
    strategy = catalogue.build("purity_filter", {"purity": purity})
    many = case("many blocks")
    pool = many.pool.annotate(np.arange(500, 560) * 2 + 1, np.full(60, -1))
    one, three = (many.ask(strategy, 30, many.shards(count), pool=pool).indices.tolist() for count in (1, 3))
    assert one == three


def test_before_anything_was_rejected_the_default_is_its_inner_strategy() -> None:
    for inside in ("badge", "margin"):
        found = case().ask(catalogue.build("openset_auto", {"inside": inside}), 30).indices
        assert found.tolist() == case().ask(inside, 30).indices.tolist()


def past(round: int, known: int, rejected: int) -> PastQuery:
    return PastQuery(round, np.arange(known + rejected), np.append(np.zeros(known), np.full(rejected, -1)))


def test_the_default_asks_for_more_after_impure_queries_and_never_for_less_than_even_odds() -> None:
    history = (past(0, 20, 0), past(1, 5, 45))
    assert composition._level(history, 0.7) == 0.0  # the blind query teaches nothing about the filter
    wanted = math.log(0.7 / 0.3)
    impure = (*history, past(2, 25, 25))
    assert composition._level(impure, 0.7) == pytest.approx(wanted)
    assert composition._level((*impure, past(3, 50, 0)), 0.7) == 0.0
    assert composition._level((*impure, past(3, 0, 50)), 0.7) == pytest.approx(wanted + 2.0)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("purity_filter", {"purity": "enrgy"}, "Did you mean 'energy'"),
        ("purity_filter", {"inside": "random"}, "unknown strategy inside 'random'"),
        ("purity_filter", {"inside": "badge", "combine": "product"}, "combine=product needs a strategy that ranks"),
        ("purity_filter", {"factor": 0.5}, "factor must be at least 1"),
        ("openset_auto", {"target": 1.0}, "target must lie between 0 and 1"),
        ("lfosa", {"train": {"epoch": 3}}, "train: .*epoch.* Did you mean 'epochs'"),
        ("lfosa", {"temperature": 0}, "temperature must be above 0"),
        ("eoal", {"clusterer": "dbscan"}, "clusterer kmeans or finch"),
        ("eaoa", {"neighbours": 0}, "neighbours be at least 1"),
        ("mqnet", {"pairs": "all"}, "pairs flip or next"),
        ("ccal", {"form": "paper"}, "form must be official or openal"),
    ],
)
def test_wrong_parameters_are_refused_in_words(name: str, parameters: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        catalogue.build(name, parameters)
