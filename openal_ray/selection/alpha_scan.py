"""ALFA-Mix for any head: mix every image with every anchor, step by step, until its prediction changes.

A rule says how far each column goes towards the anchor; the head says whether that changes the prediction. Images whose
prediction has changed leave, so the later steps are for the certain ones alone. Images come in blocks of dataset
indices, so what stands beside one in the head's input does not depend on the shards.

Source: Parvaneh et al. 2022 (arXiv 2203.07034), sections 3.2 and 3.3, and its authors' code for the numbers.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from openal_ray.selection.alpha_steps import NEVER, step_limits
from openal_ray.selection.halves import BLOCK, checked_rows

Head = Callable[[np.ndarray], np.ndarray]
"""Features [m, D] to logits [m, C]."""

Gradient = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Features [m, D] and classes int64 [m] to the gradient of each row's cross-entropy at the features, [m, D]."""

_LEAST = 1e-8  # the smallest alpha of the random and the learned rule


@dataclass(frozen=True)
class Mixing:
    """Images of one block on their way to one anchor.

    positions  int64 [m] their rows in the shard's arrays
    indices    int64 [m] their dataset indices, all of one block
    features   float64 [m, D]
    paths      float64 [m, D] anchor minus features
    classes    int64 [m] the predicted classes
    eps        the step's limit
    where      step and anchor, counted from 0
    """

    positions: np.ndarray
    indices: np.ndarray
    features: np.ndarray
    paths: np.ndarray
    classes: np.ndarray
    eps: float
    where: tuple[int, int]


Rule = Callable[[Mixing], Iterator[np.ndarray]]
"""The moves alpha * paths [m, D] that are tried, one after the other."""


def scanned_steps(
    features: np.ndarray,
    indices: np.ndarray,
    head: Head,
    anchors: np.ndarray,
    rule: Rule,
    cap: float = 1 / 32,
) -> np.ndarray:
    """int64 [n]: the first step, from 1 on, at which some anchor changes the prediction of each image, or NEVER.

    features  [n, D] what the head takes
    indices   int64 [n] ascending dataset indices
    anchors   [A, D] mean labelled feature vectors
    rule      `steepest`, `random` or `learned`
    raises    ValueError if a shape does not fit or the head returns a NaN
    """
    features = checked_rows("features", features, len(indices))
    steps = np.full(len(indices), NEVER, dtype=np.int64)
    for block in np.unique(indices // BLOCK):
        left = np.flatnonzero(indices // BLOCK == block)
        classes = _predicted(head, features[left].astype(np.float64))
        for step, eps in enumerate(step_limits(cap).tolist()):
            for number, anchor in enumerate(anchors.astype(np.float64)):
                rows = features[left].astype(np.float64)
                mixing = Mixing(left, indices[left], rows, anchor - rows, classes, eps, (step, number))
                flipped = _flipped(head, mixing, rule)
                steps[left[flipped]] = step + 1
                left, classes = left[~flipped], classes[~flipped]
    return steps


def _flipped(head: Head, mixing: Mixing, rule: Rule) -> np.ndarray:
    """bool [m]: a move of the rule changes the prediction. Where nothing moves it stays, whatever the head rounds."""
    flipped = np.zeros(len(mixing.positions), dtype=bool)
    if len(flipped):
        for moves in rule(mixing):
            changed = _predicted(head, mixing.features + moves) != mixing.classes
            flipped |= changed & moves.any(axis=1)
    return flipped


def _predicted(head: Head, features: np.ndarray) -> np.ndarray:
    logits = head(features)
    if logits.ndim != 2 or len(logits) != len(features) or np.isnan(logits).any():
        raise ValueError(f"the head must return numbers of shape [{len(features)}, C], got shape {logits.shape} or NaN")
    return logits.argmax(axis=1)


def steepest(gradients: np.ndarray) -> Rule:
    """The paper's closed form for the best alpha: eps |path| / (sqrt(D) |G|) * G / path.

    Columns where features and anchor are both 0 stay, as in the closed form (see `mixed_head`).

    gradients  [n, D] G, of each row's cross-entropy at its predicted class; rows of zeros never move
    """

    def moves(mixing: Mixing) -> Iterator[np.ndarray]:
        directions = gradients[mixing.positions].astype(np.float64)
        norms, lengths = np.linalg.norm(directions, axis=1), np.linalg.norm(mixing.paths, axis=1)
        scale = mixing.eps / math.sqrt(directions.shape[1]) * lengths / np.where(norms > 0, norms, 1.0)
        yield scale[:, None] * directions * ((mixing.features != 0) | (mixing.paths != 0))

    return moves


def random(seed: int) -> Rule:
    """Another alpha for every image, anchor, step and column: normal with mean and deviation eps / 2, in [1e-8, eps].

    The same for an image whatever the shards.
    """

    def moves(mixing: Mixing) -> Iterator[np.ndarray]:
        yield _drawn(seed, mixing) * mixing.paths

    return moves


def learned(seed: int, gradient: Gradient, iterations: int = 5, rate: float = 0.1, shrink: float = 0.01) -> Rule:
    """Random alphas, then steps that raise the cross-entropy and keep |alpha| small: loss = -CE + shrink · |alpha|.

    Every alpha before a step is tried, the last is not; the rate falls to a tenth after two thirds of the iterations.
    As in the authors' code Adam starts anew at every step, so that it moves by its rate in the sign of the gradient.
    """

    def moves(mixing: Mixing) -> Iterator[np.ndarray]:
        alphas = _drawn(seed, mixing)
        for iteration in range(iterations):
            yield alphas * mixing.paths
            uphill = gradient(mixing.features + alphas * mixing.paths, mixing.classes)
            slopes = shrink * alphas / np.linalg.norm(alphas, axis=1, keepdims=True) - uphill * mixing.paths
            now = rate if iteration < iterations * 2 / 3 else rate / 10
            alphas = np.clip(alphas - now * slopes / (np.abs(slopes) + 1e-8), _LEAST, mixing.eps)

    return moves


def _drawn(seed: int, mixing: Mixing) -> np.ndarray:
    """float64 [m, D] random alphas; a block of dataset indices has a stream of its own."""
    stream = np.random.default_rng([seed, *mixing.where, int(mixing.indices[0]) // BLOCK])
    normals = stream.standard_normal((BLOCK, mixing.features.shape[1]))[mixing.indices % BLOCK]
    return np.clip(mixing.eps / 2 * (1 + normals), _LEAST, mixing.eps)


@dataclass(frozen=True)
class LinearHead:
    """A head of weights [C, D] and bias [C], with what the rules need of it.

    The closed form of `alpha_steps` does the work of `steepest` for it, some hundred times faster.
    """

    weights: np.ndarray
    bias: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Logits [m, C]."""
        return features @ self.weights.T.astype(np.float64) + self.bias

    def gradient(self, features: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """(p - onehot) · weights [m, D], p_y - 1 as minus the sum of the others, so that nothing cancels."""
        logits = self(features)
        residuals = np.exp(logits - logits.max(axis=1, keepdims=True))
        residuals /= residuals.sum(axis=1, keepdims=True)
        own = classes[:, None]
        np.put_along_axis(residuals, own, 0.0, axis=1)
        np.put_along_axis(residuals, own, -residuals.sum(axis=1, keepdims=True), axis=1)
        return residuals @ self.weights.astype(np.float64)
