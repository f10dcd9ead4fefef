"""Class-balanced greedy k-center over shards: far from all centres, and of classes that still lack images.

Each pick minimises  -d_i + weight / C · |q - p_i|_1 , d_i the distance of image i to its nearest centre, p_i its
probabilities, and q what the classes still lack: R minus the probabilities of all picks. As a p sums to one,

    |q - p|_1 = |q|_1 - 1 + 2 sum_c max(p_c - max(q_c, 0), 0):

the balance costs an image what of its probability falls on classes that lack less. That grows while q falls, and
distances shrink: values only fall, as in plain k-center. So an old value is a bound, and the same argument gives many
picks an exchange: they are final for as long as the best of them reaches the floor below which all shards kept back.

Source: Bengar et al. 2022 (arXiv 2110.04543), as OpenAL's KCenterGreedyCB has it. Differs: C counts all classes,
also those without a labelled image; rows of probabilities count as summing to one, whatever their rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openal_ray.selection.halves import Halves, Picks, checked_rows, checked_sizes, positions_of
from openal_ray.selection.nearest import Key, NearestCentre, Points, squared_distances

_FRONT = 64  # rows among which the driver picks one by one: they stay in the first-level cache
_CANDIDATES = 2  # rows asked for, all shards together, for every pick
_FEWEST = 128  # rows asked of one shard at least
_NUMBERS = 2**17  # probabilities looked at together: 1 MB of float64


@dataclass(frozen=True)
class Lacking:
    """What the classes still lack.

    images  float64 [C] q, below 0 where a class has too many
    weight  of the balance against the distance, divided by C
    """

    images: np.ndarray
    weight: float

    @staticmethod
    def at_first(class_counts: np.ndarray, k: int, weight: float) -> "Lacking":
        """R_c = max(floor((L + k) / C) - n_c, 0) for n_c labelled images of class c, L of all."""
        counts = np.asarray(class_counts)
        if counts.ndim != 1 or not len(counts) or counts.min() < 0:
            raise ValueError(f"class_counts must be C numbers >= 0, got {counts.tolist()}")
        if not (weight >= 0 and np.isfinite(weight)):
            raise ValueError(f"the weight of the balance must be finite and >= 0, got {weight}")
        share = (int(counts.sum()) + k) // len(counts)
        return Lacking(np.maximum(share - counts, 0).astype(np.float64), weight / len(counts))

    def costs(self, probs: np.ndarray) -> np.ndarray:
        """float64 [n]: weight · (|q - p|_1 - |q|_1 + 1) of rows p [n, C], each on its own; no less for a smaller q."""
        costs = np.empty(len(probs))
        step = max(1, _NUMBERS // probs.shape[1])
        for low in range(0, len(probs), step):
            rest = probs[low : low + step] - np.maximum(self.images, 0)
            costs[low : low + step] = 2 * self.weight * np.maximum(rest, 0).sum(axis=1)
        return costs

    @property
    def offset(self) -> float:
        """What |q - p|_1 costs beyond that, the same for all rows."""
        return self.weight * float(np.abs(self.images).sum() - 1)

    def without(self, probs: np.ndarray) -> "Lacking":
        """After a pick with these probabilities [C]."""
        return Lacking(self.images - probs, self.weight)


@dataclass(frozen=True)
class Offer:
    """Points and their probabilities [m, C]."""

    points: Points
    probs: np.ndarray

    def __getitem__(self, positions: np.ndarray | list[int] | slice) -> "Offer":
        return Offer(self.points[positions], self.probs[positions])

    @staticmethod
    def joined(parts: Sequence["Offer"]) -> "Offer":
        """The rows of all parts, in their order."""
        return Offer(Points.joined([part.points for part in parts]), np.concatenate([part.probs for part in parts]))


class KCenterBalancedHalf:
    """One shard's points and probabilities.

    points   [n, D] features; distances are Euclidean, in the units of the features
    probs    [n, C] class probabilities, rows that sum to one
    indices  int64 [n] ascending dataset indices
    device   where this shard's products are made; the picks are the same
    squared  float64 [n] squared distances to centres that are not added any more; None: there are none
    raises   ValueError if the shapes do not fit, a number is not finite or a probability is below 0
    """

    def __init__(
        self,
        points: np.ndarray,
        probs: np.ndarray,
        indices: np.ndarray,
        device: str = "cpu",
        squared: np.ndarray | None = None,
    ) -> None:
        self._indices = np.asarray(indices, dtype=np.int64)
        self._points = checked_rows("points", points, len(self._indices))
        self._probs = checked_rows("probs", probs, len(self._indices))
        low, high = self._probs.min(initial=0), self._probs.max(initial=0)  # NaN if there is one
        if not (low >= 0 and high < np.inf):
            raise ValueError(f"probs must be finite and >= 0, got values from {low} to {high}; are these logits?")
        self._nearest = NearestCentre(self._points, self._indices, squared, device, copies=True)
        self._costs = np.full(len(self._indices), -np.inf)  # never above those of now
        self._stale = np.ones(len(self._indices), dtype=bool)
        self._taken = np.zeros(len(self._indices), dtype=bool)

    def size(self) -> int:
        """The number of rows."""
        return len(self._indices)

    def candidates(self, m: int, centres: np.ndarray | None, taken: np.ndarray, lacking: Lacking) -> tuple[Offer, Key]:
        """At most `m` of the rows of highest value, and a floor: no other row has a higher (value, -index).

        centres  [c, D] to be added before; None: nothing
        taken    dataset indices picked since the last question
        lacking  what the classes lack now
        """
        if lacking.images.shape != self._probs.shape[1:]:
            raise ValueError(f"class_counts must have shape [{self._probs.shape[1]}], got {lacking.images.shape}")
        self._taken[positions_of(taken, self._indices)] = True
        if centres is not None and len(centres):
            self._nearest.add(centres)
        self._stale[:] = True
        front, key = self._highest(m, lacking)
        rows = Points(self._indices[front], self._points[front], self._nearest.bounds[front])
        return Offer(rows, self._probs[front]), key

    def _highest(self, m: int, lacking: Lacking) -> tuple[np.ndarray, Key]:
        """Positions of between m / 2 and m rows, unless fewer are left, and the floor; their bounds are exact."""
        count = m
        while True:
            front, floor = self._fresh_front(count, lacking)
            self._nearest.settle(front)
            values = self._values()
            front = front[values[front] >= floor]
            if floor == -np.inf or len(front) >= m // 2:
                break
            count *= 2
        key: Key = (floor, -np.inf)
        if len(front) > m:
            order = np.argsort(-values[front], kind="stable")
            kept_back = front[order[m]]
            key = (float(values[kept_back]), -float(self._indices[kept_back]))
            front = np.sort(front[order[:m]])
        return front, key

    def _values(self) -> np.ndarray:
        """float64 [n]: never below distance - cost; minus infinity for rows that are taken."""
        values = np.sqrt(self._nearest.bounds) - self._costs
        values[self._taken] = -np.inf
        return values

    def _front(self, count: int) -> tuple[np.ndarray, float]:
        """Positions of the rows whose values reach a floor, that of the `count` highest."""
        values, floor = self._values(), -np.inf
        if count < len(values):
            floor = float(np.partition(values, -count)[-count])
        return np.flatnonzero((values >= floor) & ~self._taken), floor

    def _fresh_front(self, count: int, lacking: Lacking) -> tuple[np.ndarray, float]:
        """The same, once the values there know of all centres and of what the classes lack."""
        front, floor = self._front(count)
        reach = 4 * count
        while self._stale[front].any():
            wide = self._front(reach)[0]
            stale = wide[self._stale[wide]]
            self._nearest.lower(stale)
            self._costs[stale] = lacking.costs(self._probs[stale])
            self._stale[stale] = False
            reach *= 4
            front, floor = self._front(count)
        return front, floor


def pick_k_center_balanced(
    halves: Halves, k: int, covered: np.ndarray | None, class_counts: np.ndarray, weight: float = 5.0
) -> Picks:
    """Pick `k` centres; scores are distance - weight / C · |q - p|_1 at the pick (infinite for one without a centre).

    covered       [m, D] centres that exist already (labelled images); without any, the first pick is the lowest index
    class_counts  int [C] labelled images of every class, 0 where there are none
    raises        ValueError if there are fewer than k rows
    """
    m = max(_FEWEST, -(-_CANDIDATES * k // len(checked_sizes(halves, k))))
    lacking = Lacking.at_first(class_counts, k, weight)
    picks = Picks(np.empty(0, dtype=np.int64), np.empty(0))
    centres, taken = covered, picks.indices
    while len(picks.indices) < k:
        offers = halves.ask("candidates", m, centres, taken, lacking)
        new, scores, lacking = _certain_picks(offers, lacking, k - len(picks.indices))
        picks = Picks(np.append(picks.indices, new.indices), np.append(picks.scores, scores))
        centres, taken = new.rows, new.indices
    return picks


def _certain_picks(offers: list[tuple[Offer, Key]], lacking: Lacking, k: int) -> tuple[Points, list[float], Lacking]:
    """Up to `k` picks, in the order picked, that no row kept back by a shard could change; scores; what lacks then."""
    floor = max(key for _, key in offers)
    offer = Offer.joined([offered for offered, _ in offers])
    offer = offer[np.argsort(offer.points.indices)]
    pool = KCenterBalancedHalf(offer.points.rows, offer.probs, offer.points.indices, squared=offer.points.squared)
    picks, scores = [offer.points[:0]], list[float]()
    while len(scores) < k:
        front, front_floor = pool.candidates(_FRONT, picks[-1].rows, picks[-1].indices, lacking)
        new, values, lacking = _one_by_one(front, max(front_floor, floor), lacking, k - len(scores))
        if not len(new):
            break
        picks.append(new)
        scores += values
    return Points.joined(picks), scores, lacking


def _one_by_one(front: Offer, floor: Key, lacking: Lacking, k: int) -> tuple[Points, list[float], Lacking]:
    """The same among `front`, for as long as they reach the floor."""
    rows, squared = front.points.rows.astype(np.float64), front.points.squared.copy()
    probs, indices = front.probs.astype(np.float64), front.points.indices
    picked, scores = list[int](), list[float]()
    while len(picked) < min(k, len(squared)):
        values = np.sqrt(squared) - lacking.costs(probs)
        values[picked] = -np.inf
        best = int(values.argmax())
        if (values[best], -indices[best]) < floor:
            break
        picked.append(best)
        scores.append(float(values[best]) - lacking.offset)
        np.minimum(squared, squared_distances(rows, rows[best]), out=squared)
        lacking = lacking.without(probs[best])
    return front.points[picked], scores, lacking
