"""Tests of ALFA-Mix's scan: the closed form's steps for a linear head, and the paper's other rules for any head."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from openal_ray.selection.alpha_scan import LinearHead, Mixing, learned, random, scanned_steps, steepest
from openal_ray.selection.alpha_steps import NEVER, first_steps
from tests.selection.test_alpha_steps import case, logits_of, scanned

CAP = 1 / 4


def tiny_network(features: np.ndarray) -> np.ndarray:
    """A head that is not linear: [m, 6] to [m, 3]."""
    return np.tanh(features @ np.linspace(-1, 1, 24).reshape(6, 4)) @ np.linspace(2, -2, 12).reshape(4, 3) ** 3


def gradient_of(features: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Of its cross-entropy, by differences."""
    result = np.empty_like(features)
    for column in range(features.shape[1]):
        move = 1e-6 * np.eye(features.shape[1])[column]
        losses = [_cross_entropy(tiny_network(features + way * move), classes) for way in (1, -1)]
        result[:, column] = (losses[0] - losses[1]) / 2e-6
    return result


def _cross_entropy(logits: np.ndarray, classes: np.ndarray) -> np.ndarray:
    return np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(logits)), classes]


@pytest.mark.parametrize("n_classes", [2, 10])
def test_steepest_before_a_linear_head_takes_the_steps_of_the_closed_form(n_classes: int) -> None:
    features, weights, bias, anchors = case(4, n_classes, 8, 40)
    head, indices = LinearHead(weights, bias), 3 * np.arange(40)
    logits = head(features.astype(float))
    assert np.allclose(logits, logits_of(features, weights, bias))
    gradients = head.gradient(features.astype(float), logits.argmax(axis=1))
    steps = scanned_steps(features, indices, head, anchors, steepest(gradients))
    assert steps.tolist() == first_steps(features, logits, weights, anchors).tolist()
    assert steps.tolist() == scanned(features, weights, bias, anchors, 1 / 32)


def test_the_gradient_of_a_linear_head_is_that_of_autograd() -> None:
    features, weights, bias, _ = case(2, 5, 7, 30, dtype=np.float64)
    rows = torch.tensor(features, requires_grad=True)
    classes = np.arange(30) % 5
    logits = rows @ torch.tensor(weights).T + torch.tensor(bias)
    functional.cross_entropy(logits, torch.tensor(classes), reduction="sum").backward()
    assert np.allclose(LinearHead(weights, bias).gradient(features, classes), rows.grad.numpy(), atol=1e-12)


def test_another_head_step_by_step() -> None:
    rng = np.random.default_rng(0)
    features, anchors = rng.normal(size=(60, 6)), rng.normal(size=(3, 6))
    classes = tiny_network(features).argmax(axis=1)
    gradients = gradient_of(features, classes)
    gradients[5] = 0.0
    expected = np.full(60, NEVER)
    for row in range(60):
        for step, anchor in [(step, anchor) for step in range(4, 0, -1) for anchor in anchors]:
            z, g = anchor - features[row], gradients[row]
            alpha = step * CAP / np.sqrt(6) * np.linalg.norm(z) / max(np.linalg.norm(g), 1e-300) * g / (z + 1e-8)
            mixed = (1 - alpha) * features[row] + alpha * anchor
            if tiny_network(mixed[None]).argmax() != classes[row]:
                expected[row] = step
    steps = scanned_steps(features, np.arange(60), tiny_network, anchors, steepest(gradients), CAP)
    assert steps.tolist() == expected.tolist()
    assert steps[5] == NEVER and len(set(expected)) > 3


def mixing(eps: float = 0.5) -> Mixing:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(900, 6))
    classes = tiny_network(features).argmax(axis=1)
    return Mixing(np.arange(900), 1024 + np.arange(900), features, rng.normal(size=(900, 6)), classes, eps, (1, 2))


