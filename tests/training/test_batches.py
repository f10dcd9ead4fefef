"""Batches of an epoch and the parts of each: every image once a pass, and weights that give the plain mean."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from openal_ray import config
from openal_ray.training import batches

counts, sizes, seeds = st.integers(1, 40), st.integers(1, 12), st.integers(0, 5)


@given(counts, sizes, seeds, st.integers(0, 3))
def test_an_epoch_is_one_pass_in_nearly_equal_batches(count: int, size: int, seed: int, epoch: int) -> None:
    plan = config.Train(batch_size=size)
    order = batches.of_epoch(count, plan, seed, epoch)
    assert sorted(np.concatenate(order).tolist()) == list(range(count))
    lengths = [len(batch) for batch in order]
    assert max(lengths) <= size and max(lengths) - min(lengths) <= 1
    assert len(order) == batches.per_epoch(count, plan) == int(np.ceil(count / size))


@given(counts, sizes, seeds, st.integers(1, 9))
def test_with_steps_per_epoch_all_images_come_before_one_is_repeated(
    count: int, size: int, seed: int, steps: int
) -> None:
    plan = config.Train(batch_size=size, steps_per_epoch=steps)
    order = [batch for epoch in range(5) for batch in batches.of_epoch(count, plan, seed, epoch)]
    assert len(order) == 5 * steps and batches.per_epoch(count, plan) == steps
    seen = np.concatenate(order).tolist()
    for start in range(0, len(seen), count):
        a_pass = seen[start : start + count]
        assert len(set(a_pass)) == len(a_pass)


def test_the_order_is_the_seeds_and_another_in_every_epoch() -> None:
    plan = config.Train(batch_size=10)

    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(batches.of_epoch(40, plan, seed, epoch)).tolist()

    assert order(1, 0) == order(1, 0)
    assert len({tuple(order(seed, epoch)) for seed in (1, 2) for epoch in (0, 1)}) == 4


micro_batches = st.integers(1, 4)


@settings(max_examples=200)
@given(counts, sizes, micro_batches, st.integers(1, 3))
def test_all_parts_of_a_step_give_the_plain_mean_over_its_images(
    count: int, batch_size: int, parts: int, accumulate: int
) -> None:
    """The values stand for gradients of single images; every micro-batch adds up its own."""
    values = np.random.default_rng(count).normal(size=count)
    order = batches.of_epoch(count, config.Train(batch_size=batch_size), 0, 0)
    steps = [order[begin : begin + accumulate] for begin in range(0, len(order), accumulate)]
    added = np.zeros((parts, len(steps)))
    for number in range(parts):
        step = 0
        for part in batches.parts(order, accumulate, parts, [number]):
            assert part.number == number
            added[number, step] += part.weight * first(values, part)
            step += part.last
        assert step == len(steps)
    expected = [values[np.concatenate(step)].mean() for step in steps]
    np.testing.assert_allclose(added.sum(0), expected)


def first(values: np.ndarray, part: batches.Part) -> float:
    """The mean over a part's positions; the repeated ones must not shift it."""
    if part.count:
        assert np.isclose(values[part.positions].mean(), values[part.positions[: part.count]].mean())
    return float(values[part.positions].mean())


@given(counts, sizes, micro_batches)
def test_every_image_counts_once_and_no_part_is_empty(count: int, batch_size: int, parts: int) -> None:
    order = batches.of_epoch(count, config.Train(batch_size=batch_size), 0, 0)
    found = list(batches.parts(order, 1, parts, range(parts)))
    counted = [position for part in found for position in part.positions[: part.count]]
    assert sorted(counted) == list(range(count))
    assert all(len(part.positions) >= 2 for part in found)


def test_gradients_of_so_many_batches_make_a_step_and_of_the_rest_the_last() -> None:
    order = batches.of_epoch(50, config.Train(batch_size=10), 0, 0)
    found = list(batches.parts(order, 2, 1, [0]))
    assert [part.first for part in found] == [True, False, True, False, True]
    assert [part.last for part in found] == [False, True, False, True, True]
    assert [part.weight for part in found] == [0.5, 0.5, 0.5, 0.5, 1.0]


def test_a_process_works_off_one_micro_batch_after_the_other_within_a_step() -> None:
    order = batches.of_epoch(50, config.Train(batch_size=10), 0, 0)
    found = [(part.number, part.first, part.last) for part in batches.parts(order, 2, 4, [1, 2])]
    step = [(1, True, False), (1, False, True), (2, True, False), (2, False, True)]
    assert found == [*step, *step, (1, True, True), (2, True, True)]


@given(counts, sizes, st.integers(1, 3), st.data())
def test_a_micro_batch_has_the_same_parts_whoever_works_it_off(
    count: int, batch_size: int, accumulate: int, data: st.DataObject
) -> None:
    order = batches.of_epoch(count, config.Train(batch_size=batch_size), 0, 0)
    parts = data.draw(micro_batches)
    cut = data.draw(st.integers(1, parts))
    together = list(batches.parts(order, accumulate, parts, range(parts)))
    apart = [part for mine in (range(cut), range(cut, parts)) for part in batches.parts(order, accumulate, parts, mine)]

    def plain(found: list[batches.Part]) -> list[tuple]:
        return sorted(
            [(part.number, place, part.positions.tolist(), part.count, part.weight) for place, part in numbered(found)]
        )

    assert plain(together) == plain(apart)


def numbered(found: list[batches.Part]) -> list[tuple[int, batches.Part]]:
    """Each part with its place among those of its micro-batch."""
    seen: Counter[int] = Counter()
    places = []
    for part in found:
        places.append((seen[part.number], part))
        seen[part.number] += 1
    return places
