"""Open-set methods as their papers write them, with scipy and scikit-learn, on the whole pool at once."""

import warnings

import numpy as np
from scipy.special import logsumexp
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture


def by_sklearn(values: np.ndarray, iterations: int = 10, tolerance: float = 1e-2, reg: float = 5e-4) -> GaussianMixture:
    """scikit-learn's EM from 2-means that starts at both ends of the range."""
    column = values[:, None]
    ends = np.array([[values.min()], [values.max()]])
    cluster = KMeans(2, init=ends, n_init=1, tol=0).fit_predict(column)
    parts = [values[cluster == k] for k in (0, 1)]
    mixture = GaussianMixture(
        2,
        max_iter=iterations,
        tol=tolerance,
        reg_covar=reg,
        random_state=0,
        weights_init=[len(part) / len(values) for part in parts],
        means_init=[[part.mean()] for part in parts],
        precisions_init=[[[1 / (part.var() + reg)]] for part in parts],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mixture.fit(column)


def upper_posterior(values: np.ndarray) -> np.ndarray:
    """Posterior of the part of larger mean of numbers scaled to 0 … 1."""
    scaled = (values - values.min()) / np.ptp(values)
    mixture = by_sklearn(scaled)
    posterior: np.ndarray = mixture.predict_proba(scaled[:, None])[:, mixture.means_.argmax()]
    return posterior


def reverse_counts(rows: np.ndarray, labelled: np.ndarray, classes: np.ndarray, n_classes: int, k: int) -> np.ndarray:
    """[n, n_classes] of how many labelled rows of each class a row is among the k most similar."""
    rows, labelled = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (rows, labelled))
    counts = np.zeros((len(rows), n_classes))
    for row, label in zip(labelled, classes, strict=True):
        counts[np.argsort(-(rows @ row), kind="stable")[:k], label] += 1
    return counts


def eaoa_purity(detector: np.ndarray, counts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The product of both posteriors of EAOA."""

    def known(logits: np.ndarray, unknown: bool = True) -> np.ndarray:
        last = np.log1p(np.exp(logits[:, -1])) if unknown else 0.0
        return upper_posterior(logsumexp(logits[:, :-1], axis=1) - last)

    scaled = counts / np.where(sizes > 0, sizes / sizes[:-1].mean(), 1.0)
    return known(detector) * known(scaled, bool(sizes[-1]))
