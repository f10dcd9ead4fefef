"""Tests of draws from proposals: what is accepted, in which order, with which D²."""

import numpy as np
import pytest

from openal_ray.selection.outer_rows import OuterRows
from openal_ray.selection.thinning import Proposals, thinned


def on_a_line(*places: float) -> OuterRows:
    """Rows place ⊗ 1, so that D² is the square of a difference."""
    return OuterRows(np.arange(len(places)), np.array(places)[:, None], np.ones((len(places), 1)))


def events(rows: OuterRows, thresholds: list[float], times: list[float] | None = None) -> Proposals:
    return Proposals(rows, np.arange(len(rows)) / 10 if times is None else np.array(times), np.array(thresholds))


def test_an_event_is_accepted_if_d2_to_all_picks_is_above_its_threshold() -> None:
    picks, rows = on_a_line(0.0), on_a_line(3.0, 3.5, 1.0, -2.0)
    drawn, squared = thinned(events(rows, [8.9, 0.3, 1.1, 3.9]), picks, 10)
    assert drawn.left[:, 0].tolist() == [3.0, -2.0]  # 3.5 is 0.5 from the draw before it; 1.0 is 1 from the pick
    assert squared == pytest.approx([9.0, 4.0])


def test_no_more_than_asked_and_no_row_twice() -> None:
    picks, rows = on_a_line(0.0), on_a_line(3.0, 3.0, 5.0, 7.0)
    assert thinned(events(rows, [0.0] * 4), picks, 2)[0].left[:, 0].tolist() == [3.0, 5.0]
    assert thinned(events(rows, [0.0] * 4), picks, 9)[0].left[:, 0].tolist() == [3.0, 5.0, 7.0]
    assert len(thinned(events(on_a_line(), []), picks, 3)[0]) == 0


def test_events_of_many_chunks_are_compared_with_all_draws_before() -> None:
    rng = np.random.default_rng(0)
    rows = OuterRows(np.arange(1500), rng.normal(size=(1500, 2)), rng.normal(size=(1500, 2)))
    thresholds = rng.random(1500) * 0.5
    drawn, squared = thinned(events(rows, thresholds.tolist()), rows[:1], 1500)
    products = np.einsum("nc,nd->ncd", rows.left, rows.right).reshape(1500, -1)
    kept, expected = [0], []
    for event in range(1500):
        nearest = np.square(products[kept] - products[event]).sum(axis=1).min()
        if thresholds[event] < nearest and event not in kept:
            kept.append(event)
            expected.append(nearest)
    assert 100 < len(drawn) < 1400
    assert drawn.indices.tolist() == kept[1:] and squared == pytest.approx(expected)


def test_events_are_joined_in_the_order_of_time() -> None:
    one, other = events(on_a_line(1.0, 2.0), [0.1, 0.2], [0.3, 0.9]), events(on_a_line(3.0), [0.3], [0.5])
    joined = Proposals.joined([one, other])
    assert joined.times.tolist() == [0.3, 0.5, 0.9] and joined.thresholds.tolist() == [0.1, 0.3, 0.2]
    assert joined.rows.left[:, 0].tolist() == [1.0, 3.0, 2.0]
