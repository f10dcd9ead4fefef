"""CLIPN's scores from the cosines of an image to "yes" and "no" texts of every class, and CLIPNAL's scale.

Wang et al. 2023 (ICCV) for the scores; arXiv 2408.04917 (CLIPNAL, VLPure-AL) for the rule and the search. Differs: the
prototype of a class leaves out the image that it is compared with; without rejected images the scale is CLIPN's own.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from openal_ray.selection.similarity import directions, products

CLIPN_SCALE = 100.0
SCALES = np.arange(1, 1001) / 10.0
"""Those that CLIPNAL tries."""

_NUMBERS = 2**20  # class scores at a time while scales are tried: 8 MB


def yes_probability(yes: np.ndarray, no: np.ndarray, scale: float | np.ndarray) -> np.ndarray:
    """P(yes) float64 of cosines [n, C]: softmax over the pair yes, no of scale · cosine."""
    result: np.ndarray = expit(scale * (np.asarray(yes, np.float64) - np.asarray(no, np.float64)))
    return result


def agreement(yes: np.ndarray, no: np.ndarray, scale: float = CLIPN_SCALE) -> np.ndarray:
    """Agreeing-to-differ (ATD) float64 [n]: the probability to be any class; higher = surer to be known."""
    return (yes_probability(yes, no, scale) * _softmax(scale * np.asarray(yes, np.float64))).sum(axis=1)


def competition(yes: np.ndarray, no: np.ndarray, scale: float = CLIPN_SCALE) -> np.ndarray:
    """Competing-to-win (CTW) float64 [n]: P(yes) of the class of largest "yes"; known from one half on."""
    best = np.asarray(yes).argmax(axis=1)
    return yes_probability(yes, no, scale)[np.arange(len(best)), best]


@dataclass(frozen=True)
class Prototypes:
    """Mean unit embeddings of the labelled images of each class.

    sums     float64 [C, D]
    counts   int64 [C]
    """

    sums: np.ndarray
    counts: np.ndarray

    @staticmethod
    def of(embeddings: np.ndarray, classes: np.ndarray, n_classes: int) -> "Prototypes":
        """embeddings [L, D] of labelled images, classes int64 [L]."""
        sums = np.zeros((n_classes, embeddings.shape[1]))
        np.add.at(sums, classes, directions(embeddings))
        return Prototypes(sums, np.bincount(classes, minlength=n_classes))

    def similarity(self, embeddings: np.ndarray, own: np.ndarray | None = None) -> np.ndarray:
        """<unit embedding, prototype> float64 [n, C]; -inf for classes without a prototype.

        own   int64 [n]: the class whose prototype an image is part of, and is left out of; -1: none
        """
        rows = directions(embeddings)
        totals, counts = products(rows, self.sums), np.tile(self.counts.astype(np.float64), (len(rows), 1))
        if own is not None:
            part = np.flatnonzero(own >= 0)
            totals[part, own[part]] -= np.square(rows[part]).sum(axis=1)
            counts[part, own[part]] -= 1
        return np.where(counts > 0, totals / np.maximum(counts, 1), -np.inf)


def clipnal_margin(yes: np.ndarray, no: np.ndarray, scale: float, similarity: np.ndarray | None = None) -> np.ndarray:
    """CLIPNAL's purity float64 [n]: predicted known where it is above 0.

    max_c a_c - (1 - Σ_c a_c) with a_c = P(yes)_c · softmax_c(scale · yes). With the similarity [n, C] to prototypes, a
    in the maximum is multiplied by softmax_c(scale · similarity), and the second term is divided by C.
    """
    parts = _parts(np.asarray(yes, np.float64), np.asarray(no, np.float64), np.array([scale]), similarity)
    return parts[0][0] - parts[1][0]


def search_scale(
    yes: np.ndarray,
    no: np.ndarray,
    is_ood: np.ndarray,
    similarity: np.ndarray | None = None,
    scales: np.ndarray = SCALES,
) -> float:
    """The first of the scales at which the mean of both accuracies, on known and on rejected images, is highest.

    yes, no, similarity  [m, C] of labelled and rejected images
    is_ood               bool [m]; where all or none are, nothing can be weighed, and it is CLIPN's 100
    """
    yes, no = np.asarray(yes, np.float64), np.asarray(no, np.float64)
    is_ood = np.asarray(is_ood, dtype=bool)
    if is_ood.all() or not is_ood.any():
        return CLIPN_SCALE
    quality = np.empty(len(scales))
    step = max(1, _NUMBERS // yes.size)
    for low in range(0, len(scales), step):
        known, unknown = _parts(yes, no, scales[low : low + step], similarity)
        accepted = known > unknown
        right = accepted[:, ~is_ood].sum(axis=1) / (~is_ood).sum() + (~accepted[:, is_ood]).sum(axis=1) / is_ood.sum()
        quality[low : low + step] = right
    return float(scales[np.argmax(quality)])


def _parts(
    yes: np.ndarray, no: np.ndarray, scales: np.ndarray, similarity: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """CLIPNAL's score to be known and to be unknown float64 [S, n] each, at S scales."""
    by_scale = scales[:, None, None]
    chances = yes_probability(yes, no, by_scale) * _softmax(by_scale * yes)
    unknown = 1.0 - chances.sum(axis=-1)
    if similarity is None:
        return chances.max(axis=-1), unknown
    return (chances * _softmax(by_scale * similarity)).max(axis=-1), unknown / yes.shape[-1]


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis; uniform where all are -inf."""
    highest = logits.max(axis=-1, keepdims=True)
    logits = np.where(np.isfinite(highest), logits, 0.0)
    weights = np.exp(logits - np.where(np.isfinite(highest), highest, 0.0))
    result: np.ndarray = weights / weights.sum(axis=-1, keepdims=True)
    return result
