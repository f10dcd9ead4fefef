"""MQ-Net's own network: how much an image is worth, from its informativeness and its purity, rising with both.

Park et al. 2022 (NeurIPS), section 4, and the authors' code. Differs: the worth of the images is computed once, not at
every step under a new augmentation; an epoch has exactly the steps asked for.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import expit


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
    x, y = np.asarray(inputs, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    weights = [rng.random((plan.hidden, 2)), rng.random(plan.hidden), rng.random(plan.hidden), rng.random(1)]
    order = np.empty(0, dtype=np.int64)
    for step in range(plan.epochs * plan.steps if len(x) > 1 else 0):
        if len(order) < 2:
            order = rng.permutation(len(x))
        batch, order = order[: plan.batch_size], order[plan.batch_size :]
        one, other = (batch[positions] for positions in _pairs(len(batch), plan.pairs))
        sign = np.where(y[one] > y[other], 1.0, -1.0)
        slopes = _slopes(weights, np.concatenate([x[one], x[other]]), sign, plan.margin)
        rate = plan.lr if step < plan.epochs // 2 * plan.steps else plan.lr * 0.1
        for weight, slope in zip(weights, slopes, strict=True):
            weight -= rate * (slope + plan.weight_decay * weight)
    return MetaNet(weights[0], weights[1], weights[2], float(weights[3][0]))


def _slopes(weights: list[np.ndarray], x: np.ndarray, sign: np.ndarray, margin: float) -> list[np.ndarray]:
    """Gradients of the mean over p pairs of relu(margin - sign · (score - other score)); by hand, as steps are tiny.

    x   [2p, 2]: the first images of all pairs, then the second ones
    """
    first, bias, second, last = weights
    hidden = expit(x @ np.maximum(first, 0.0).T + bias)
    scores = hidden @ np.maximum(second, 0.0) + last
    p = len(sign)
    pull = np.where(margin - sign * (scores[:p] - scores[p:]) > 0, sign, 0.0) / p
    by_score = np.concatenate([-pull, pull])
    by_reached = np.outer(by_score, np.maximum(second, 0.0)) * hidden * (1.0 - hidden)
    return [
        (by_reached.T @ x) * (first > 0),
        by_reached.sum(axis=0),
        (hidden.T @ by_score) * (second > 0),
        by_score.sum(keepdims=True),
    ]


def _pairs(size: int, pairs: str) -> tuple[np.ndarray, np.ndarray]:
    """Positions in a batch of both images of every pair; one image is left over of an odd number."""
    one = np.arange(size // 2)
    return (one, size - 1 - one) if pairs == "flip" else (2 * one, 2 * one + 1)
