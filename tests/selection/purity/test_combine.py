"""Tests of combine.py: the filter and its shortage, ranks that no scale moves."""

import numpy as np

from openal_ray.selection.grouped import GroupedHalf, pick_ranked
from openal_ray.selection.halves import LocalHalves
from openal_ray.selection.purity.combine import filtered, rank_product, rank_sum
from openal_ray.selection.quantiles import QuantilesHalf, fit_quantiles

PURITY = np.array([0.9, 0.2, 0.7, -np.inf, 0.6, 0.3])
WORTH = np.array([1.0, 9.0, 3.0, 8.0, 2.0, 7.0])


def order(keys: np.ndarray, k: int) -> list[int]:
    half = GroupedHalf(keys, np.zeros(len(keys), int), np.arange(len(keys)))
    return pick_ranked(LocalHalves([half]), k).indices.tolist()


def test_pure_rows_by_worth_then_the_others_by_purity() -> None:
    assert order(filtered(PURITY, WORTH, 0.5), 6) == [2, 4, 0, 5, 1, 3]
    assert order(filtered(PURITY, WORTH, np.inf), 3) == [0, 2, 4]  # all predicted OOD
    assert order(filtered(PURITY, WORTH, -np.inf), 3) == [1, 3, 5]


def test_ranks_know_no_scale() -> None:
    rng = np.random.default_rng(0)
    purity, worth = rng.normal(size=300), rng.normal(size=300)
    ranks, stretched = (
        [fit_quantiles(LocalHalves([QuantilesHalf(form(one), np.arange(300))])) for one in (purity, worth)]
        for form in (np.array, lambda one: np.exp(9 * one))
    )
    by_rank = [one.argsort().argsort() for one in (purity, worth)]
    assert np.allclose(rank_sum(purity, worth, (ranks[0], ranks[1])), (by_rank[0] + by_rank[1] + 1) / 600)
    for combine in (rank_sum, rank_product):
        plain = combine(purity, worth, (ranks[0], ranks[1]))
        assert np.array_equal(plain, combine(np.exp(9 * purity), np.exp(9 * worth), (stretched[0], stretched[1])))
    assert order(rank_sum(purity, worth, (ranks[0], ranks[1]), weight=1.0), 300) == np.argsort(-purity).tolist()
    shares = (by_rank[0] + 0.5) * (by_rank[1] + 0.5) / 300**2
    assert np.allclose(rank_product(purity, worth, (ranks[0], ranks[1])), shares)
