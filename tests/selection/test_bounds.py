"""Tests of certified bounds: never below the truth, close to it, and the same bits for any grouping of rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openal_ray.selection import bounds
from openal_ray.selection.bounds import close_pairs, likely_nearest, upper_bounds
from openal_ray.selection.digits import Digits, encode
from tests.selection import naive

KINDS = ["gauss", "clusters", "heavy", "scales", "grid"]


def factors(kind: str, n: int, columns: tuple[int, ...], rng: np.random.Generator) -> list[np.ndarray]:
    """float32 factors [n, columns] of rows of different nature."""
    draw = {
        "gauss": lambda d: rng.normal(size=(n, d)),
        "clusters": lambda d: 100 * rng.normal(size=(3, d))[np.arange(n) % 3] + rng.normal(size=(n, d)),
        "heavy": lambda d: rng.standard_cauchy((n, d)),
        "scales": lambda d: rng.normal(size=(n, d)) * 10.0 ** rng.integers(-18, 18, (n, 1)),
        "grid": lambda d: rng.integers(-1, 2, (n, d)),
    }[kind]
    return [draw(d).astype(np.float32) for d in columns]


def squared(rows: list[np.ndarray], centres: list[np.ndarray]) -> np.ndarray:
    """float64 [n, m] squared distances of the materialised rows."""
    if len(rows) == 2:
        rows, centres = [naive.outer(*rows)], [naive.outer(*centres)]
    return np.square(rows[0].astype(float)[:, None] - centres[0].astype(float)[None]).sum(axis=2)


def coded(rows: list[np.ndarray], two: bool = False) -> list[Digits]:
    return [encode(factor, two=two) for factor in rows]


@given(
    kind=st.sampled_from(KINDS),
    columns=st.sampled_from([(1,), (9,), (40,), (2, 3), (5, 30)]),
    two=st.booleans(),
    seed=st.integers(0, 2**31),
)
@settings(deadline=None, max_examples=120, derandomize=True)
def test_bounds_hold_and_no_close_pair_is_missed(kind: str, columns: tuple[int, ...], two: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, centres = factors(kind, 50, columns, rng), factors(kind, 12, columns, rng)
    truth = squared(rows, centres)
    upper = upper_bounds(coded(rows), coded(centres))
    assert (upper >= truth.min(axis=1)).all()
    limit = np.quantile(truth, 0.3, axis=1, method="lower")
    pairs = set(zip(*close_pairs(coded(rows, two), coded(centres, two), limit), strict=True))
    assert pairs >= set(zip(*np.nonzero(truth <= limit[:, None]), strict=True))


def test_bounds_are_close() -> None:
    rng = np.random.default_rng(0)
    rows, centres = factors("gauss", 500, (64,), rng), factors("gauss", 300, (64,), rng)
    truth = squared(rows, centres)
    assert (upper_bounds(coded(rows), coded(centres)) <= 1.06 * truth.min(axis=1)).all()
    assert len(close_pairs(coded(rows), coded(centres), truth.min(axis=1))[0]) < 3 * 500
    assert len(close_pairs(coded(rows, True), coded(centres, True), truth.min(axis=1))[0]) < 1.1 * 500
    assert len(close_pairs(coded(rows), coded(centres), truth.min(axis=1) / 2)[0]) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_likely_nearest_centre_is_about_the_nearest(kind: str) -> None:
    rng = np.random.default_rng(2)
    rows, centres = factors(kind, 700, (20,), rng), factors(kind, 600, (20,), rng)
    upper, positions, likely = likely_nearest(coded(rows), coded(centres))
    assert upper.tolist() == upper_bounds(coded(rows), coded(centres)).tolist()
    truth = squared(rows, centres)
    chosen = truth[np.arange(700), positions]
    assert (chosen <= upper).all() and (likely <= upper).all()
    if kind == "gauss":
        assert (positions == truth.argmin(axis=1)).mean() > 0.9
        assert np.allclose(likely, chosen, rtol=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_other_rows_and_tiles_change_no_bit(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    rows, centres = factors(kind, 700, (6, 20), rng), factors(kind, 90, (6, 20), rng)
    together = upper_bounds(coded(rows), coded(centres))
    monkeypatch.setattr(bounds, "_ROWS", 77)
    monkeypatch.setattr(bounds, "_CENTRES", 31)
    parts = [
        upper_bounds(coded([f[part] for f in rows]), coded(centres)) for part in np.split(np.arange(700), [5, 320])
    ]
    assert np.concatenate(parts).tolist() == together.tolist()


def test_rows_of_zeros_are_at_the_distance_of_the_nearest_centre() -> None:
    zero, centre = np.zeros((1, 3), np.float32), np.array([[0, 3, 4]], np.float32)
    assert upper_bounds(coded([zero]), coded([centre]))[0] == pytest.approx(25, rel=1e-2)
    assert upper_bounds(coded([zero]), coded([zero]))[0] < 1e-30


def test_digits_that_leave_out_more_than_they_keep_exclude_nothing() -> None:
    """One large number a row, 50,000 that round to zero: exact distances must decide."""
    rng = np.random.default_rng(0)
    rows = [0.4 * rng.choice([-1, 1], (6, 50_000)).astype(np.float32)]
    rows[0][:, 0] = 127
    truth = squared(rows, rows)
    assert encode(rows[0]).remainders.min() > 0.5
    pairs = close_pairs(coded(rows), coded(rows), np.zeros(6))
    assert set(zip(*pairs, strict=True)) >= {(i, i) for i in range(6)}
    assert (upper_bounds(coded(rows), coded(rows[:1])) >= truth.min(axis=1)).all()
