"""Every form of k-center and BADGE that the selection benchmark compares, by name; the first of each kind is ours."""

import numpy as np

from openal_ray.selection.k_center import KCenterHalf, pick_k_center
from openal_ray.selection.kmeans_parallel import KMeansParallelHalf, pick_kmeans_parallel
from openal_ray.selection.kmeans_pp import KMeansPPHalf, pick_kmeans_pp
from openal_ray.selection.two_level import TwoLevelHalf, pick_two_level
from tests.benchmarks import selection_peers as peers
from tests.benchmarks.selection_measure import Arrays, Form, Metered, Run, shards

PARTS, ROUNDS = 8, 5


def k_center(n_shards: int) -> Run:
    """Exact k-center; arrays are points and covered."""

    def run(arrays: Arrays, k: int) -> Metered:
        halves = Metered([KCenterHalf(*part) for part in shards(n_shards, arrays[0])])
        pick_k_center(halves, k, arrays[1])
        return halves

    return run


def two_level(arrays: Arrays, k: int) -> Metered:
    """Two-level k-center, its radius included."""
    halves = Metered([TwoLevelHalf(points, indices, PARTS) for points, indices in shards(1, arrays[0])])
    halves.cover = pick_two_level(halves, k, arrays[1])
    return halves


def badge(n_shards: int) -> Run:
    """Exact D² draws; arrays are left and right."""

    def run(arrays: Arrays, k: int) -> Metered:
        halves = Metered([KMeansPPHalf(*part) for part in shards(n_shards, *arrays)])
        halves.picks = pick_kmeans_pp(halves, k, np.random.default_rng(3))
        return halves

    return run


def kmeans_parallel(arrays: Arrays, k: int) -> Metered:
    """k-means||."""
    halves = Metered([KMeansParallelHalf(*part) for part in shards(1, *arrays)])
    halves.picks = pick_kmeans_parallel(halves, k, ROUNDS, np.random.default_rng(3))
    return halves


def _drawn(peer: peers.Draws) -> Run:
    return lambda arrays, k: _nothing(peer(*arrays, k, np.random.default_rng(3)))


def _nothing(_: object) -> None:
    """Peers have no halves."""


FORMS: dict[str, dict[str, Form]] = {
    "k_center": {
        "ours, exact": Form(k_center(1)),
        "ours, exact, 4 shards": Form(k_center(4)),
        "one pick at a time, float32": Form(lambda a, k: _nothing(peers.k_center_per_pick(*a, k)), few=100),
        "running minimum, scikit-learn": Form(lambda a, k: _nothing(peers.k_center_running_minimum(*a, k)), few=20),
        "scikit-activeml CoreSet": Form(lambda a, k: _nothing(peers.scikit_activeml_core_set(*a, k)), few=20),
        f"ours, two levels, {PARTS} parts": Form(two_level),
    },
    "badge": {
        "ours, exact": Form(badge(1)),
        "ours, exact, 4 shards": Form(badge(4)),
        "one pick at a time": Form(_drawn(peers.badge_factored), few=30),
        "one pick at a time, as published": Form(_drawn(peers.badge_as_published), few=20),
        "materialised gradients": Form(_drawn(peers.badge_explicit), few=4),
        "scikit-activeml Badge": Form(_drawn(peers.scikit_activeml_badge), few=4),
        f"ours, k-means||, {ROUNDS} rounds": Form(kmeans_parallel),
    },
}
APPROXIMATE = (f"ours, two levels, {PARTS} parts", f"ours, k-means||, {ROUNDS} rounds")
EXPLICIT = ("materialised gradients", "scikit-activeml Badge")  # memory for C · D numbers a row


def forms(kind: str, *left_out: str) -> dict[str, Form]:
    """The forms of a kind that can run here."""
    return {
        name: form
        for name, form in FORMS[kind].items()
        if name not in left_out and (peers.HAS_SCIKIT_ACTIVEML or not name.startswith("scikit-activeml"))
    }
