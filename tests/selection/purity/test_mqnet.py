"""Tests of mqnet.py: the query against the whole pool at once, shards, the first query."""

import numpy as np
import pytest

from openal_ray.selection.columns import Moments
from openal_ray.selection.halves import BLOCK, LocalHalves, Picks
from openal_ray.selection.purity.meta_net import MetaNet
from openal_ray.selection.purity.mqnet import MqnetHalf, exp_z, labelled_similarity, pick_mqnet

N = 6000
RNG = np.random.default_rng(0)
INFORMATIVENESS, PURITY, LOG_PROBS = RNG.random(N), RNG.normal(size=N), np.log(RNG.dirichlet(np.ones(3), N))
NET = MetaNet(RNG.random((8, 2)), RNG.random(8), RNG.random(8), 0.5)


def pick(k: int, net: MetaNet | None, n_shards: int = 1, raw: bool = False) -> Picks:
    indices = np.arange(N)
    shards = [indices[indices // BLOCK % n_shards == shard] for shard in range(n_shards)]
    halves = [MqnetHalf(INFORMATIVENESS[own], PURITY[own], LOG_PROBS[own], own) for own in shards]
    return pick_mqnet(LocalHalves(halves), k, net, raw)


@pytest.mark.parametrize("net", [None, NET])
@pytest.mark.parametrize("raw", [False, True])
def test_the_query_is_that_of_the_whole_pool_at_once(net: MetaNet | None, raw: bool) -> None:
    z = [np.exp((one - one.mean()) / one.std()) for one in (INFORMATIVENESS, PURITY)]
    if raw and net is None:
        z[0] = INFORMATIVENESS
    scores = z[0] + z[1] if net is None else net.scores(np.stack(z, axis=1))
    found = pick(50, net, raw=raw)
    assert found.indices.tolist() == np.argsort(-scores)[:50].tolist()
    assert np.allclose(found.notes["inputs"], np.stack(z, axis=1)[found.indices])
    assert np.array_equal(found.notes["log_probs"], LOG_PROBS[found.indices])


@pytest.mark.parametrize("n_shards", [2, 5])
def test_shards_change_nothing(n_shards: int) -> None:
    one, other = pick(200, NET), pick(200, NET, n_shards)
    assert one.indices.tolist() == other.indices.tolist()
    assert np.array_equal(one.notes["inputs"], other.notes["inputs"])


def test_z_is_cut() -> None:
    moments = Moments(np.zeros(1), np.ones(1))
    assert exp_z(np.array([[1e9], [-1e9], [0.0]]), moments).ravel() == pytest.approx([np.exp(10), np.exp(-10), 1])


def test_purity_is_the_cosine_to_the_most_similar_labelled_image() -> None:
    features, labelled = np.array([[3.0, 4.0], [-1.0, 0.0]]), np.array([[2.0, 0.0], [0.0, 9.0]])
    assert labelled_similarity(features, labelled) == pytest.approx([0.8, 0.0])
    assert labelled_similarity(features, np.empty((0, 2))).tolist() == [0, 0]


def test_shards_without_rows_change_nothing() -> None:
    assert pick(50, NET, n_shards=11).indices.tolist() == pick(50, NET).indices.tolist()  # there are six blocks
