"""Every strategy of the catalogue against the public checks, and what only ours must keep."""

import subprocess
import sys

import numpy as np
import pytest

from openal_ray import seeds
from openal_ray.models.signals import NAMES, split
from openal_ray.pool import Pool
from openal_ray.shard import ReadOrder
from openal_ray.strategies import catalogue
from openal_ray.strategies.strategy import Strategy
from openal_ray.testing import CHECKS, check_strategy
from openal_ray.testing.pools import ONE_KNOWN, case

ALL = [entry.name for entry in catalogue.ENTRIES if not entry.needs_files]  # clipnal: see open_set/test_clipnal.py
DRAWS = {
    "random",
    "badge",
    "k_means",
    "typiclust",
    "prob_cover",
    "cluster_margin",
    "batch_bald",
    "alpha_mix",
    "eoal",
    "eaoa",
}  # drawn, at least in part
LIGHT = {"batch_bald": {"passes": 4, "configurations": 64}}  # by default made for batches of ten, not of hundreds
UNRANKED = DRAWS | {"max_herding", "k_center_balanced"}  # the order is not that of the scores


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("check", CHECKS)
def test_every_strategy_passes_every_check(name: str, check: str) -> None:
    CHECKS[check](catalogue.build(name, LIGHT.get(name)))


@pytest.mark.parametrize("name", ALL)
def test_scores_fall_from_best_to_worst(name: str) -> None:
    found = case().ask(catalogue.build(name, LIGHT.get(name)), 30)
    if name not in UNRANKED:
        assert np.isfinite(found.scores).all()
        assert (np.diff(found.scores) <= 1e-12).all()


@pytest.mark.slow
def test_same_queries_in_a_fresh_process() -> None:
    code = (
        "import torch; torch.set_num_threads(1)\n"
        "from openal_ray.strategies import catalogue\n"
        "from openal_ray.testing.pools import ONE_KNOWN, case\n"
        f"for name in {ALL}: print(*case().ask(catalogue.build(name, {LIGHT}.get(name)), 20).indices)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for name, line in zip(ALL, printed.splitlines(), strict=True):
        assert line.split() == [
            str(index) for index in case().ask(catalogue.build(name, LIGHT.get(name)), 20).indices
        ], name


@pytest.mark.parametrize("name", ALL)
def test_another_seed_moves_only_what_is_drawn(name: str) -> None:
    one, two = (
        case()
        .ask(catalogue.build(name, LIGHT.get(name)), 30, rng=lambda purpose, seed=seed: seeds.rng(seed, 0, purpose))
        .indices
        for seed in (1, 2)
    )
    draws = name in DRAWS or catalogue.build(name).passes > 0
    assert np.array_equal(one, two) == (not draws)


@pytest.mark.parametrize("entry", catalogue.ENTRIES, ids=lambda entry: entry.name)
def test_facts_are_complete(entry: catalogue.Entry) -> None:
    facts = entry.facts()
    assert list(facts)[:6] == ["name", "aliases", "family", "needs", "paper", "parameters"]
    assert {split(need)[1] for need in facts["needs"]} <= set(NAMES)
    assert facts["cost"] and facts["family"] and facts["description"] and facts["guarantee"]
    assert entry.name == "random" or any(year in facts["description"] for year in map(str, range(1940, 2030)))


@pytest.mark.parametrize("name", ["k_center", "badge"])
def test_half_precision_signals_give_queries_of_the_right_size(name: str) -> None:
    half = case().shards(2, half=True)
    found = case().ask(name, 30, half).indices
    assert len(np.unique(found)) == 30 and half.shards[0].settings.read.half


def test_nothing_is_a_candidate_where_the_contract_says_so() -> None:
    """The detector of its last pools calls every image unknown."""
    one = case(ONE_KNOWN)
    zero, others = np.flatnonzero(one.labels == 0)[:1], np.flatnonzero(one.labels != 0)[:150]
    pool = Pool(one.pool.size, zero, one.labels[zero], others)
    shards, strategy = one.shards(), catalogue.build("lfosa")
    one.load(strategy, shards, pool)
    shards.read(ReadOrder("all", "train", pool.unlabelled, strategy.needs))
    assert (shards.gather("all").signals["detector.logits"].argmax(1) == 1).all()


BROKEN = {
    "counts": Strategy(pick=lambda view, budget, rng: view.draw(max(1, budget - 1), rng)),
    "hard_pools": Strategy(needs=("probs",), score=lambda read: -(read["probs"] * np.log(read["probs"])).sum(1)),
    "seeds_decide": Strategy(pick=lambda view, budget, rng: view.draw(budget, np.random.default_rng())),
    "open_sets": Strategy(needs=("probs",), score=lambda read: np.sort(read["probs"])[:, -2]),
    "shards": Strategy(needs=("probs",), score=lambda read: np.arange(len(read["probs"]), dtype=float)),
}


@pytest.mark.parametrize("check", BROKEN)
def test_a_broken_strategy_is_found_out(check: str) -> None:
    with pytest.raises((AssertionError, ValueError, IndexError)), np.errstate(all="ignore"):
        CHECKS[check](BROKEN[check])


def test_a_strategy_of_ones_own_is_checked_by_name(tmp_path) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        "from openal_ray.strategies.strategy import Strategy\n"
        "def mine():\n    return Strategy(needs=('probs',), score=lambda read: -read['probs'].max(1))\n"
    )
    check_strategy(f"{file}:mine")
