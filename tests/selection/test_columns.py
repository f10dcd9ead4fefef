"""Tests of columns.py: against numpy, shards, constant columns, refusals."""

import numpy as np
import pytest

from openal_ray.selection.columns import ColumnsHalf, fit_extents, fit_moments
from openal_ray.selection.halves import BLOCK, LocalHalves


def halves(columns: np.ndarray, n_shards: int = 1, indices: np.ndarray | None = None) -> LocalHalves:
    indices = np.arange(len(columns)) if indices is None else indices
    owners = indices // BLOCK % n_shards
    return LocalHalves([ColumnsHalf(columns[owners == s], indices[owners == s]) for s in range(n_shards)])


@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e12])
def test_moments_are_those_of_numpy(scale: float) -> None:
    columns = np.random.default_rng(0).normal(5, [1.0, 1e-3, 1e3], (7000, 3)) * scale
    indices = np.flatnonzero(np.random.default_rng(1).random(20_000) < 0.5)[:7000]
    found = fit_moments(halves(columns, 3, indices))
    assert np.allclose(found.mean, columns.mean(axis=0), rtol=1e-13)
    assert np.allclose(found.std, columns.std(axis=0), rtol=1e-9)
    assert np.allclose(found.standardised(columns).std(axis=0), 1.0)


def test_shards_change_no_bit() -> None:
    columns = np.random.default_rng(2).normal(size=(9000, 2)).astype(np.float32)
    found = [fit_moments(halves(columns, n)) for n in (1, 2, 5, 11)]
    assert len({(*one.mean, *one.std) for one in found}) == 1


def test_extents() -> None:
    columns = np.array([[1.0, 7.0], [3.0, 7.0], [2.0, 7.0]])
    found = fit_extents(halves(columns, 2))
    assert found.scaled(columns).tolist() == [[0, 0], [1, 0], [0.5, 0]]
    moments = fit_moments(halves(columns))
    assert moments.standardised(columns)[:, 1].tolist() == [0, 0, 0]
    assert moments.std[0] == pytest.approx((2 / 3) ** 0.5)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="columns must be finite; at index 8 they are not"):
        ColumnsHalf(np.array([[1.0], [np.nan]]), np.array([4, 8]))
    with pytest.raises(ValueError, match=r"columns must have shape \[1, K\], got \[2, 1\]"):
        ColumnsHalf(np.zeros((2, 1)), np.array([4]))
    with pytest.raises(ValueError, match="at least one row"):
        fit_moments(halves(np.empty((0, 2))))
