"""What every strategy of the catalogue must keep, whatever it does."""

import pickle
import subprocess
import sys
from dataclasses import replace

import cloudpickle
import numpy as np
import pytest
import torch

from openal_ray import config, seeds
from openal_ray.models.signals import CLASSIFIER, NAMES
from openal_ray.pool import Listed, Pool
from openal_ray.shard import Settings
from openal_ray.strategies import catalogue
from openal_ray.workers import LocalShards
from tests.strategies.pools import Case, digits

ALL = [entry.name for entry in catalogue.ENTRIES]
HARD_CASES = {
    "saturated probabilities": dict(scale=1e6),
    "duplicates": dict(copies=2),
    "identical images": dict(constant=True),
    "identical and saturated": dict(constant=True, scale=1e6),
}


@pytest.fixture(scope="module")
def case() -> Case:
    return digits()


@pytest.fixture(scope="module")
def many_blocks() -> Case:
    return digits(copies=3)  # 5391 images: 6 blocks, each image thrice


def assert_valid(indices: np.ndarray, pool: Pool, budget: int) -> None:
    assert indices.dtype == np.int64 and indices.ndim == 1
    assert len(indices) == min(budget, pool.unlabelled.count)
    assert len(np.unique(indices)) == len(indices)
    assert not np.isin(indices, pool.taken).any()
    assert ((indices >= 0) & (indices < pool.size)).all()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("budget", [1, 25, 10_000])
def test_asks_for_exactly_what_there_is(name: str, budget: int, case: Case) -> None:
    pool = Pool(case.pool.size, case.pool.labelled, case.pool.classes, held_out=np.arange(300, 1700))
    assert_valid(case.ask(name, budget, pool=pool).indices, pool, budget)


@pytest.mark.parametrize("name", ALL)
def test_rejected_images_are_never_asked_again(name: str, case: Case) -> None:
    pool = case.pool.annotate(np.arange(500, 600) * 2 + 1, np.full(100, -1))
    assert_valid(case.ask(name, 40, pool=pool).indices, pool, 40)


@pytest.mark.parametrize("name", ALL)
def test_scores_fall_from_best_to_worst(name: str, case: Case) -> None:
    found = case.ask(name, 30)
    if name in ("random", "badge"):  # draws, not rankings
        return
    assert np.isfinite(found.scores).all()
    assert (np.diff(found.scores) <= 1e-12).all()


@pytest.mark.parametrize("name", ALL)
def test_same_query_for_every_number_of_shards(name: str, many_blocks: Case) -> None:
    queries = [many_blocks.ask(name, 40, many_blocks.shards(count)).indices for count in (1, 2, 5)]
    np.testing.assert_array_equal(queries[0], queries[1])
    np.testing.assert_array_equal(queries[0], queries[2])


@pytest.mark.parametrize("name", ALL)
def test_same_query_for_every_batch_size(name: str, case: Case) -> None:
    queries = [case.ask(name, 40, case.shards(2, batch_size)).indices for batch_size in (64, 100, 1024)]
    np.testing.assert_array_equal(queries[0], queries[1])
    np.testing.assert_array_equal(queries[0], queries[2])


@pytest.mark.parametrize("name", ALL)
def test_same_query_in_reverse_order_of_blocks(name: str, many_blocks: Case) -> None:
    class Backwards(Listed):
        def blocks(self, block_size: int) -> np.ndarray:
            return super().blocks(block_size)[::-1]

    shards = many_blocks.shards(2)
    forwards = many_blocks.ask(name, 30, shards).indices
    real_read = shards.read

    def read_backwards(order, *rest):
        members = Backwards(order.members.between(0, many_blocks.pool.size))
        return real_read(replace(order, members=members), *rest)

    shards.read = read_backwards
    np.testing.assert_array_equal(many_blocks.ask(name, 30, shards).indices, forwards)


@pytest.mark.parametrize("name", ALL)
def test_same_query_after_pickling(name: str, case: Case) -> None:
    strategy = catalogue.build(name)
    copied = pickle.loads(cloudpickle.dumps(strategy))
    np.testing.assert_array_equal(case.ask(copied, 20).indices, case.ask(strategy, 20).indices)


