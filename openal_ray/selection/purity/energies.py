"""Energies of logits in float64, safe at any size; each row from its own numbers alone."""

import numpy as np


def log_sum_exp(logits: np.ndarray) -> np.ndarray:
    """ln Σ exp(logits) float64 [n] of rows [n, C]; -inf where C = 0."""
    rows = np.ascontiguousarray(logits, dtype=np.float64)
    highest = rows.max(axis=1, initial=-np.inf)
    shift = np.where(np.isfinite(highest), highest, 0.0)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(rows - shift[:, None]).sum(axis=1)) + shift


def softplus(x: np.ndarray) -> np.ndarray:
    """ln(1 + exp x) float64, without overflow."""
    return np.logaddexp(0.0, np.asarray(x, dtype=np.float64))


def free_energy(logits: np.ndarray) -> np.ndarray:
    """-ln Σ exp(logits) float64 [n]: low for images that look like the known classes (Liu et al. 2020)."""
    return -log_sum_exp(logits)


def open_energy(logits: np.ndarray) -> np.ndarray:
    """Free energy of the known logits plus ln(1 + exp) of the unknown one, the last of [n, C+1]; low = known.

    EAOA (CVPR 2025): the epistemic uncertainty of a detector's logits, or of counts of reverse neighbours.
    """
    return free_energy(logits[:, :-1]) + softplus(logits[:, -1])


def known_log_odds(logits: np.ndarray) -> np.ndarray:
    """ln(P(known) / P(unknown)) float64 [n] of a detector's logits [n, C+1], the last of which is unknown."""
    return log_sum_exp(logits[:, :-1]) - np.asarray(logits[:, -1], dtype=np.float64)


def aleatoric(logits: np.ndarray) -> np.ndarray:
    """ln(1 - p1) float64 [n] of the softmax's largest p1: high for images between classes; 0 for a single class.

    EAOA computes it as the free energy of all logits minus that of all but the largest.
    """
    rows = np.asarray(logits, dtype=np.float64)
    if rows.shape[1] < 2:
        return np.zeros(len(rows))
    ordered = np.sort(rows, axis=1)
    return log_sum_exp(ordered[:, :-1]) - log_sum_exp(ordered)
