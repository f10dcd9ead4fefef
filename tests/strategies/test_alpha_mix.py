"""ALFA-Mix as a strategy: its candidates against a plain scan, heads of any kind, and refusals."""

from pathlib import Path

import numpy as np
import pytest
import torch

from openal_ray.errors import ConfigError
from openal_ray.models.learners import Classifier
from openal_ray.selection.alpha_steps import NEVER
from openal_ray.shard import Part
from openal_ray.strategies import alpha_mix as module
from openal_ray.strategies import catalogue
from openal_ray.testing.pools import case
from tests.selection.alpha_naive import first_step

MLP = """
from torch import nn
from openal_ray.models.small_cnn import SmallCNN
def build(n_classes, shape):
    made = SmallCNN(n_classes, shape[2], shape[:2])
    made.fc = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, n_classes))
    return made
def hidden(n_classes, shape):
    made = build(n_classes, shape)
    made.get_classifier = lambda: nn.Linear(64, n_classes)
    return made
"""


def part(network: torch.nn.Module, n: int = 60) -> Part:
    rng = np.random.default_rng(0)
    features = np.maximum(rng.standard_normal((n, 64)), 0).astype(np.float32)
    with torch.no_grad():
        logits = network.fc(torch.from_numpy(features)).numpy()
    return Part(np.arange(n) * 3, {"features": features, "logits": logits}, "cpu", {"": network})


@pytest.fixture
def networks(tmp_path: Path) -> dict[str, torch.nn.Module]:
    (tmp_path / "own.py").write_text(MLP)
    torch.manual_seed(0)
    names = {"linear": "small_cnn", "mlp": f"{tmp_path}/own.py:build", "hidden": f"{tmp_path}/own.py:hidden"}
    return {kind: Classifier(4, name).build((8, 8, 1)).eval() for kind, name in names.items()}


def test_a_linear_head_has_the_steps_of_the_scan(networks: dict[str, torch.nn.Module]) -> None:
    one = part(networks["linear"])
    anchors = np.abs(np.random.default_rng(1).standard_normal((4, 64)))
    exact = module._half(one, anchors, 1 / 32, "closed", 0)._steps
    weights, bias = (each.detach().double().numpy() for each in networks["linear"].fc.parameters())
    head = module._TorchHead(networks["linear"].fc, "cpu")
    scanned = module.scanned_steps(
        one.signals["features"], one.indices, head, anchors, module._rule("closed", head, one.signals["features"], 0)
    )
    assert (exact < NEVER).sum() > 10 and (exact == scanned).mean() > 0.95  # float32 head: a step's edge may differ
    naive = [first_step(row.astype(float), weights, bias, anchors, 1 / 32, 0) for row in one.signals["features"]]
    assert [NEVER if step is None else step for step in naive] == exact.tolist()


@pytest.mark.parametrize("alpha", module.ALPHAS)
def test_any_head_will_do(networks: dict[str, torch.nn.Module], alpha: str) -> None:
    half = module._half(part(networks["mlp"]), np.ones((4, 64)), 1 / 8, alpha, 5)
    assert half.size() == 60 and (half._steps < NEVER).any()


def test_a_gradient_is_that_of_the_cross_entropy(networks: dict[str, torch.nn.Module]) -> None:
    head, rows = module._TorchHead(networks["mlp"].fc, "cpu"), np.random.default_rng(2).standard_normal((5, 64))
    classes, small = np.array([0, 1, 2, 3, 0]), 1e-3

    def loss(at: np.ndarray) -> np.ndarray:
        logits = head(at)
        return np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(5), classes]

    step = np.zeros(64)
    step[7] = small
    numeric = (loss(rows + step) - loss(rows - step)) / (2 * small)
    np.testing.assert_allclose(head.gradient(rows, classes)[:, 7], numeric, atol=2e-3)


def test_a_head_that_is_not_the_last_layer_is_refused(networks: dict[str, torch.nn.Module]) -> None:
    with pytest.raises(ConfigError, match="does not make its logits from its features"):
        module._half(part(networks["hidden"]), np.ones((4, 64)), 1 / 32, "closed", 0)


def test_parameters_are_checked() -> None:
    for parameters, message in (
        ({"cap": 0}, "cap must be above 0"),
        ({"alpha": "best"}, "alpha must be one of closed"),
    ):
        with pytest.raises(ConfigError, match=message):
            catalogue.build("alpha_mix", parameters)


def test_a_pool_without_candidates_is_asked_at_random() -> None:
    found = case("identical and saturated").ask("alpha_mix", 20)
    assert len(set(found.indices.tolist())) == 20
