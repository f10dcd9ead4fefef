"""A linear head whose input moves towards anchors, as in ALFA-Mix: when does its prediction change?

With eps, the features h of an image, an anchor z* and G, the gradient of the cross-entropy at the predicted class y,
alpha = eps |z* - h| / (sqrt(D) |G|) * G / (z* - h) moves h by alpha * (z* - h), that is by

    eps |z* - h| / (sqrt(D) |G|) * G   in every column but those where z* and h are both 0, by nothing in these.

So the direction hardly depends on the anchor, the logits change linearly with eps, and class k overtakes y at

    eps_k = sqrt(D) |G| (l_y - l_k) / (|z* - h| (w_k - w_y)·G)       if the last product is above 0, else never.

The critical eps of the image is the smallest over all anchors and classes.
"""

import math

import numpy as np

ULP = 2.0**-52


class MixedHead:
    """Weights [C, D] and anchors [A, D], and the critical eps of one row at a time.

    largest      norm of a row of weights
    norm_error   bound on the rounding of |G|, and on |rounding of G|, with room; G in units of `gaps_and_residuals`
    slope_error  of (w_k - w_y)·G
    """

    def __init__(self, weights: np.ndarray, anchors: np.ndarray) -> None:
        self.weights, self.anchors = weights.astype(np.float64), anchors.astype(np.float64)
        self.n_classes, self.width = weights.shape
        self.largest = float(np.sqrt(np.square(self.weights).sum(axis=1)).max())
        self.norm_error = 16 * (self.n_classes + self.width + 16) * ULP * self.largest
        self.slope_error = self.norm_error * self.largest

    def critical(self, row: np.ndarray, logits: np.ndarray, rivals: np.ndarray) -> float:
        """The critical eps of features [D] with logits [C]; every sum has an order of its own, whatever is beside it.

        rivals   bool [C] the classes that may be the first to overtake
        returns  infinity where G is 0, or nothing but rounding
        """
        gaps, residuals = gaps_and_residuals(logits[None])
        gradient = np.einsum("c,cd->d", residuals[0], self.weights)
        norm = float(np.sqrt(np.square(gradient).sum()))
        if not residuals.any() or norm <= 2 * self.norm_error:
            return np.inf
        paths = self.anchors - row
        moved = gradient * ((self.anchors != 0) | (row != 0))
        own, others = (np.einsum("ad,cd->ac", moved, self.weights[which]) for which in ([logits.argmax()], rivals))
        reach = divided(gaps[:, rivals], others - own).min(axis=1, initial=np.inf)
        lengths = np.sqrt(np.square(paths).sum(axis=1))
        return float(divided(reach, lengths).min()) * math.sqrt(self.width) * norm


def gaps_and_residuals(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64 [n, C] twice: l_y - l_k (infinite at y), and the residuals of which G is the product with the weights.

    A residual p - onehot(y) is divided by 1 - p_y, so it is right however certain the prediction is: -1 at y, the
    softmax over the other classes elsewhere. All 0 where their probabilities underflow.
    """
    values, own = logits.astype(np.float64), logits.argmax(axis=1)[:, None]
    gaps = np.take_along_axis(values, own, axis=1) - values
    np.put_along_axis(gaps, own, np.inf, axis=1)
    residuals = np.exp(-gaps)
    totals = residuals.sum(axis=1, keepdims=True)
    residuals /= np.where(totals > 0, totals, 1.0)
    np.put_along_axis(residuals, own, np.where(totals > 0, -1.0, 0.0), axis=1)
    return gaps, residuals


def divided(values: np.ndarray, by: np.ndarray) -> np.ndarray:
    """values / by where `by` is above 0, else infinite: nothing is reached without a move."""
    with np.errstate(over="ignore"):
        return np.divide(values, by, out=np.full(np.broadcast_shapes(values.shape, by.shape), np.inf), where=by > 0)
