"""Detectors: the losses of their papers by hand, clusters, and what they read."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from openal_ray import config
from openal_ray.data.images import ArrayImages
from openal_ray.models import signals
from openal_ray.models.detectors import Detector, OpenDetector, OpenNetwork, own_optimizer
from openal_ray.models.learners import Classifier
from openal_ray.training.job import Job
from openal_ray.training.loop import NoKeeper, train
from openal_ray.training.team import Team

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 1.0, 3.0]])
TARGETS = torch.tensor([0, 1, 2])  # the last is of no known class


class Fixed(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return LOGITS


def cross_entropy(row: list[float], target: int) -> float:
    return math.log(sum(map(math.exp, row))) - row[target]


def test_the_temperature_divides_the_logits() -> None:
    loss, right = Detector(Classifier(3), temperature=0.5).loss(Fixed(), LOGITS, TARGETS, 0.0)
    expected = np.mean(
        [cross_entropy([2 * x for x in row], t) for row, t in zip(LOGITS.tolist(), [0, 1, 2], strict=True)]
    )
    assert float(loss) == pytest.approx(expected, rel=1e-6) and int(right) == 3


def test_energies_are_pushed_to_their_sides() -> None:
    plain = float(Detector(Classifier(3), 1.0).loss(Fixed(), LOGITS, TARGETS, 0.0)[0])
    with_margin = float(Detector(Classifier(3), 1.0, 0.01, -3.0, -1.0).loss(Fixed(), LOGITS, TARGETS, 0.0)[0])
    energies = [-math.log(math.exp(a) + math.exp(b)) for a, b, _ in LOGITS.tolist()]
    known = np.mean([max(0.0, energy + 3.0) ** 2 for energy in energies[:2]])
    rejected = max(0.0, -1.0 - energies[2]) ** 2
    assert with_margin == pytest.approx(plain + 0.01 * (known + rejected), rel=1e-5)


@pytest.mark.parametrize("targets", [[0, 1, 0], [2, 2, 2]])
def test_a_batch_of_one_kind_gives_no_nan(targets: list[int]) -> None:
    for learner in (Detector(Classifier(3), 1.0, 0.01), OpenDetector(Classifier(3))):
        network = learner.build((8, 8, 1)).train()
        loss, _ = learner.loss(network, torch.randn(3, 1, 8, 8), torch.tensor(targets), 0.0)
        assert torch.isfinite(loss)


def binary(*rows: list[float]) -> torch.Tensor:
    """Logits [n, 2, C] of which the difference yes - no is given."""
    yes = torch.tensor(rows)
    return torch.stack([torch.zeros_like(yes), yes], dim=1)


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def test_binary_classifiers_learn_the_own_class_and_the_hardest_other() -> None:
    learner = OpenDetector(Classifier(4))
    loss = learner._open_loss(binary([2.0, 1.0, -1.0], [0.5, 3.0, 1.0]), torch.tensor([0, 1]))
    own = (-log_sigmoid(2.0) - log_sigmoid(3.0)) / 2
    hardest = (-log_sigmoid(-1.0) - log_sigmoid(-1.0)) / 2  # class 1 of the first image, class 2 of the second
    assert float(loss) == pytest.approx((own + hardest) / 2, rel=1e-6)


def test_rejected_images_shall_be_unsure_everywhere() -> None:
    learner = OpenDetector(Classifier(4), rejected=0.8)
    known = float(learner._open_loss(binary([2.0, 1.0, -1.0]), torch.tensor([0])))
    both = float(learner._open_loss(binary([2.0, 1.0, -1.0], [1.0, 0.0, -2.0]), torch.tensor([0, 3])))
    unsure = -sum(log_sigmoid(x) + log_sigmoid(-x) for x in (1.0, 0.0, -2.0)) / 3 / 2
    assert both == pytest.approx(0.2 * known + 0.8 * unsure, rel=1e-6)


def test_rejected_images_are_pulled_to_their_cluster_and_from_the_others() -> None:
    learner = OpenDetector(Classifier(3), tuplet=1.0)
    network = learner.build((8, 8, 1))
    assert isinstance(network, OpenNetwork)
    features = torch.zeros(2, 64)
    features[1, 0] = 1.0
    assert float(learner._tuplet_loss(network, features, torch.tensor([2, 0]))) == 0  # no clusters yet
    network.centres[1, 0] = 3.0
    network.n_centres.fill_(2)
    found = float(learner._tuplet_loss(network, features, torch.tensor([2, 2])))
    expected = np.mean([0.1 * 0 + math.log1p(math.exp(0 - 3)), 0.1 * 1 + math.log1p(math.exp(1 - 2))])
    assert found == pytest.approx(expected, rel=1e-5)


def test_training_leaves_the_centres_of_the_rejected_images_in_the_network() -> None:
    rng = np.random.default_rng(0)
    images = ArrayImages(rng.integers(0, 256, (40, 8, 8, 1), dtype=np.uint8))
    targets = np.arange(40) % 4  # classes 0 … 2 and rejected
    learner = OpenDetector(Classifier(4), recluster=2)
    job = Job("d", learner, np.arange(40), targets, config.Train(epochs=3), (0.5,), (0.5,), 1, 2)
    weights = train(job, images, Team(), NoKeeper()).weights
    assert int(weights["n_centres"]) == 3 and weights["centres"].abs().sum() > 0
    again = train(job, images, Team(), NoKeeper()).weights
    assert all(torch.equal(again[name], weights[name]) for name in weights)
    network = learner.build((8, 8, 1)).eval()
    network.load_state_dict(weights)
    with torch.inference_mode():
        found = signals.read(network, torch.randn(2, 1, 8, 8), ["binary_logits", "logits", "features"])
    assert [tuple(found[name].shape) for name in ("binary_logits", "logits", "features")] == [
        (2, 2, 3),
        (2, 4),
        (2, 64),
    ]


@pytest.mark.parametrize("nesterov", [True, False])
def test_the_binary_classifiers_have_a_constant_sgd_of_their_own(nesterov: bool) -> None:
    """Their weights after a few steps, by hand; those of the detector are what they are without binary classifiers."""
    images = ArrayImages(np.random.default_rng(0).integers(0, 256, (12, 8, 8, 1), dtype=np.uint8))
    targets = np.arange(12) % 3
    plan = config.Train(epochs=6, batch_size=12, scheduler={"name": "multi_step", "params": {"milestones": [1]}})

    def trained(learner: OpenDetector) -> dict[str, torch.Tensor]:
        job = Job("d", learner, np.arange(12), targets, plan, (0.5,), (0.5,), 1, 2)
        return train(job, images, Team(), NoKeeper()).weights

    learner = OpenDetector(Classifier(4), tuplet=0, binary=own_optimizer(0.2, nesterov))
    own, shared = trained(learner), trained(replace(learner, binary=None))
    assert not torch.equal(own["binary.weight"], shared["binary.weight"])
    torch.manual_seed(1)
    network = learner.build((8, 8, 1))
    main = torch.optim.AdamW(network.detector.parameters(), lr=1e-3)
    velocity = torch.zeros_like(network.binary.weight)
    pixels = torch.from_numpy(images.load(np.arange(12))).permute(0, 3, 1, 2).float()
    for epoch in range(6):
        main.param_groups[0]["lr"] = 1e-3 if epoch < 1 else 1e-4
        network.zero_grad()
        learner.loss(network, (pixels / 255 - 0.5) / 0.5, torch.from_numpy(targets), 0.0)[0].backward()
        main.step()
        with torch.no_grad():
            gradient = network.binary.weight.grad + 5e-4 * network.binary.weight
            velocity = 0.9 * velocity + gradient if epoch else gradient.clone()
            network.binary.weight -= 0.2 * (gradient + 0.9 * velocity if nesterov else velocity)
    torch.testing.assert_close(own["binary.weight"], network.binary.weight.detach(), rtol=1e-3, atol=1e-4)
