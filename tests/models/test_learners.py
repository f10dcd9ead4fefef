"""The classifier's loss, by hand and against PyTorch's own cross-entropy."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from openal_ray.models.learners import Classifier

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0], [1.0, 4.0, 0.0], [0.0, 0.0, 0.0]])
TARGETS = torch.tensor([0, 1, 1, 2])


def loss_of(learner: Classifier, logits: torch.Tensor = LOGITS) -> float:
    loss, _ = learner.loss(nn.Identity(), logits, TARGETS, 0.0)
    return float(loss)


def by_hand(smoothing: float = 0.0, weights: tuple[float, ...] = (1, 1, 1)) -> float:
    """Σ over images of class weight · cross-entropy to the smoothed target, over the number of images."""
    logits, targets = LOGITS.double().numpy(), TARGETS.numpy()
    log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    wanted = np.full((4, 3), smoothing / 3) + (1 - smoothing) * np.eye(3)[targets]
    return float((np.array(weights)[targets] * -(wanted * log_probs).sum(1)).mean())


def test_plain_cross_entropy_and_right_answers() -> None:
    loss, right = Classifier(3).loss(nn.Identity(), LOGITS, TARGETS, 0.0)
    assert float(loss) == pytest.approx(by_hand()) == pytest.approx(float(functional.cross_entropy(LOGITS, TARGETS)))
    assert int(right) == 2  # images 0 and 2; of three equal logits the first counts, so image 3 is wrong


def test_label_smoothing() -> None:
    ours = loss_of(Classifier(3, label_smoothing=0.2))
    assert ours == pytest.approx(by_hand(0.2))
    assert ours == pytest.approx(float(functional.cross_entropy(LOGITS, TARGETS, label_smoothing=0.2)))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_an_image_counts_for_as_many_as_its_class_weighs(smoothing: float) -> None:
    ours = loss_of(Classifier(3, label_smoothing=smoothing, class_weights=(1, 3, 0.5)))
    assert ours == pytest.approx(by_hand(smoothing, (1, 3, 0.5)))


def test_halves_of_a_batch_add_up_with_class_weights() -> None:
    learner = Classifier(3, class_weights=(1.0, 3.0, 0.5))
    halves = [learner.loss(nn.Identity(), LOGITS[part], TARGETS[part], 0.0)[0] for part in ([0, 1], [2, 3])]
    assert float(sum(halves)) / 2 == pytest.approx(loss_of(learner))


def test_the_loss_is_float32_also_for_half_precision_outputs() -> None:
    loss, _ = Classifier(3).loss(nn.Identity(), LOGITS.bfloat16(), TARGETS, 0.0)
    assert loss.dtype == torch.float32


def test_build_passes_everything_on(tmp_path: Path) -> None:
    torch.manual_seed(0)
    learner = Classifier(3, params={"hidden": 5})
    saved = learner.build((8, 8, 1))
    torch.save(saved.state_dict(), tmp_path / "weights.pt")
    built = Classifier(3, checkpoint=tmp_path / "weights.pt", params={"hidden": 5}).build((8, 8, 1))
    assert built.fc.weight.shape == (3, 5)
    for name, tensor in saved.state_dict().items():
        assert torch.equal(built.state_dict()[name], tensor)
