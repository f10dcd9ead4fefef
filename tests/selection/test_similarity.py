"""Tests of similarity.py: against a plain sort, ties, neighbours of a row, extreme features."""

import numpy as np
import pytest

from openal_ray.selection.similarity import cosines, directions, most_similar


def naive(rows: np.ndarray, others: np.ndarray, k: int) -> tuple[list[list[int]], list[list[float]]]:
    positions, values = [], []
    for row in rows:
        exact = [float((row * other).sum()) for other in others]
        best = sorted(range(len(others)), key=lambda j: (-exact[j], j))[:k]
        positions.append(best)
        values.append([exact[j] for j in best])
    return positions, values


@pytest.mark.parametrize("k", [1, 3, 40])
def test_most_similar_rows(k: int) -> None:
    rng = np.random.default_rng(0)
    rows, others = directions(rng.normal(size=(60, 17))), directions(rng.normal(size=(40, 17)).astype(np.float32))
    others[7:30:3] = others[3]  # ties go to the lower position
    positions, values = most_similar(rows, others, k)
    expected = naive(rows, others, k)
    assert positions.tolist() == expected[0]
    assert values.tolist() == expected[1]


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    rng = np.random.default_rng(1)
    rows, others = directions(rng.normal(size=(333, 129))), directions(rng.normal(size=(50, 129)))
    whole = most_similar(rows, others, 5)
    for part in (slice(0, 1), slice(100, 107), slice(331, 333)):
        alone = most_similar(rows[part], others, 5)
        assert np.array_equal(alone[0], whole[0][part])
        assert np.array_equal(alone[1], whole[1][part])


def test_directions() -> None:
    rows = directions(np.array([[3.0, 4.0], [0.0, 0.0], [-2.0, 0.0]], dtype=np.float16))
    assert rows.dtype == np.float64
    assert np.allclose(rows, [[0.6, 0.8], [0, 0], [-1, 0]])
    assert np.allclose(cosines(rows, rows), [1, 0, 1])
    with pytest.raises(ValueError, match=r"features must be finite and below 1e\+70; row 1 is not"):
        directions(np.array([[0.0], [np.inf]]))
    with pytest.raises(ValueError, match=r"features must have shape \[3, D\] with D > 0"):
        directions(np.zeros(3))


def test_k_must_fit() -> None:
    for k in (0, 4):
        with pytest.raises(ValueError, match=f"between 1 and the 3 rows there are, got {k}"):
            most_similar(np.zeros((1, 2)), np.zeros((3, 2)), k)
    assert most_similar(np.zeros((0, 2)), np.zeros((3, 2)), 2)[0].shape == (0, 2)
