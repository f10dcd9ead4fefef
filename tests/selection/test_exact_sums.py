"""Tests of sums as integers: right, and the same in any order."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openal_ray.selection.exact_sums import Scale


@given(seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=60, derandomize=True)
def test_the_same_in_any_order_and_right(seed: int) -> None:
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=200) * 10.0 ** rng.integers(-8, 9, 200)
    scale = Scale.of(float(np.abs(numbers).max()), 200)
    integers = scale.integers(numbers)
    total = scale.numbers(integers.sum(axis=1))
    parts = [scale.integers(part).sum(axis=1) for part in np.split(rng.permutation(numbers), [3, 90])]
    assert scale.numbers(np.sum(parts, axis=0)) == total
    exact = sum(map(Fraction, numbers.tolist()))
    assert float(abs(Fraction(float(total)) - exact)) <= 2.0**-51 * abs(float(exact)) + 2.0**-90 * np.abs(numbers).max()


def test_the_largest_numbers_fit() -> None:
    for count in (1, 1000, 2**31):
        scale = Scale.of(3.0, count)
        high, low = scale.integers(np.array([3.0, -3.0, 1e-30]))[:, :2].tolist()
        assert abs(high[0]) * count < 2**63 and abs(low[0]) * count < 2**63
        assert scale.numbers(np.array([high[0], low[0]])) == 3.0


@pytest.mark.parametrize("largest", [0.0, 5e-324, 1e-310])
def test_the_smallest_numbers_do_not_fail(largest: float) -> None:
    scale = Scale.of(largest, 5)
    assert scale.numbers(scale.integers(np.array(largest))) == pytest.approx(largest, abs=1e-290)
