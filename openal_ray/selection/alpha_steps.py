"""The step at which ALFA-Mix first changes an image's prediction, in closed form for a linear head.

The first step whose eps is at least the critical one (see `mixed_head`) replaces a pass of the head for every anchor
and step. It is found from an interval that holds the critical eps whatever the rounding of a matrix product; where the
limit of a step is in the interval too, the row is computed anew on its own: no result depends on what is beside a row.

Source: Parvaneh et al. 2022 (arXiv 2203.07034), section 3.3 and its authors' code. Differs: no 1e-8 beside z* - h;
a column where both are the same number moves, unless that number is 0 (the code's 1e-8 holds it; rare but in grids).
"""

import math

import numpy as np

from openal_ray.selection.alpha_bounds import CriticalBounds
from openal_ray.selection.halves import checked_rows
from openal_ray.selection.mixed_head import MixedHead

NEVER = 2**31 - 1
"""The first step of an image whose prediction no step changes."""

_TILE = 1024  # rows at a time: their products and gradients stay in the cache


def step_limits(cap: float) -> np.ndarray:
    """The eps of every step: cap, 2 cap, ... up to the first that is at least 1. ValueError unless 0 < cap <= 1."""
    if not 0 < cap <= 1:
        raise ValueError(f"alpha_cap must be above 0 and at most 1, got {cap}")
    limits = cap * np.arange(1, math.ceil(1 / cap) + 2)
    return limits[: int(np.searchsorted(limits, 1.0)) + 1]


def first_steps(
    features: np.ndarray, logits: np.ndarray, weights: np.ndarray, anchors: np.ndarray, cap: float = 1 / 32
) -> np.ndarray:
    """int64 [n]: the first step, from 1 on, at which some anchor changes the prediction of each image, or NEVER.

    features  [n, D] the input of the linear head
    logits    [n, C] its output; log-probabilities will do, as only differences matter
    weights   [C, D] of the head; its bias is in the logits
    anchors   [A, D] mean labelled feature vectors (see `class_anchors`)
    cap       eps of a step
    raises    ValueError if shapes do not fit or a number is not finite

    An image is never changed where G is 0 (up to rounding): a head that is the same for all classes, or a prediction
    so certain that the other probabilities are 0 in float64.
    """
    features, largest = _finite("features", features, len(logits))
    logits = _finite("logits", logits, len(features))[0]
    weights, anchors = (
        _finite(name, rows, len(rows))[0] for name, rows in (("weights", weights), ("anchors", anchors))
    )
    shapes = (logits.shape[1], features.shape[1]), (len(anchors), features.shape[1])
    if (weights.shape, anchors.shape) != shapes:
        raise ValueError(f"weights and anchors must have shapes {shapes}, got {weights.shape} and {anchors.shape}")
    limits, head = step_limits(cap), MixedHead(weights, anchors)
    bounds = CriticalBounds(head, float(limits[-1]), largest)
    steps = np.empty(len(features), dtype=np.int64)
    for low in range(0, len(features), _TILE):
        tile = slice(low, low + _TILE)
        least, most, rivals = bounds.intervals(features[tile], logits[tile])
        step, last = (np.searchsorted(limits, end) for end in (least, most))
        for unsure in np.flatnonzero(step != last):
            row = low + unsure
            step[unsure] = np.searchsorted(limits, head.critical(features[row], logits[row], rivals[unsure]))
        steps[tile] = np.where(step < len(limits), step + 1, NEVER)
    return steps


def _finite(name: str, rows: np.ndarray, n: int) -> tuple[np.ndarray, float]:
    """The rows as an array of floats, and their largest absolute number, once it is known that it is one."""
    rows = checked_rows(name, rows, n)
    low, high = float(rows.min(initial=0)), float(rows.max(initial=0))
    if not np.isfinite([low, high]).all():
        raise ValueError(f"{name} must be finite, got values from {low} to {high}")
    return rows, max(-low, high)
