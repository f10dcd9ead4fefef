"""Tests of kernels: levels of exact distances whatever the products say, and upper levels that are upper."""

import numpy as np
import pytest
import torch

from openal_ray.selection import kernels
from openal_ray.selection.distances import squared_about
from openal_ray.selection.kernels import RBF, Kernel, TopHat, levels
from tests.selection import naive


@pytest.mark.parametrize("kernel", [TopHat(1.0), TopHat(np.sqrt(2)), RBF(1.0), RBF(2.5)])
@pytest.mark.parametrize("kind", ["grid", "gauss", "far"])
def test_levels_of_exact_distances(kernel: Kernel, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rows, others = rng.normal(size=(60, 3)), rng.normal(size=(1500, 3))
    if kind == "grid":
        rows, others = (
            part.astype(np.float32) for part in (rng.integers(0, 3, (60, 3)), rng.integers(0, 3, (1500, 3)))
        )
    if kind == "far":  # products say nothing
        rows, others = rows + 1e8, others + 1e8
    squared = np.square(rows[:, None].astype(float) - others).sum(axis=2)
    expected = kernel.top * naive.kernel(kernel)(np.sqrt(squared))
    found = levels(kernel, rows, others)
    # The naive form squares a rounded root, so it may be one level off.
    assert np.abs(found - expected).max() <= (0 if kernel.top == 1 else 1)

    def disturbed(*args: object) -> tuple[np.ndarray, np.ndarray]:
        rough, slack = squared_about(*args)
        return rough + rng.uniform(-1, 1, rough.shape) * slack[:, None], 2 * slack

    monkeypatch.setattr(kernels, "squared_about", disturbed)
    assert (levels(kernel, rows, others) == found).all()


@pytest.mark.parametrize("kernel", [TopHat(0.5), RBF(1.0), RBF(0.1)])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_upper_levels_are_never_below(kernel: Kernel, kind: torch.dtype) -> None:
    squared = np.sort(np.random.default_rng(0).random(100_000)) * np.linspace(0, 1, 100_000)
    upper = kernel.upper(torch.from_numpy(squared).to(kind)).numpy()
    exact = kernel.levels(squared)
    assert (upper >= exact).all() and (upper <= exact * 1.001 + 1).all()


def test_a_point_covers_itself_to_the_top() -> None:
    points = np.random.default_rng(0).normal(size=(300, 40)).astype(np.float32)
    for kernel in (TopHat(1e-9), RBF(0.01)):
        assert (np.diagonal(levels(kernel, points, points)) == kernel.top).all()
