"""Uncertainty scores of class probabilities: float64 [n], higher = more wanted (Settles 2009, section 3.1).

Every function takes `probs` [n, C], rows that sum to one, and raises ValueError if they are not finite and >= 0.
"""

from collections.abc import Callable

import numpy as np

_TINY = np.finfo(np.float64).tiny
_NUMBERS = 2**17  # probabilities scored at a time: 1 MB of float64, so that they and a copy stay in the cache


def least_confidence(probs: np.ndarray) -> np.ndarray:
    """1 - p1, p1 the highest probability: 0 for a certain image, 1 - 1/C for a uniform one."""
    return _scored(probs, 1, lambda p: 1.0 - p.max(axis=1))


def margin(probs: np.ndarray) -> np.ndarray:
    """1 - (p1 - p2), p1 and p2 the two highest: 1 when they are equal."""
    return _scored(probs, 2, lambda p: 1.0 + np.subtract(*_two_highest(p)))


def ratio(probs: np.ndarray) -> np.ndarray:
    """p2 / p1, p1 and p2 the two highest: 1 when they are equal.

    The literature takes the smallest p1 / p2; this is its inverse, so that higher = more wanted and p2 = 0 is harmless.
    """
    return _scored(probs, 2, lambda p: np.divide(*_two_highest(p)))


def entropy(probs: np.ndarray) -> np.ndarray:
    """-sum p ln p in nats, with 0 ln 0 = 0: ln C for a uniform image."""
    return _scored(probs, 1, lambda p: np.abs((p * np.log(np.maximum(p, _TINY))).sum(axis=1)))


def _two_highest(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """p2 and p1 of every row."""
    highest = np.partition(p, p.shape[1] - 2, axis=1)[:, -2:]
    return highest[:, 0], highest[:, 1]


def _scored(probs: np.ndarray, least_classes: int, score: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """`score` of all rows in float64, once it is known that they can be probabilities."""
    probs = np.asarray(probs)
    if probs.ndim != 2 or probs.shape[1] < least_classes:
        raise ValueError(f"probs must have shape [n, C] with C >= {least_classes}, got {probs.shape}")
    low, high = probs.min(initial=0), probs.max(initial=0)  # NaN if there is one
    if not (low >= 0 and high < np.inf):
        raise ValueError(f"probs must be finite and >= 0, got values from {low} to {high}; are these logits?")
    scores = np.empty(len(probs))
    step = max(1, _NUMBERS // probs.shape[1])
    for first in range(0, len(probs), step):
        scores[first : first + step] = score(probs[first : first + step].astype(np.float64))
    return scores
