"""Random sampling: uniform, without replacement, and without a look at any image."""

import numpy as np
from scipy import stats

from openal_ray import seeds
from openal_ray.pool import Pool
from openal_ray.strategies import catalogue
from openal_ray.testing.pools import case


def test_random_draws_every_unlabelled_image_as_often_as_any_other() -> None:
    pool = Pool(case().pool.size, held_out=np.arange(20, case().pool.size))
    counts = np.zeros(20)
    for seed in range(1500):
        found = case().ask("random", 3, pool=pool, rng=lambda purpose, seed=seed: seeds.rng(seed, 0, purpose)).indices
        counts[found] += 1
    assert counts.sum() == 4500 and stats.chisquare(counts).pvalue > 1e-3


def test_random_reads_nothing() -> None:
    assert not catalogue.build("random").reads
