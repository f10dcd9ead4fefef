"""Purity scores of a plain classifier, without training anything for them: float64 [n], higher = surer to be known."""

from dataclasses import dataclass

import numpy as np

from openal_ray.selection.digits import encode, inner_products
from openal_ray.selection.purity.energies import aleatoric, log_sum_exp
from openal_ray.selection.similarity import directions, most_similar

_TILE = 4096  # rows projected at a time


def max_softmax(logits: np.ndarray) -> np.ndarray:
    """-ln(1 - p1), p1 the largest probability (Hendrycks & Gimpel 2017): the order of p1, but it does not saturate."""
    return -aleatoric(logits)


def max_logit(logits: np.ndarray) -> np.ndarray:
    """The largest logit (Hendrycks et al. 2022; the baseline Max_AV of LfOSA's code)."""
    return np.asarray(logits).max(axis=1).astype(np.float64)


def energy(logits: np.ndarray) -> np.ndarray:
    """ln Σ exp(logits), the negative free energy (Liu et al. 2020, temperature 1)."""
    return log_sum_exp(logits)


def neighbour_similarity(features: np.ndarray, labelled: np.ndarray, k: int = 50) -> np.ndarray:
    """Cosine to the k-th most similar labelled image, or to the least similar where there are fewer.

    features, labelled  [n, D] and [L, D], L > 0
    source              Sun et al. 2022, whose distance of unit features falls as the cosine grows
    """
    return most_similar(directions(features), directions(labelled), min(k, len(labelled)))[1][:, -1]


@dataclass(frozen=True)
class Vim:
    """What ViM keeps of the labelled images.

    origin    float64 [D]
    residual  float64 [R, D] orthonormal: the directions that the labelled features hardly use
    alpha     scales the length in them to the size of logits; 0 where labelled images have no length there, which
              leaves the energy
    """

    origin: np.ndarray
    residual: np.ndarray
    alpha: float

    def purity(self, features: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """ln Σ exp(logits) minus the virtual logit: the order of the paper's score 1 - softmax of that logit."""
        return log_sum_exp(logits) - self.alpha * _lengths(features, self.origin, self.residual)


def fit_vim(
    features: np.ndarray,
    logits: np.ndarray,
    weight: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    dimension: int | None = None,
) -> Vim:
    """ViM from the labelled images (Wang et al. 2022, section 4).

    features, logits  [L, D] and [L, C]
    weight, bias      [C, D] and [C] of the last layer: the origin is where all its logits are 0, by least squares;
                      None: the mean feature
    dimension         of the principal space; None: 1000 from D = 2048 on, 512 from 768 on, else D // 2
    """
    rows = np.asarray(features, dtype=np.float64)
    d = rows.shape[1]
    if not len(rows):
        raise ValueError("ViM needs at least one labelled image")
    if dimension is None:
        dimension = 1000 if d >= 2048 else 512 if d >= 768 else d // 2
    if not 0 <= dimension < max(1, d):
        raise ValueError(f"the principal space of {d} features must have 0 … {d - 1} dimensions, got {dimension}")
    origin = rows.mean(axis=0) if weight is None or bias is None else -np.linalg.pinv(weight) @ bias
    scatter = (rows - origin).T @ (rows - origin)
    residual = np.linalg.eigh(scatter)[1].T[: d - dimension]  # ascending eigenvalues
    lengths = _lengths(rows, origin, residual).mean()
    alpha = float(max_logit(logits).mean() / lengths) if lengths > 0 else 0.0
    return Vim(origin, residual, alpha)


def _lengths(features: np.ndarray, origin: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """Euclidean length float64 [n] of what lies in the residual directions.

    By digits: right to about 1e-4 of the distance to the origin, and the same whatever rows stand beside a row.
    """
    axes = encode(residual, two=True)
    result = np.empty(len(features))
    for low in range(0, len(features), _TILE):
        rows = encode(np.asarray(features[low : low + _TILE], dtype=np.float64), origin, two=True)
        units = np.outer(rows.norms / rows.lengths, axes.norms / axes.lengths)
        parts = inner_products(rows, axes).cpu().numpy() * units
        result[low : low + _TILE] = np.sqrt(np.square(parts).sum(axis=1))
    return result
