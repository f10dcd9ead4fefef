"""Batches of an epoch and the parts of a team: every image once a pass, and weights that give the plain mean."""

import numpy as np
import pytest
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


@settings(max_examples=200)
@given(counts, sizes, st.integers(1, 4), st.integers(1, 3))
def test_a_teams_parts_give_the_plain_mean_over_all_images_of_a_step(
    count: int, batch_size: int, size: int, accumulate: int
) -> None:
    """DDP takes the mean over processes of what each has added up; the values stand for gradients of single images."""
    values = np.random.default_rng(count).normal(size=count)
    order = batches.of_epoch(count, config.Train(batch_size=batch_size), 0, 0)
    team = [list(batches.parts(order, accumulate, rank, size)) for rank in range(size)]
    assert all([part.last for part in mine] == [part.last for part in team[0]] for mine in team)
    ends = [number for number, part in enumerate(team[0], 1) if part.last]
    assert ends[-1] == len(order)
    for start, end in zip([0, *ends], ends, strict=False):
        added = [sum(part.weight * first(values, part) for part in mine[start:end]) for mine in team]
        assert np.mean(added) == pytest.approx(values[np.concatenate(order[start:end])].mean())


def first(values: np.ndarray, part: batches.Part) -> float:
    """The mean over a part's positions; the repeated ones must not shift it."""
    if part.count:
        assert np.isclose(values[part.positions].mean(), values[part.positions[: part.count]].mean())
    return float(values[part.positions].mean())


@given(counts, sizes, st.integers(1, 4))
def test_every_image_counts_once_and_no_process_is_idle(count: int, batch_size: int, size: int) -> None:
    order = batches.of_epoch(count, config.Train(batch_size=batch_size), 0, 0)
    team = [list(batches.parts(order, 1, rank, size)) for rank in range(size)]
    counted = [position for mine in team for part in mine for position in part.positions[: part.count]]
    assert sorted(counted) == list(range(count))
    assert all(len(part.positions) >= 2 for mine in team for part in mine)


def test_gradients_of_so_many_batches_make_a_step_and_of_the_rest_the_last() -> None:
    order = batches.of_epoch(50, config.Train(batch_size=10), 0, 0)
    assert [part.last for part in batches.parts(order, 2, 0, 1)] == [False, True, False, True, True]
    assert [part.weight for part in batches.parts(order, 2, 0, 1)] == [0.5, 0.5, 0.5, 0.5, 1.0]
