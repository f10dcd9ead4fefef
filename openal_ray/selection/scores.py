"""Uncertainty scores of class probabilities: float64 [n], higher = more wanted (Settles 2009, section 3.1).

Functions of `probs` [n, C] look at one prediction an image; functions of `mc_probs` [n, T, C] at T of them, from
passes under dropout or from the members of a committee. Rows over the classes sum to one; ValueError is raised if they
are not finite and >= 0. Of the mean prediction, scores are those of mc_probs.mean(axis=1).
"""

from collections.abc import Callable

import numpy as np

_TINY = np.finfo(np.float64).tiny
_NUMBERS = 2**17  # probabilities scored at a time: 1 MB of float64, so that they and a copy stay in the cache


def least_confidence(probs: np.ndarray) -> np.ndarray:
    """1 - p1, p1 the highest probability: 0 for a certain image, 1 - 1/C for a uniform one."""
    return _scored(probs, lambda p: 1.0 - p.max(axis=1))


def margin(probs: np.ndarray) -> np.ndarray:
    """1 - (p1 - p2), p1 and p2 the two highest: 1 when they are equal."""
    return _scored(probs, lambda p: 1.0 + np.subtract(*_two_highest(p)))


def ratio(probs: np.ndarray) -> np.ndarray:
    """p2 / p1, p1 and p2 the two highest: 1 when they are equal.

    The literature takes the smallest p1 / p2; this is its inverse, so that higher = more wanted and p2 = 0 is harmless.
    """
    return _scored(probs, lambda p: np.divide(*_two_highest(p)))


def entropy(probs: np.ndarray) -> np.ndarray:
    """-sum p ln p in nats, with 0 ln 0 = 0: ln C for a uniform image."""
    return _scored(probs, _entropies)


def bald(mc_probs: np.ndarray) -> np.ndarray:
    """Entropy of the mean prediction minus mean entropy of the predictions, in nats: 0 where all of them agree.

    The information that the label holds about the weights (Houlsby et al. 2011, arXiv 1112.5745), at most ln T. Never
    below 0, where rounding would put it.
    """
    return _scored_passes(mc_probs, lambda p: np.maximum(_entropies(p.mean(axis=1)) - _entropies(p).mean(axis=1), 0.0))


def mean_std(mc_probs: np.ndarray) -> np.ndarray:
    """Standard deviation of each class over the passes (population), averaged over the classes.

    Source: Kampffmeyer et al. 2016; Gal et al. 2017 (arXiv 1703.02910), section 5.
    """
    return _scored_passes(mc_probs, lambda p: p.std(axis=1).mean(axis=1))


def variation_ratio(mc_probs: np.ndarray) -> np.ndarray:
    """Share of the passes that do not vote for the class with most votes; a pass's ties go to the lower class.

    Source: Freeman 1965; Gal et al. 2017 (arXiv 1703.02910), section 3.
    """
    return _scored_passes(mc_probs, lambda p: 1.0 - _votes(p).max(axis=1))


def vote_entropy(mc_probs: np.ndarray) -> np.ndarray:
    """Entropy of the votes in nats: 0 if all passes vote for one class; a pass's ties go to the lower class.

    Source: Dagan & Engelson 1995, whose division by the logarithm of the number of votes changes no order: left out.
    """
    return _scored_passes(mc_probs, lambda p: _entropies(_votes(p)))


def _entropies(p: np.ndarray) -> np.ndarray:
    """Of the last axis."""
    return np.abs((p * np.log(np.maximum(p, _TINY))).sum(axis=-1))


def _votes(p: np.ndarray) -> np.ndarray:
    """Share of the passes [n, C] that predict each class."""
    return (p.argmax(axis=2)[:, :, None] == np.arange(p.shape[2])).mean(axis=1)


def _two_highest(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """p2 and p1 of every row; p2 is 0 where there is but one class, so that such an image is certain."""
    if p.shape[1] == 1:
        return np.zeros(len(p)), p[:, 0]
    highest = np.partition(p, p.shape[1] - 2, axis=1)[:, -2:]
    return highest[:, 0], highest[:, 1]


def _scored(probs: np.ndarray, score: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """`score` of all rows in float64, once it is known that they can be probabilities."""
    probs = np.asarray(probs)
    if probs.ndim != 2 or probs.shape[1] < 1:
        raise ValueError(f"probs must have shape [n, C] with C >= 1, got {probs.shape}")
    return _in_pieces("probs", probs, score)


def _scored_passes(mc_probs: np.ndarray, score: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The same for several predictions an image."""
    mc_probs = np.asarray(mc_probs)
    if mc_probs.ndim != 3 or 0 in mc_probs.shape[1:]:
        raise ValueError(f"mc_probs must have shape [n, T, C] with T and C >= 1, got {mc_probs.shape}")
    return _in_pieces("mc_probs", mc_probs, score)


def _in_pieces(name: str, probs: np.ndarray, score: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    low, high = probs.min(initial=0), probs.max(initial=0)  # NaN if there is one
    if not (low >= 0 and high < np.inf):
        raise ValueError(f"{name} must be finite and >= 0, got values from {low} to {high}; are these logits?")
    scores = np.empty(len(probs))
    step = max(1, _NUMBERS // int(np.prod(probs.shape[1:])))
    for first in range(0, len(probs), step):
        scores[first : first + step] = score(probs[first : first + step].astype(np.float64))
    return scores
