"""MQ-Net's query: informativeness and purity, standardised over the pool and combined by a network that answers taught.

Park et al. 2022 (NeurIPS), section 4. Differs: mean and deviation of the pool serve the images of a query too when the
network learns from them, where the published code standardises their purity among themselves; z is cut to ±10.
"""

from typing import Any

import numpy as np

from openal_ray.selection.columns import ColumnsHalf, Moments, fit_moments
from openal_ray.selection.halves import Halves, Picks, checked_sizes
from openal_ray.selection.inner import Inner
from openal_ray.selection.purity.meta_net import MetaNet
from openal_ray.selection.similarity import directions, most_similar
from openal_ray.selection.top_k import best_positions

_MOST_Z = 10.0


def labelled_similarity(features: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """MQ-Net's purity: the cosine float64 [n] to the most similar labelled image; 0 where nothing is labelled."""
    if not len(labelled):
        return np.zeros(len(features))
    return most_similar(directions(features), directions(labelled), 1)[1][:, 0]


def exp_z(columns: np.ndarray, moments: Moments) -> np.ndarray:
    """exp of the z-score float64 [n, K]."""
    return np.exp(np.clip(moments.standardised(columns), -_MOST_Z, _MOST_Z))


class MqnetHalf:
    """One shard's numbers.

    informativeness  [n] higher = more wanted
    purity           [n]
    log_probs        [n, C] of the classifier
    indices          int64 [n] ascending dataset indices; a block of BLOCK consecutive ones has all its rows here
    """

    def __init__(
        self, informativeness: np.ndarray, purity: np.ndarray, log_probs: np.ndarray, indices: np.ndarray
    ) -> None:
        self._raw = np.stack([informativeness, purity], axis=1).astype(np.float64)
        self._columns = ColumnsHalf(self._raw, indices)
        self._log_probs, self._indices = log_probs, np.asarray(indices, dtype=np.int64)

    def size(self) -> int:
        """The number of rows."""
        return len(self._indices)

    def inner(self, name: str, verb: str, *args: Any) -> Any:
        """A question to the `ColumnsHalf` of informativeness and purity."""
        return getattr(self._columns, verb)(*args)

    def best(
        self, k: int, moments: Moments, net: MetaNet | None, raw: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Dataset indices, scores, inputs and log-probabilities of the best min(k, n) rows."""
        inputs = exp_z(self._raw, moments)
        if raw and net is None:
            inputs[:, 0] = self._raw[:, 0]
        scores = inputs.sum(axis=1) if net is None else net.scores(inputs)
        best = best_positions(scores, min(k, len(scores)))
        return self._indices[best], scores[best], inputs[best], np.asarray(self._log_probs[best], dtype=np.float64)


def pick_mqnet(halves: Halves, k: int, net: MetaNet | None, raw: bool = False) -> Picks:
    """The `k` best rows by the network, or without one (the first query) by the sum of both inputs.

    raw      leave the informativeness of a query without a network as it is, as the published code does in its
             confidence mode
    returns  picks with notes for `meta_net.fit_meta_net`, once they are answered: inputs float64 [k, 2], and log_probs
             float64 [k, C] of the classifier that chose
    raises   ValueError if there are fewer than k rows
    """
    checked_sizes(halves, k)
    answers = halves.ask("best", k, fit_moments(Inner(halves, "columns")), net, raw)
    indices, scores, inputs, log_probs = (np.concatenate(parts) for parts in zip(*answers, strict=True))
    order = np.lexsort((indices, -scores))[:k]
    return Picks(indices[order], scores[order], {"inputs": inputs[order], "log_probs": log_probs[order]})
