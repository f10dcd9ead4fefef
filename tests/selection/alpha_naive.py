"""ALFA-Mix as its paper and its authors' code write it, in float64, one image, anchor and step at a time."""

import numpy as np


def gradient(logits: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[D] of the cross-entropy at the predicted class: W^T (p - onehot), p_y - 1 without cancellation."""
    own = int(np.argmax(logits))
    p = np.exp(logits - logits.max())
    p /= p.sum()
    p[own] = -(p.sum() - p[own]) if p[own] < 0.5 else -np.delete(p, own).sum()
    return p @ weights


def first_step(
    h: np.ndarray, weights: np.ndarray, bias: np.ndarray, anchors: np.ndarray, cap: float, guard: float = 1e-8
) -> int | None:
    """The first step of an image [D] at which some anchor changes the prediction; None: never.

    guard  what the code adds to a path; 0: the limit of a small one, but columns where both are the same number move
    """
    logits = weights @ h + bias
    own = int(np.argmax(logits))
    g = gradient(logits, weights)
    length = np.linalg.norm(g)
    step = 0
    while length > 0 and step * cap < 1:
        step += 1
        for anchor in anchors:
            z = anchor - h
            if guard:
                alpha = step * cap / np.sqrt(len(h)) * np.linalg.norm(z) / length * g / (z + guard)
                mixed = (1 - alpha) * h + alpha * anchor
            else:
                mixed = h + step * cap / np.sqrt(len(h)) * np.linalg.norm(z) / length * g * ((h != 0) | (anchor != 0))
            if int(np.argmax(weights @ mixed + bias)) != own:
                return step
    return None