@pytest.mark.slow
def test_same_queries_in_a_fresh_process(case: Case) -> None:
    code = (
        "import torch; torch.set_num_threads(1)\n"
        "from tests.strategies.pools import digits\n"
        f"case = digits()\nfor name in {ALL}: print(*case.ask(name, 20).indices)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for name, line in zip(ALL, printed.splitlines(), strict=True):
        assert line.split() == [str(index) for index in case.ask(name, 20).indices], name


@pytest.mark.parametrize("name", ALL)
def test_another_seed_moves_only_what_is_drawn(name: str, case: Case) -> None:
    one = case.ask(name, 30, rng=lambda purpose: seeds.rng(1, 0, purpose)).indices
    two = case.ask(name, 30, rng=lambda purpose: seeds.rng(2, 0, purpose)).indices
    draws = name in ("random", "badge") or catalogue.build(name).passes > 0
    assert np.array_equal(one, two) == (not draws)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("hard", HARD_CASES)
def test_hard_cases_are_ordinary(name: str, hard: str) -> None:
    case = digits(**HARD_CASES[hard])
    found = case.ask(name, 50)
    assert_valid(found.indices, case.pool, 50)
    assert name == "random" or not np.isnan(found.scores).any()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    "labelled", [[], [3], list(range(10)), [i for i in range(200) if i % 10 != 4]], ids=["0", "1", "10", "no class 4"]
)
def test_any_labelled_set_will_do(name: str, labelled: list[int], case: Case) -> None:
    pool = Pool(case.pool.size, labelled, case.labels[labelled])
    assert_valid(case.ask(name, 20, pool=pool).indices, pool, 20)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("subset", [100, 0.1])
def test_a_candidate_subset_is_respected(name: str, subset: float, case: Case) -> None:
    found = case.ask(name, 60, subset=subset).indices
    assert_valid(found, case.pool, 60)
    count = 100 if subset == 100 else int(0.1 * case.pool.unlabelled.count)
    candidates = case.pool.unlabelled.draw(count, seeds.rng(7, 3, "subset"))
    assert np.isin(found, candidates).all()


@pytest.mark.parametrize("name", ALL)
def test_reading_changes_nothing(name: str, case: Case) -> None:
    before = {key: value.clone() for key, value in case.weights.items()}
    pictures = case.images.load(np.arange(len(case.images)))
    shards = case.shards(2)
    networks = [
        {key: value.clone() for key, value in shard.networks[CLASSIFIER].state_dict().items()}
        for shard in shards.shards
    ]
    case.ask(name, 20, shards)
    assert all(torch.equal(before[key], case.weights[key]) for key in before)
    for shard, network in zip(shards.shards, networks, strict=True):
        assert not shard.networks[CLASSIFIER].training
        assert all(torch.equal(network[key], value) for key, value in shard.networks[CLASSIFIER].state_dict().items())
    np.testing.assert_array_equal(case.images.load(np.arange(len(case.images))), pictures)


@pytest.mark.parametrize("entry", catalogue.ENTRIES, ids=ALL)
def test_facts_are_complete(entry: catalogue.Entry) -> None:
    facts = entry.facts()
    assert list(facts)[:6] == ["name", "aliases", "family", "needs", "paper", "parameters"]
    assert set(facts["needs"]) <= set(NAMES)
    assert facts["cost"] and facts["family"] and facts["description"]
    assert entry.name == "random" or any(year in facts["description"] for year in map(str, range(1940, 2030)))


@pytest.mark.parametrize("name", ALL)
def test_same_query_with_signals_on_disk(name: str, case: Case) -> None:
    on_disk = LocalShards({"train": case.images}, Settings(config.Read(keep="disk"), (0.5,), (0.5,)), 2)
    np.testing.assert_array_equal(case.ask(name, 30, case.loaded(on_disk)).indices, case.ask(name, 30).indices)


@pytest.mark.parametrize("name", ["k_center", "badge"])
def test_half_precision_signals_give_valid_queries(name: str, case: Case) -> None:
    half = LocalShards({"train": case.images}, Settings(config.Read(half=True), (0.5,), (0.5,)), 2)
    found = case.ask(name, 30, case.loaded(half))
    assert_valid(found.indices, case.pool, 30)
    assert half.shards[0].settings.read.half
