"""MQ-Net's own network: how much an image is worth, from its informativeness and its purity, rising with both.

Park et al. 2022 (NeurIPS), section 4, and the authors' code. Differs: the worth of the images is computed once, not at
every step under a new augmentation; an epoch has exactly the steps asked for.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.special import expit
from torch.nn.functional import relu


@dataclass(frozen=True)
class MetaNet:
    """relu(second) · sigmoid(relu(first) x + first_bias) + second_bias: no input may lower the output.

    first, first_bias    float64 [H, 2] and [H]
    second, second_bias  float64 [H] and a number
    """

    first: np.ndarray
    first_bias: np.ndarray
    second: np.ndarray
    second_bias: float

    def scores(self, inputs: np.ndarray) -> np.ndarray:
        """float64 [n] of inputs [n, 2], each row by itself."""
        weights = np.maximum(self.first, 0.0)
        reached = inputs[:, :1] * weights[:, 0] + inputs[:, 1:] * weights[:, 1] + self.first_bias
        hidden = expit(reached) * np.maximum(self.second, 0.0)
        result: np.ndarray = hidden.sum(axis=1) + self.second_bias
        return result


@dataclass(frozen=True)
class MetaPlan:
    """How the network learns; the defaults are those of the authors' code.

    pairs    flip: the first image of a batch with the last, and so on (official); next: with its neighbour (openal)
    margin   by which the score of the image worth more shall exceed that of the other
    hidden   units
    """

    epochs: int = 100
    steps: int = 100
    batch_size: int = 32
    lr: float = 1e-3
    weight_decay: float = 0.0
    margin: float = 1.0
    hidden: int = 64
    pairs: Literal["flip", "next"] = "flip"


def worth(log_probs: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """What it would have been worth to know the answers float64 [q]: the classifier's loss, 0 for OOD images.

    log_probs  [q, C] of the classifier that chose them
    answers    int64 [q] classes, below 0 = OOD
    """
    losses = -np.asarray(log_probs, dtype=np.float64)[np.arange(len(answers)), np.maximum(answers, 0)]
    return np.where(answers >= 0, losses, 0.0)


def fit_meta_net(
    inputs: np.ndarray, targets: np.ndarray, rng: np.random.Generator, plan: MetaPlan | None = None
) -> MetaNet:
    """A new network that ranks images as their targets do.

    inputs   float64 [q, 2] as they were when the images were chosen
    targets  float64 [q] their worth
    With fewer than two images there is no pair to learn from, and the network is as it was drawn.
    """
    plan = plan or MetaPlan()
    shapes = ((plan.hidden, 2), (plan.hidden,), (plan.hidden,), (1,))
    first, bias, second, last = (torch.from_numpy(rng.random(shape)).requires_grad_() for shape in shapes)
    x, y = torch.from_numpy(np.asarray(inputs, np.float64)), torch.from_numpy(np.asarray(targets, np.float64))
    optimiser = torch.optim.SGD([first, bias, second, last], lr=plan.lr, weight_decay=plan.weight_decay)
    order = np.empty(0, dtype=np.int64)
    for step in range(plan.epochs * plan.steps if len(x) > 1 else 0):
        if step == plan.epochs // 2 * plan.steps:
            optimiser.param_groups[0]["lr"] = plan.lr * 0.1
        if len(order) < 2:
            order = rng.permutation(len(x))
        batch, order = order[: plan.batch_size], order[plan.batch_size :]
        one, other = _pairs(batch, plan.pairs)
        scores = torch.sigmoid(x[batch] @ relu(first).T + bias) @ relu(second) + last
        sign = torch.where(y[batch][one] > y[batch][other], 1.0, -1.0)
        loss = relu(plan.margin - sign * (scores[one] - scores[other])).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    learnt = [part.detach().numpy() for part in (first, bias, second)]
    return MetaNet(learnt[0], learnt[1], learnt[2], float(last.detach()[0]))


def _pairs(batch: np.ndarray, pairs: str) -> tuple[np.ndarray, np.ndarray]:
    """Positions in the batch of both images of every pair; one image is left over of an odd number."""
    half = len(batch) // 2
    one = np.arange(half)
    return (one, len(batch) - 1 - one) if pairs == "flip" else (2 * one, 2 * one + 1)
