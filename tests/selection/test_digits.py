"""Tests of digits: exact integers for any width and any kernel, and remainders that are certified."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openal_ray.selection import digits
from openal_ray.selection.digits import encode, inner_products


def decoded(coded: digits.Digits, rows: np.ndarray) -> np.ndarray:
    """float64 rows as the digits hold them, in the units of the rows."""
    total = coded.first.numpy().astype(float)
    if coded.second is not None:
        total += coded.second.numpy() / 256
    return total * np.abs(rows.astype(float)).max(axis=1, keepdims=True) / 127


@pytest.fixture(params=[True, False], ids=["int8", "float32"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both kernels, whichever this processor prefers."""
    monkeypatch.setattr(digits, "_int8_is_good", lambda: request.param)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("columns", [1, 2, 3, 8, 63, 512, 1024, 1025, 2100])
@pytest.mark.parametrize("shape", [(1, 1), (5, 17), (300, 40)])
def test_products_of_digits_are_exact(shape: tuple[int, int], columns: int) -> None:
    rng = np.random.default_rng(columns)
    rows, others = (rng.integers(-127, 128, (n, columns)) for n in shape)
    rows[:, 0] = others[:, 0] = 127  # the largest value of every row, so that its digits are the row itself
    products = inner_products(encode(rows.astype(np.float32)), encode(others.astype(np.float32)))
    assert products.dtype == torch.float32
    assert products.numpy().tolist() == (rows @ others.T).astype(np.float32).tolist()


def test_both_kernels_give_the_same_bits_where_pieces_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = encode(np.full((4, 5000), 1.0, np.float32), two=True)  # sums above 2**24: float32 rounds them
    results = []
    for faster in (True, False):
        monkeypatch.setattr(digits, "_int8_is_good", lambda faster=faster: faster)
        results.append(inner_products(rows, rows))
    assert torch.equal(*results)


@pytest.mark.parametrize("two", [False, True])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@given(seed=st.integers(0, 2**31), exponent=st.integers(-30, 30), columns=st.integers(1, 40))
@settings(deadline=None, max_examples=25, derandomize=True)
def test_remainders_bound_what_the_digits_leave_out(
    two: bool, dtype: type, seed: int, exponent: int, columns: int
) -> None:
    rng = np.random.default_rng(seed)
    rows = (rng.standard_cauchy((20, columns)) * 10.0 ** (exponent if dtype != np.float16 else exponent / 10)).clip(
        -6e4 if dtype == np.float16 else -1e37, 6e4 if dtype == np.float16 else 1e37
    )
    rows = rows.astype(dtype)
    rows[3] = 0
    coded = encode(rows, two=two)
    norms = np.linalg.norm(rows.astype(float), axis=1)
    left_out = np.linalg.norm(rows.astype(float) - decoded(coded, rows), axis=1)
    assert (left_out <= coded.remainders * norms).all()
    assert coded.norms == pytest.approx(norms, rel=1e-5)
    assert coded.norms[3] == 0.0 and coded.lengths[3] == 1.0
    assert coded.remainders.max() < (2e-4 if two else 5e-2)


def test_a_row_is_encoded_alike_wherever_it_stands() -> None:
    rows = np.random.default_rng(0).normal(size=(600, 37)).astype(np.float32)
    together = encode(rows, two=True)
    for position in (0, 255, 256, 599):
        alone = encode(rows[position : position + 1], two=True)
        for name in ("first", "second", "norms", "lengths", "remainders", "seconds"):
            assert np.array_equal(getattr(alone, name)[0], getattr(together, name)[position])


def test_rows_are_seen_from_the_origin() -> None:
    rows, origin = np.array([[1.0, 5.0], [1.0, 1.0]]), np.array([1.0, 1.0])
    assert encode(rows, origin).norms.tolist() == pytest.approx([4.0, 0.0])
    assert encode(rows, origin).first.tolist() == [[0, 127], [0, 0]]


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 1e80])
def test_numbers_without_a_distance_are_refused(wrong: float) -> None:
    rows = np.zeros((300, 2))
    rows[299, 1] = wrong
    with pytest.raises(ValueError, match=r"must be finite and below 1e\+70; row 299 is not"):
        encode(rows)


def test_differences_that_overflow_are_refused() -> None:
    with pytest.raises(ValueError, match="rows and their differences must be finite"):
        encode(np.full((1, 1), 3e38, np.float32), origin=np.full(1, -3e38, np.float32))


def test_wrong_int8_products_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = digits._by_int8
    monkeypatch.setattr(digits, "_by_int8", lambda rows, others, out=None: right(rows, others).clip(-(2**22), 2**22))
    assert not digits._int8_is_good.__wrapped__()
