"""Tests of pool.py: the pool stays a partition, members list and draw exactly theirs, the oracle answers."""

import pickle
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from openal_ray.pool import AllBut, AnswersPending, DatasetOracle, Listed, Members, Pool

quickly = settings(max_examples=60, deadline=None)
STATES = st.lists(st.sampled_from("ulrh"), max_size=40)  # unlabelled, labelled, rejected, held out
KINDS: list[Callable[[int, list[int]], Members]] = [
    lambda size, taken: AllBut(size, np.array(taken, np.int64)),
    lambda size, taken: Listed([index for index in range(size) if index not in taken]),
]


def places(states: list[str], wanted: str) -> list[int]:
    return [index for index, state in enumerate(states) if state == wanted]


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@quickly
@given(STATES, st.randoms(use_true_random=False))
def test_a_pool_is_a_partition(states: list[str], shuffler: object) -> None:
    labelled, rejected, held_out = (places(states, state) for state in "lrh")
    shuffler.shuffle(labelled)  # type: ignore[attr-defined]
    pool = Pool(len(states), np.array(labelled), np.arange(len(labelled)), np.array(rejected), np.array(held_out))
    assert pool.labelled.tolist() == labelled
    assert pool.unlabelled.between(0, len(states)).tolist() == places(states, "u")
    assert pool.unlabelled.count == len(places(states, "u"))
    assert pool.taken.tolist() == sorted(labelled + rejected + held_out)