def test_random_alphas_follow_the_clamped_normal_law() -> None:
    where = mixing()
    alphas = next(random(3)(where)) / where.paths
    assert alphas.min() == pytest.approx(1e-8) and alphas.max() == pytest.approx(0.5)
    inside = alphas[(alphas > 1e-7) & (alphas < 0.5 - 1e-7)]
    assert (alphas <= 1e-7).mean() == pytest.approx(0.1587, abs=0.02)  # one deviation below the mean
    assert (alphas >= 0.5 - 1e-7).mean() == pytest.approx(0.1587, abs=0.02)
    assert inside.mean() == pytest.approx(0.25, abs=0.01) and (inside < 0.125).mean() == pytest.approx(0.2195, abs=0.03)


def test_learned_alphas_are_those_of_torch_adam() -> None:
    where = mixing()
    tried = [moves / where.paths for moves in learned(3, gradient_of)(where)]
    assert len(tried) == 5 and np.allclose(tried[0], next(random(3)(where)) / where.paths)
    rows, paths, classes = torch.tensor(where.features), torch.tensor(where.paths), torch.tensor(where.classes)
    inner, outer = (torch.tensor(part) for part in (np.linspace(-1, 1, 24), np.linspace(2, -2, 12) ** 3))
    alphas = torch.tensor(tried[0])
    for iteration in range(1, 5):
        alphas.requires_grad_(True)
        optimiser = torch.optim.Adam([alphas], lr=0.1 if iteration - 1 < 10 / 3 else 0.01)
        logits = torch.tanh((rows + alphas * paths) @ inner.reshape(6, 4)) @ outer.reshape(4, 3)
        (0.01 * alphas.norm(dim=1) - functional.cross_entropy(logits, classes, reduction="none")).sum().backward()
        optimiser.step()
        alphas = alphas.detach().clamp(1e-8, 0.5)
        same = np.isclose(tried[iteration], alphas.numpy(), atol=1e-6)
        assert same.mean() > 0.995  # a gradient near 0 has another sign by differences than by autograd


@pytest.mark.parametrize("rule", [random(5), learned(5, gradient_of)])
def test_shards_change_no_step(rule) -> None:
    rng = np.random.default_rng(2)
    features, anchors, indices = rng.normal(size=(90, 6)), rng.normal(size=(3, 6)), 50 * np.arange(90)
    whole = scanned_steps(features, indices, tiny_network, anchors, rule, CAP)
    for n_shards in (2, 5):
        owner = indices // 1024 % n_shards
        for shard in range(n_shards):
            mine = owner == shard
            steps = scanned_steps(features[mine], indices[mine], tiny_network, anchors, rule, CAP)
            assert steps.tolist() == whole[mine].tolist()
    assert len(set(whole.tolist())) > 2


def test_learned_finds_more_than_random() -> None:
    rng = np.random.default_rng(2)
    features, anchors, indices = rng.normal(size=(300, 6)), rng.normal(size=(3, 6)), np.arange(300)
    by_chance, by_learning = (
        scanned_steps(features, indices, tiny_network, anchors, rule, CAP)
        for rule in (random(5), learned(5, gradient_of))
    )
    assert (by_learning <= by_chance).all() and (by_learning < by_chance).any()


def test_rows_that_have_flipped_leave() -> None:
    sizes = []

    def head(features: np.ndarray) -> np.ndarray:
        sizes.append(len(features))
        return features

    features = np.array([[1.0, 0.9], [1.0, 0.0], [1.0, 0.6]])
    anchors = np.array([[0.5, 0.5]])
    steps = scanned_steps(features, np.arange(3), head, anchors, steepest(np.tile([-1.0, 1.0], (3, 1))), CAP)
    assert steps.tolist() == [1, NEVER, 4]  # the paths' lengths (0.64, 0.71, 0.51) · eps against the gaps (0.1, 1, 0.4)
    assert sizes == [3, 3, 2, 2, 2]


def test_refusals() -> None:
    features = np.ones((2, 3))
    with pytest.raises(ValueError, match=r"the head must return numbers of shape \[2, C\], got shape \(2, 3\) or NaN"):
        scanned_steps(features, np.arange(2), lambda rows: rows * np.nan, features, random(0))
