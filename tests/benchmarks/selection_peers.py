"""What others do, for the selection benchmark: scikit-activeml as published, if it is installed (`pip install
openal-ray[bench]`), and the algorithms of others, written anew as well as vectorised code allows."""

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import torch
from scipy import stats
from sklearn.metrics import pairwise_distances


def k_center_per_pick(points: np.ndarray, covered: np.ndarray, k: int) -> list[int]:
    """Running minimum in float32, one matrix-vector product a pick: good vectorised code, no copy of the points."""
    rows, centres = torch.from_numpy(points), torch.from_numpy(covered)
    norms, centre_norms = (rows * rows).sum(dim=1), (centres * centres).sum(dim=1)
    squared = torch.full((len(rows),), torch.inf)
    for low in range(0, len(rows) if len(centres) else 0, 4096):
        tile = slice(low, low + 4096)
        squared[tile] = torch.addmm(centre_norms, rows[tile], centres.t(), alpha=-2).amin(dim=1) + norms[tile]
    picks: list[int] = []
    for _ in range(k):
        pick = int(squared.argmax())
        picks.append(pick)
        to_pick = torch.mv(rows, rows[pick]).mul_(-2).add_(norms).add_(norms[pick])
        torch.minimum(squared, to_pick, out=squared)
        squared[pick] = -1.0  # and so it stays
    return picks


def k_center_running_minimum(points: np.ndarray, covered: np.ndarray, k: int) -> list[int]:
    """The widely copied form: scikit-learn distances of all rows, labelled ones too, to each new centre."""
    rows = np.concatenate([points, covered])
    nearest = np.full(len(rows), np.inf)
    if len(covered):
        nearest = pairwise_distances(rows, covered).min(axis=1)
    picks: list[int] = []
    for _ in range(k):
        picks.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, pairwise_distances(rows, rows[picks[-1:]])[:, 0])
    return picks


def badge_factored(left: np.ndarray, right: np.ndarray, k: int, rng: np.random.Generator) -> list[int]:
    """One pick at a time from the factors: two matrix-vector products and an inverse-CDF draw a pick."""
    norms = np.square(left).sum(axis=1, dtype=np.float64) * np.square(right).sum(axis=1, dtype=np.float64)
    picks = [int(np.argmax(norms))]
    weights = np.full(len(norms), np.inf)
    while True:
        pick = picks[-1]
        squared = norms + norms[pick] - 2.0 * (left @ left[pick]) * (right @ right[pick])
        np.minimum(weights, np.maximum(squared, 0), out=weights)
        weights[pick] = 0.0  # and so it stays
        if len(picks) == k:
            return picks
        running = np.cumsum(weights)
        picks.append(int(np.searchsorted(running, rng.random() * running[-1], side="right")))


def badge_as_published(left: np.ndarray, right: np.ndarray, k: int, rng: np.random.Generator) -> list[int]:
    """The same with the steps of its authors' code: a discrete law object built anew for every pick."""
    norms = np.square(left).sum(axis=1) * np.square(right).sum(axis=1)
    picks = [int(np.argmax(norms))]
    distances = np.full(len(norms), np.inf)
    while True:
        pick = picks[-1]
        squared = norms + norms[pick] - 2.0 * (left @ left[pick]) * (right @ right[pick])
        distances = np.minimum(distances, np.sqrt(np.maximum(squared, 0)))
        distances[picks] = 0.0
        if len(picks) == k:
            return picks
        law = (distances**2) / sum(distances**2)
        drawn = stats.rv_discrete(values=(np.arange(len(law)), law), seed=rng).rvs(size=1)[0]
        while drawn in picks:
            drawn = stats.rv_discrete(values=(np.arange(len(law)), law), seed=rng).rvs(size=1)[0]
        picks.append(int(drawn))


def badge_explicit(left: np.ndarray, right: np.ndarray, k: int, rng: np.random.Generator) -> list[int]:
    """k-means++ on the materialised [n, C * D] gradients with torch.cdist, as in the first public codes."""
    rows = torch.from_numpy(np.einsum("nc,nd->ncd", left, right).reshape(len(left), -1))
    picks = [int(torch.linalg.vector_norm(rows, dim=1).argmax())]
    distances = torch.full((len(rows),), torch.inf)
    while True:
        distances = torch.minimum(distances, torch.cdist(rows, rows[picks[-1:]])[:, 0])
        distances[picks] = 0.0
        if len(picks) == k:
            return picks
        running = distances.double().square().cumsum(dim=0).numpy()
        picks.append(int(np.searchsorted(running, rng.random() * running[-1], side="right")))


def sorted_scores(logits: torch.Tensor, k: int) -> list[np.ndarray]:
    """The best k by least confidence, margin, ratio and entropy, each with its own softmax and full sort."""
    best = []
    for name in ("least_confidence", "margin", "ratio", "entropy"):
        probs = logits.softmax(dim=1)
        if name == "least_confidence":
            score = 1 - probs.max(dim=1)[0]
        elif name == "entropy":
            score = -torch.xlogy(probs, probs).sum(dim=1)
        else:
            highest = probs.sort(dim=1, descending=True)[0]
            score = 1 - highest[:, 0] + highest[:, 1] if name == "margin" else highest[:, 1] / highest[:, 0]
        best.append(score.sort(descending=True)[1][:k].numpy())
    return best


HAS_SCIKIT_ACTIVEML = find_spec("skactiveml") is not None
Draws = Callable[[np.ndarray, np.ndarray, int, np.random.Generator], list[int]]


def scikit_activeml_core_set(points: np.ndarray, covered: np.ndarray, k: int) -> list[int]:
    """Its CoreSet: all rows, of which the covered ones have a label."""
    from skactiveml.pool import CoreSet

    labels = np.full(len(points) + len(covered), np.nan)
    labels[len(points) :] = 0
    return CoreSet(random_state=0).query(np.concatenate([points, covered]), labels, batch_size=k).tolist()


def scikit_activeml_badge(left: np.ndarray, right: np.ndarray, k: int, rng: np.random.Generator) -> list[int]:
    """Its Badge, around a classifier that gives the probabilities of `left`."""
    from skactiveml.base import SkactivemlClassifier
    from skactiveml.pool import Badge

    class Known(SkactivemlClassifier):
        """Knows the answers."""

        def fit(self, X: np.ndarray, y: np.ndarray) -> "Known":
            return self

        def predict_proba(self, X: np.ndarray) -> np.ndarray:
            probs = left.copy()
            probs[np.arange(len(left)), left.argmin(axis=1)] += 1  # the predicted class, whose one was taken off
            return probs

    strategy = Badge(random_state=int(rng.integers(2**31)))
    return list(strategy.query(right, np.full(len(right), np.nan), Known(), fit_clf=False, batch_size=k))
