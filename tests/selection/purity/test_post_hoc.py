"""Tests of post_hoc.py: formulas against direct computation, planted OOD images, edge shapes."""

import numpy as np
import pytest
from scipy.special import logsumexp, softmax
from sklearn.neighbors import NearestNeighbors

from openal_ray.selection.purity.post_hoc import energy, fit_vim, max_logit, max_softmax, neighbour_similarity


def test_scores_of_logits() -> None:
    logits = np.random.default_rng(0).normal(0, 4, (100, 5)).astype(np.float32)
    largest = softmax(logits.astype(float), axis=1).max(axis=1)
    assert np.allclose(max_softmax(logits), -np.log1p(-largest), atol=1e-6)
    assert np.allclose(energy(logits), logsumexp(logits.astype(float), axis=1))
    assert max_logit(logits).tolist() == logits.max(axis=1).astype(float).tolist()
    saturated = max_softmax(np.array([[100.0, 0.0], [200.0, 0.0]]))
    assert saturated[0] < saturated[1]  # both probabilities are 1.0 in float64


@pytest.mark.parametrize("k", [1, 7])
def test_neighbours_are_those_of_scikit_learn(k: int) -> None:
    rng = np.random.default_rng(1)
    features, labelled = rng.normal(size=(80, 6)), rng.normal(size=(30, 6))
    rows, others = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (features, labelled))
    distances = NearestNeighbors(n_neighbors=k).fit(others).kneighbors(rows)[0][:, -1]
    assert np.allclose(neighbour_similarity(features, labelled, k), 1 - distances**2 / 2)


def test_fewer_labelled_images_than_neighbours() -> None:
    found = neighbour_similarity(np.array([[1.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 2.0]]), k=50)
    assert found.tolist() == [0.0]


def direct_vim(features: np.ndarray, logits: np.ndarray, new: tuple[np.ndarray, np.ndarray], weight, bias, dim: int):
    """The paper's formulas: residual of the projection on the principal space, virtual logit, softmax."""
    origin = np.linalg.lstsq(weight, -bias, rcond=None)[0]
    centred = features - origin
    _, _, directions = np.linalg.svd(centred, full_matrices=True)
    principal = directions[:dim].T

    def residual(x: np.ndarray) -> np.ndarray:
        return np.linalg.norm((x - origin) - (x - origin) @ principal @ principal.T, axis=1)

    alpha = logits.max(axis=1).sum() / residual(features).sum()
    virtual = alpha * residual(new[0])
    return 1 - softmax(np.column_stack([new[1], virtual]), axis=1)[:, -1]


def test_vim_is_the_direct_formula() -> None:
    rng = np.random.default_rng(2)
    features = rng.normal(size=(90, 12)) * np.linspace(5, 0.1, 12)
    weight, bias = rng.normal(size=(4, 12)), rng.normal(size=4)
    new = rng.normal(size=(50, 12))
    vim = fit_vim(features, features @ weight.T + bias, weight, bias, dimension=5)
    found = vim.purity(new, new @ weight.T + bias)
    expected = direct_vim(features, features @ weight.T + bias, (new, new @ weight.T + bias), weight, bias, 5)
    assert np.allclose(1 / (1 + np.exp(-found)), expected, atol=1e-3)
    assert np.array_equal(vim.purity(new[20:27], (new @ weight.T + bias)[20:27]), found[20:27])


def test_vim_sees_what_logits_do_not() -> None:
    rng = np.random.default_rng(3)
    known = np.column_stack([rng.normal(size=(100, 2)), rng.normal(0, 0.1, (100, 2))])
    strange = known + [0, 0, 3, 3]  # the same logits, which read the first two features alone
    logits = known[:, :2] + 5
    vim = fit_vim(known, logits)
    assert vim.purity(strange, logits).max() < vim.purity(known, logits).min()


def test_vim_of_one_labelled_image() -> None:
    vim = fit_vim(np.array([[1.0, 2.0]]), np.array([[3.0]]))
    assert np.isfinite(vim.purity(np.array([[5.0, -1.0]]), np.array([[2.0]]))).all()
    with pytest.raises(ValueError, match="at least one labelled image"):
        fit_vim(np.empty((0, 2)), np.empty((0, 1)))
    with pytest.raises(ValueError, match=r"must have 0 … 1 dimensions, got 2"):
        fit_vim(np.ones((3, 2)), np.ones((3, 1)), dimension=2)
