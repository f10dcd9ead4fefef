"""Uncertainty scores of class probabilities: float64 [n], higher = more wanted (Settles 2009, section 3.1).

Every function takes `probs` [n, C], rows that sum to one, and raises ValueError if they are not finite and >= 0.
"""

import numpy as np


def least_confidence(probs: np.ndarray) -> np.ndarray:
    """1 - p1, p1 the highest probability: 0 for a certain image, 1 - 1/C for a uniform one."""
    return 1.0 - _checked(probs, classes=1).max(axis=1)


def margin(probs: np.ndarray) -> np.ndarray:
    """1 - (p1 - p2), p1 and p2 the two highest: 1 when they are equal."""
    first, second = _two_highest(probs)
    return 1.0 - (first - second)


def ratio(probs: np.ndarray) -> np.ndarray:
    """p2 / p1, p1 and p2 the two highest: 1 when they are equal.

    The literature takes the smallest p1 / p2; this is its inverse, so that higher = more wanted and p2 = 0 is harmless.
    """
    first, second = _two_highest(probs)
    return second / first


def entropy(probs: np.ndarray) -> np.ndarray:
    """-sum p ln p in nats, with 0 ln 0 = 0: ln C for a uniform image."""
    p = _checked(probs, classes=1)
    return np.abs(np.sum(p * np.log(np.where(p > 0, p, 1.0)), axis=1))


def _two_highest(probs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    p = _checked(probs, classes=2)
    top = np.partition(p, p.shape[1] - 2, axis=1)[:, -2:]
    return top[:, 1], top[:, 0]


def _checked(probs: np.ndarray, classes: int) -> np.ndarray:
    """The same numbers in float64, once they are known to be probabilities of at least `classes` classes."""
    p = np.asarray(probs, dtype=np.float64)
    if p.ndim != 2 or p.shape[1] < classes:
        raise ValueError(f"probs must have shape [n, C] with C >= {classes}, got {p.shape}")
    if not (p >= 0).all() or not np.isfinite(p).all() or not p.any(axis=1).all():
        raise ValueError("probs must be finite, >= 0 and not all zero in a row; are these logits?")
    return p
