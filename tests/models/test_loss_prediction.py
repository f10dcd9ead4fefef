"""The loss predictor: its ranking losses by hand, whom it teaches, and what it reads."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from openal_ray.errors import ConfigError
from openal_ray.models import signals
from openal_ray.models.learners import Classifier
from openal_ray.models.loss_prediction import LossPrediction, LossPredictor

SHAPE = (16, 16, 1)
TARGETS = torch.tensor([0, 1, 2, 0, 1])
# With these logits the cross-entropies are, in order: small, large, middle, larger, smallest.
LOGITS = torch.tensor([[2.0, 0, 0], [3, 0, 0], [0, 0, 0], [0, 5, 0], [0, 4, 0]])
PREDICTED = torch.tensor([0.5, 0.2, 0.3, 0.9, 9.0])


def cross_entropies() -> list[float]:
    return [
        -math.log(math.exp(row[target]) / sum(map(math.exp, row)))
        for row, target in zip(LOGITS.tolist(), TARGETS.tolist(), strict=True)
    ]


def total(**options: object) -> float:
    learner = LossPrediction(Classifier(3), **options)
    return float(learner.loss_of({"logits": LOGITS, "predicted_loss": PREDICTED}, TARGETS))


def test_neighbours_are_ranked_by_the_hinge_loss_of_the_paper() -> None:
    losses = cross_entropies()
    assert losses[1] > losses[0] and losses[3] > losses[2]
    # Pairs (0, 1) and (2, 3), the fifth has no partner: max(0, 0.5 - 0.2 + 1) and max(0, 0.3 - 0.9 + 1).
    expected = np.mean(losses) + 2.0 * (1.3 + 0.4) / 2
    assert total(weight=2.0) == pytest.approx(expected, rel=1e-6)


def test_ends_are_ranked_by_the_logistic_loss() -> None:
    losses = cross_entropies()
    assert losses[0] > losses[4] and losses[1] < losses[3]
    # Pairs (0, 4) and (1, 3): the first leads by 0.5 - 9 and should, the second by 0.2 - 0.9 and should not.
    ranking = (math.log1p(math.exp(8.5)) + math.log1p(math.exp(-0.7))) / 2
    assert total(pairing="ends", ranking="logistic") == pytest.approx(np.mean(losses) + ranking, rel=1e-6)


def test_one_image_has_no_pair() -> None:
    learner = LossPrediction(Classifier(3))
    outputs = {"logits": LOGITS[:1], "predicted_loss": PREDICTED[:1]}
    assert float(learner.loss_of(outputs, TARGETS[:1])) == pytest.approx(cross_entropies()[0], rel=1e-6)


@pytest.mark.parametrize("name", ["small_cnn", "resnet18", "vit_tiny_patch16_224", "efficientnet_lite0"])
def test_it_finds_the_stages_of_any_network(name: str) -> None:
    shape = (32, 32, 1)
    made = LossPrediction(Classifier(4, name)).build(shape).eval()
    with torch.inference_mode():
        images = torch.randn(3, 1, 32, 32)
        found = signals.read(made, images, ["predicted_loss", "probs", "features"])
        np.testing.assert_allclose(found["probs"], made(images).softmax(1), rtol=1e-4, atol=1e-5)
    assert found["predicted_loss"].shape == (3,) and len(made.branches) <= 4
    assert isinstance(made, LossPredictor)


@pytest.mark.parametrize(("progress", "taught"), [(0.0, True), (0.6, True), (0.61, False)])
def test_after_its_share_the_head_teaches_the_classifier_no_more(progress: float, taught: bool) -> None:
    torch.manual_seed(0)
    learner = LossPrediction(Classifier(3), weight=1.0, detach_share=0.6)
    network = learner.build(SHAPE).train()
    images = torch.randn(6, 1, 16, 16)

    def gradient(weight: float) -> torch.Tensor:
        network.zero_grad()
        state = torch.get_rng_state()
        one = LossPrediction(Classifier(3), weight=weight, detach_share=0.6)
        one.loss(network, images, torch.arange(6) % 3, progress)[0].backward()
        torch.set_rng_state(state)
        return network.classifier.stages[0][0].weight.grad.clone()

    assert torch.allclose(gradient(0.0), gradient(5.0)) is not taught
    assert network.last.weight.grad.abs().sum() > 0


def test_in_validation_it_is_its_classifier() -> None:
    learner = LossPrediction(Classifier(3))
    network = learner.build(SHAPE).eval()
    images, targets = torch.randn(6, 1, 16, 16), torch.arange(6) % 3
    ours, right = learner.loss(network, images, targets, 1.0)
    theirs, also_right = Classifier(3).loss(network.classifier, images, targets, 1.0)
    assert torch.equal(ours, theirs) and right == also_right


def test_a_network_without_stages_is_refused(tmp_path) -> None:
    (tmp_path / "own.py").write_text(
        "from torch import nn\ndef build(n_classes, shape):\n    return nn.Linear(4, n_classes)\n"
    )
    with pytest.raises(ConfigError, match="Linear has no forward_intermediates"):
        LossPrediction(Classifier(3, f"{tmp_path}/own.py:build")).build(SHAPE)
    with pytest.raises(ConfigError, match="predicts no loss of its own"):
        signals.read(Classifier(3).build(SHAPE).eval(), torch.zeros(1, 1, 16, 16), ["predicted_loss"])


def test_building_moves_no_statistic() -> None:
    made = LossPrediction(Classifier(3)).build(SHAPE)
    norms = [module for module in made.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms and all(int(norm.num_batches_tracked) == 0 for norm in norms)
