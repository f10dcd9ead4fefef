"""Tests of data/open_set_start.py: counts, strata, refusals."""

import numpy as np
import pytest

from openal_ray.data.open_set_start import clean_start, mismatch_start, noise_ratio_start
from openal_ray.errors import ConfigError

LABELS = np.array([0] * 300 + [1] * 100 + [-1] * 600 + [-2] * 50)
POOL = np.arange(10, 1050)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("count", "ratio", "n_id", "n_ood"), [(100, 0.6, 40, 60), (50, 0.9, 5, 45), (7, 0.5, 3, 3)])
def test_both_counts_are_floored(count: int, ratio: float, n_id: int, n_ood: int) -> None:
    start = noise_ratio_start(LABELS, POOL, count, ratio, rng())
    assert len(np.unique(start)) == len(start) == n_id + n_ood
    assert (LABELS[start] == -1).sum() == n_ood
    assert np.isin(start, POOL).all()


def test_classes_are_stratified() -> None:
    # 290 and 100 images of the two classes: 39 of 390 are 29 and 10.
    for start in (noise_ratio_start(LABELS, POOL, 78, 0.5, rng()), clean_start(LABELS, POOL, 39, rng())):
        assert np.bincount(LABELS[start][LABELS[start] >= 0]).tolist() == [29, 10]
    assert (LABELS[clean_start(LABELS, POOL, 39, rng())] >= 0).all()


def test_mismatch_takes_a_share_of_the_known_images_alone() -> None:
    start = mismatch_start(LABELS, POOL, 0.08, rng())
    assert len(np.unique(start)) == 31  # int(.08 · 390)
    assert (LABELS[start] >= 0).all()
    assert len(mismatch_start(np.zeros(10_000, int), np.arange(10_000), 0.08, rng())) == 800


def test_the_generator_decides() -> None:
    first, again, other = (noise_ratio_start(LABELS, POOL, 50, 0.5, rng(seed)).tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="n_start=900 takes 810 OOD images, but the pool has 600"):
        noise_ratio_start(LABELS, POOL, 900, 0.9, rng())
    with pytest.raises(ConfigError, match=r"takes 1 images .* must be 2 \(one of each class\) … 390"):
        noise_ratio_start(LABELS, POOL, 10, 0.9, rng())
    with pytest.raises(ConfigError, match="takes 400 images"):
        clean_start(LABELS, POOL, 400, rng())
    for wrong in (0.0, 0.001, 1.1):
        with pytest.raises(ConfigError, match=f"share in .* of the 390 images .* got {wrong}"):
            mismatch_start(LABELS, POOL, wrong, rng())
