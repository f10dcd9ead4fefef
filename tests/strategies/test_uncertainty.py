"""Uncertainty strategies: the definitions, image by image, in float64."""

import math

import numpy as np
import pytest

from openal_ray.strategies import catalogue
from openal_ray.testing.pools import case
from tests.strategies.read_all import signals

DEFINITIONS = {
    "least_confidence": lambda p: 1 - max(p),
    "margin": lambda p: 1 - (sorted(p)[-1] - sorted(p)[-2]),
    "ratio": lambda p: sorted(p)[-2] / sorted(p)[-1],
    "entropy": lambda p: -sum(x * math.log(x) for x in p if x > 0),
}


@pytest.mark.parametrize("name", DEFINITIONS)
@pytest.mark.parametrize("pool", ["", "saturated probabilities"])
def test_the_query_is_the_definition(name: str, pool: str) -> None:
    found = case(pool).ask(name, 40, case(pool).shards(3))
    indices, read, _ = signals(case(pool), catalogue.build(name))
    scores = np.array([DEFINITIONS[name](p) for p in read["probs"].astype(np.float64).tolist()])
    np.testing.assert_allclose(found.scores, np.sort(scores)[::-1][:40], atol=1e-12)
    least = np.sort(scores)[-40]
    assert np.isin(found.indices, indices[scores >= least - 1e-12]).all()