@quickly
@given(STATES, st.data())
def test_annotating_moves_each_index_to_its_part(states: list[str], data: st.DataObject) -> None:
    pool = Pool(len(states), held_out=np.array(places(states, "h")))
    unlabelled = data.draw(st.permutations(places(states, "u")))
    asked, rest = unlabelled[: len(unlabelled) // 2], unlabelled[len(unlabelled) // 2 :]
    answers = data.draw(st.lists(st.integers(-1, 3), min_size=len(asked), max_size=len(asked)))
    after = pool.annotate(asked, answers)
    known = [(index, answer) for index, answer in zip(asked, answers, strict=True) if answer >= 0]
    assert list(zip(after.labelled.tolist(), after.classes.tolist(), strict=True)) == known
    assert after.rejected.tolist() == [index for index, answer in zip(asked, answers, strict=True) if answer == -1]
    assert after.held_out.tolist() == places(states, "h")
    assert after.unlabelled.between(0, 99).tolist() == sorted(rest + places(states, "l") + places(states, "r"))
    assert pool.labelled.size == pool.rejected.size == 0  # the pool before is what it was


def test_answers_keep_their_order_over_rounds() -> None:
    pool = Pool(9).annotate([7, 4, 2], [1, -1, 0]).hold_out([8]).annotate([5, 0, 3], [0, -1, 2]).hold_out([1])
    assert pool.labelled.tolist() == [7, 2, 5, 3]
    assert pool.classes.tolist() == [1, 0, 0, 2]
    assert pool.rejected.tolist() == [4, 0]
    assert pool.held_out.tolist() == [8, 1]
    assert pool.unlabelled.between(0, 9).tolist() == [6]


@pytest.mark.parametrize("name", ["labelled", "classes", "rejected", "held_out", "taken"])
def test_a_pool_cannot_be_changed(name: str) -> None:
    mine = np.array([1])
    pool = Pool(4, mine, mine.copy(), np.array([2]), np.array([3]))
    with pytest.raises(ValueError, match="read-only"):
        getattr(pool, name)[0] = 0
    mine[0] = 0
    assert pool.labelled.tolist() == [1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Pool(5, [1, 2], [0]), "2 labelled indices but 1 classes"),
        (lambda: Pool(5, [1, 1], [0, 0]), "an index is in the pool twice"),
        (lambda: Pool(5, [1], [0]).annotate([1], [0]), "an index is in the pool twice"),
        (lambda: Pool(5, [1], [0]).hold_out([1]), "an index is in the pool twice"),
        (lambda: Pool(5, [5], [0]), r"indices must lie in 0 … 4, got 5 … 5"),
        (lambda: Pool(5, held_out=[-1, 2]), r"indices must lie in 0 … 4, got -1 … 2"),
        (lambda: Pool(5).annotate([1, 2], [0]), "2 indices asked but 1 answers"),
        (lambda: Pool(5).annotate([1], [-2]), "classes must be 0 or more, got -2"),
    ],
)
def test_what_is_no_partition_is_refused(make: Callable[[], Pool], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("indices", [np.array([True, False]), np.array([0.5, 1.0]), ["1"]])
def test_a_mask_or_share_is_no_index(indices: np.ndarray) -> None:
    with pytest.raises(TypeError, match="indices and classes must be integers, got (bool|float64|<U1)"):
        Pool(5).annotate(indices, [0] * len(indices))


@pytest.mark.parametrize("make", KINDS)
@quickly
@given(st.integers(0, 30), st.sets(st.integers(0, 29)), st.integers(-5, 40), st.integers(-5, 40))
def test_between_lists_exactly_the_members_of_an_interval(
    make: Callable[[int, list[int]], Members], size: int, removed: set[int], start: int, stop: int
) -> None:
    taken = sorted(index for index in removed if index < size)
    members = make(size, taken)
    expected = [index for index in range(size) if index not in taken]
    assert members.count == len(expected)
    found = members.between(start, stop)
    assert found.dtype == np.int64
    assert found.tolist() == [index for index in expected if start <= index < stop]


@pytest.mark.parametrize("make", KINDS)
@quickly
@given(st.integers(0, 30), st.sets(st.integers(0, 29)), st.integers(1, 12))
def test_blocks_hold_every_member_once(
    make: Callable[[int, list[int]], Members], size: int, removed: set[int], block_size: int
) -> None:
    members = make(size, sorted(index for index in removed if index < size))
    blocks = members.blocks(block_size).tolist()
    assert blocks == sorted(set(blocks))
    listed = [i for block in blocks for i in members.between(block * block_size, (block + 1) * block_size).tolist()]
    assert listed == members.between(0, size).tolist()


def test_listed_members_name_no_block_without_one() -> None:
    assert Listed([5, 21, 4, 5]).blocks(10).tolist() == [0, 2]


@pytest.mark.parametrize("make", KINDS)
@quickly
@given(st.integers(0, 30), st.sets(st.integers(0, 29)), st.data())
def test_a_draw_has_as_many_distinct_members_as_asked(
    make: Callable[[int, list[int]], Members], size: int, removed: set[int], data: st.DataObject
) -> None:
    members = make(size, sorted(index for index in removed if index < size))
    count = data.draw(st.integers(0, members.count))
    drawn = members.draw(count, generator()).tolist()
    assert len(drawn) == len(set(drawn)) == count
    assert set(drawn) <= set(members.between(0, size).tolist())
    with pytest.raises(ValueError, match=f"{members.count + 1} images asked of {members.count}"):
        members.draw(members.count + 1, generator())


@pytest.mark.parametrize("make", KINDS)
def test_every_ordered_draw_is_equally_likely(make: Callable[[int, list[int]], Members]) -> None:
    members, rng = make(9, [0, 3, 4, 8]), generator()  # leaves 1, 2, 5, 6, 7
    drawn = Counter(tuple(members.draw(2, rng).tolist()) for _ in range(6000))
    pairs = {(a, b) for a in (1, 2, 5, 6, 7) for b in (1, 2, 5, 6, 7) if a != b}
    assert set(drawn) == pairs
    assert stats.chisquare(list(drawn.values())).pvalue > 1e-3


@quickly
@given(st.sets(st.integers(0, 29)), st.integers(0, 5))
def test_both_kinds_of_members_draw_alike(taken: set[int], seed: int) -> None:
    drawn = [make(31, sorted(taken)).draw(1, generator(seed)).tolist() for make in KINDS]
    assert drawn[0] == drawn[1]


def test_the_oracle_answers_with_the_data_sets_labels() -> None:
    oracle = DatasetOracle(np.array([2, 0, 1]))
    assert oracle.answer(np.array([2, 0])).tolist() == [1, 2]


def test_the_oracle_says_which_answers_are_missing() -> None:
    oracle = DatasetOracle(np.array([2, -2, 1, -2, 0]))
    with pytest.raises(AnswersPending, match=r"2 image\(s\) of the query have no label yet") as caught:
        oracle.answer(np.array([3, 0, 1]))
    assert caught.value.indices.tolist() == [3, 1]
    travelled = pickle.loads(pickle.dumps(caught.value))
    assert str(travelled) == str(caught.value)
    assert travelled.indices.tolist() == [3, 1]
    assert oracle.answerable(Listed([0, 1, 2, 3])).tolist() == [0, 2]


def quotas(sizes: list[int], count: int) -> list[int]:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    drawn = DatasetOracle(labels).stratified(Listed(np.arange(len(labels))), count, len(sizes), generator())
    return np.bincount(labels[drawn], minlength=len(sizes)).tolist()


@pytest.mark.parametrize(
    ("sizes", "count", "expected"),
    [
        ([50, 30, 20], 10, [5, 3, 2]),  # exact shares
        ([30, 30, 40], 11, [3, 3, 5]),  # 3.3, 3.3, 4.4: the largest remainder gets the one left over
        ([5, 5], 5, [3, 2]),  # a tie goes to the lower class
        ([1, 99], 10, [1, 9]),  # 0.1 of an image still is one
        ([1, 1, 1, 97], 5, [1, 1, 1, 2]),  # the common class pays for the rare ones
        ([3, 0, 3], 4, [2, 0, 2]),  # nothing can be had of an empty class
        ([2, 5], 7, [2, 5]),  # everything
    ],
)
def test_strata_in_proportion(sizes: list[int], count: int, expected: list[int]) -> None:
    assert quotas(sizes, count) == expected


@pytest.mark.parametrize(
    ("sizes", "count", "message"),
    [
        ([4, 4], 9, "9 images asked of 8"),
        ([3, 3, 0, 3], 2, "2 images cannot hold one of each of 3 classes"),
    ],
)
def test_strata_that_cannot_be_are_refused(sizes: list[int], count: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quotas(sizes, count)


@quickly
@given(st.lists(st.integers(0, 20), min_size=1, max_size=6).filter(any), st.data())
def test_strata_are_exact_and_near_their_share(sizes: list[int], data: st.DataObject) -> None:
    present, total = sum(size > 0 for size in sizes), sum(sizes)
    count = data.draw(st.integers(present, total))
    found, shares = quotas(sizes, count), [size * count / total for size in sizes]
    assert sum(found) == count
    assert all((size > 0) <= quota <= size for quota, size in zip(found, sizes, strict=True))
    if all(share >= 1 for share in shares if share):
        assert all(abs(quota - share) < 1 for quota, share in zip(found, shares, strict=True))


def test_strata_leave_out_unknown_and_taken_images_and_come_in_random_order() -> None:
    labels = np.array([0, 1, -1, 0, 1, 0, 1, -2, 0, 1])
    oracle, rng = DatasetOracle(labels), generator()
    members = AllBut(10, np.array([0, 1]))
    drawn = Counter(tuple(oracle.stratified(members, 2, 2, rng).tolist()) for _ in range(4000))
    one_of_each = {pair for a in (3, 5, 8) for b in (4, 6, 9) for pair in ((a, b), (b, a))}
    assert set(drawn) == one_of_each
    assert stats.chisquare(list(drawn.values())).pvalue > 1e-3
