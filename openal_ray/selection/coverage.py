"""Greedy coverage over shards: k times, the row that adds most to how well the centres cover all points. Exact.

Coverage is the mean over all points of max over the centres of kernel(point, centre). With a top-hat kernel this is
ProbCover, with an RBF kernel MaxHerding. What a row adds (its gain) only shrinks as centres are added, so an old gain,
or one rounded upwards, is a bound. Every shard keeps the bounds of its rows; the driver takes the most hopeful ones
into a pool, has their exact gains summed over all shards, and picks for as long as the best of them is above every
bound outside. Two rows whose gains come from different points do not disturb each other, so a question about a
few rows settles several picks: its answer includes how much of two rows' gains is the same points.

Gains are sums of integers (see `kernels`), so neither tiles nor shards nor the order of summation change a pick.

Source: Yehuda et al. 2022 (arXiv 2205.11320), Alg. 1; Bae et al. 2024 (arXiv 2407.12212), Alg. 1; lazy evaluation of
Minoux 1978. Differs: every point is looked at, where the authors' code of MaxHerding takes a subset; the RBF kernel is
rounded to multiples of 2^-30; ties go to the lowest index.
"""

import numpy as np
import torch

from openal_ray.selection.distances import checked_points
from openal_ray.selection.halves import Halves, Picks, checked_sizes, filled_up, lowest_left, positions_of
from openal_ray.selection.kernels import Kernel, levels
from openal_ray.selection.top_k import best_positions

_POOL = 256  # rows whose levels every shard holds at a time
_ASKED = 32  # rows that one question for gains can make picks of
_SHOWN = 2048  # rows shown to all shards at a time
_TILE = 512  # points compared with them at a time
_FLOAT32 = 1e-12, 1e15  # largest numbers whose squares float32 holds well
_GROWTH = 8  # so many more bounds are made new when a pool gave no pick

Key = tuple[float, float]
"""(gain, -dataset index): rows are picked in descending order of it."""


class CoverageHalf:
    """One shard's points: to be covered, and candidates to cover.

    points   [n, D] any float type; for cosine distances give rows of norm 1 (`distances.unit_rows`)
    indices  int64 [n] ascending dataset indices
    kernel   of coverage
    device   where this shard's products are made; the picks are the same
    raises   ValueError if the shapes do not fit or a number is not finite
    """

    def __init__(self, points: np.ndarray, indices: np.ndarray, kernel: Kernel, device: str = "cpu") -> None:
        self._indices = np.asarray(indices, dtype=np.int64)
        self._points = checked_points("points", points, len(self._indices))
        self._kernel, self._device = kernel, device
        self._largest = float(max(self._points.max(initial=0), -self._points.min(initial=0)))
        n = len(self._indices)
        self._covered = np.zeros(n, dtype=np.int32)  # the level of the best centre so far
        self._bound = np.full(n, np.inf)  # on the gain of each row; -1 for taken rows
        self._made = np.full(n, -1, dtype=np.int64)  # how many picks each bound knows of
        self._n_picks = 0
        self._pool, self._levels = self._indices[:0], np.empty((0, n), dtype=np.int32)
        self._queue = self._shown = np.empty(0, dtype=np.int64)

    def size(self) -> int:
        """The number of rows."""
        return len(self._indices)

    def top(self) -> int:
        """The kernel's level at distance 0."""
        return self._kernel.top

    def cover(self, centres: np.ndarray) -> None:
        """Centres [m, D] that exist already."""
        if centres.shape[1:] != self._points.shape[1:]:
            raise ValueError(f"covered must have shape [m, {self._points.shape[1]}], got {centres.shape}")
        for low in range(0, len(centres), _POOL):
            part = levels(self._kernel, centres[low : low + _POOL], self._points, self._device)
            np.maximum(self._covered, part.max(axis=0), out=self._covered)

    def queue(self, reach: int) -> int:
        """Puts those of the `reach` highest bounds that are old into a queue to be made new; how many there are."""
        highest = best_positions(self._bound, min(reach, len(self._bound)))
        self._queue = highest[(self._bound[highest] > 0) & (self._made[highest] < self._n_picks)]
        return len(self._queue)

    def show(self, m: int, bounds: np.ndarray) -> np.ndarray:
        """The next `m` rows of the queue, once the rows shown before have got their new `bounds`."""
        self._bound[self._shown] = np.minimum(self._bound[self._shown], bounds)
        self._made[self._shown] = self._n_picks
        self._shown, self._queue = self._queue[:m], self._queue[m:]
        return self._points[self._shown]

    def bounds(self, rows: np.ndarray) -> np.ndarray:
        """float64 [m]: at least what each of the rows [m, D] would add at the points of this shard."""
        kind = np.float32 if self._device == "cpu" and _FLOAT32[0] < self._largest < _FLOAT32[1] else np.float64
        rounding = (rows.shape[1] + 24) * 2.0**-24
        others = self._tensor(rows, kind)
        other_squares = others.square().sum(dim=1)
        total = torch.zeros(len(rows), dtype=torch.float64, device=self._device)
        for low in range(0, len(self._points), _TILE):
            tile = self._tensor(self._points[low : low + _TILE], kind)
            sums = tile.square().sum(dim=1)[:, None] + other_squares
            # Cauchy-Schwarz, and 2|x||c| <= |x|² + |c|²: every rounding is a multiple of this sum.
            squared = torch.addmm(sums * (1 - rounding), tile, others.t(), alpha=-2).clamp_(min=0)
            covered = self._tensor(_not_above(self._covered[low : low + _TILE], kind), kind)
            gains = self._kernel.upper(squared).sub_(covered[:, None]).clamp_(min=0)
            total += gains.sum(dim=0, dtype=torch.float64)
        return total.cpu().numpy() * (1 + 2.0**-20)

    def _tensor(self, values: np.ndarray, kind: type) -> torch.Tensor:
        return torch.from_numpy(np.array(values, dtype=kind)).to(self._device)

    def candidates(
        self, m: int, picked: np.ndarray, indices: np.ndarray, bounds: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, Key]:
        """The `m` rows of highest bound: dataset indices, bounds, points; and the key of the best one kept back.

        picked           positions in the pool picked since the last question
        indices, bounds  rows of the pool that were not picked, with bounds that may be lower
        """
        self._take(picked)
        here = np.isin(indices, self._indices)
        positions = np.searchsorted(self._indices, indices[here])
        self._bound[positions] = bounds[here]
        best = best_positions(self._bound, min(m + 1, len(self._bound)))
        best = best[np.lexsort((best, -self._bound[best]))]
        floor = (float(self._bound[best[m]]), -float(self._indices[best[m]])) if len(best) > m else (-1.0, 0.0)
        best = best[:m][self._bound[best[:m]] > 0]
        return self._indices[best], self._bound[best], self._points[best], floor

    def hold(self, indices: np.ndarray, rows: np.ndarray) -> None:
        """Makes these rows the pool."""
        self._pool, self._levels = indices, levels(self._kernel, rows, self._points, self._device)

    def gains(self, picked: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the rows at positions `asked` [t] of the pool add here, and how much of that the first _ASKED share.

        picked   positions in the pool picked since the last question
        returns  gains int64 [t], shared int64 [min(t, _ASKED), t]
        """
        self._take(picked)
        gains = np.maximum(self._levels[asked] - self._covered, 0)
        gains = gains[:, gains.any(axis=0)]
        shared = np.empty((min(len(asked), _ASKED), len(asked)), dtype=np.int64)
        for own, of_own in zip(gains, shared, strict=False):
            places = np.flatnonzero(own)
            of_own[:] = np.minimum(gains[:, places], own[places]).sum(axis=1, dtype=np.int64)
        return gains.sum(axis=1, dtype=np.int64), shared

    def _take(self, picked: np.ndarray) -> None:
        for position in picked:
            np.maximum(self._covered, self._levels[position], out=self._covered)
        self._bound[positions_of(self._pool[picked], self._indices)] = -1.0
        self._n_picks += len(picked)

    def lowest(self, k: int, picked: np.ndarray) -> np.ndarray:
        """The lowest `k` dataset indices that are not `picked`."""
        return lowest_left(self._indices, k, picked)


def pick_coverage(halves: Halves, k: int, covered: np.ndarray | None = None) -> Picks:
    """Pick `k` rows; scores are what each added to the mean coverage of all points, the covered ones among them.

    Where nothing can be added any more, the lowest dataset indices follow, with score 0.
    covered  [m, D] centres that exist already (labelled images)
    raises   ValueError if there are fewer than k rows
    """
    n_rows = sum(checked_sizes(halves, k))
    n_covered = 0 if covered is None else len(covered)
    if n_covered:
        halves.ask("cover", covered)
    search = _Search(halves, n_rows)
    while len(search.indices) < k and search.step(k):
        pass
    scores = np.array(search.gains, dtype=np.float64) / halves.ask("top")[0] / (n_rows + n_covered)
    return filled_up(Picks(np.array(search.indices, dtype=np.int64), scores), halves, k)


class _Search:
    """The driver's side: the picks so far, and what was learnt about the pool."""

    def __init__(self, halves: Halves, n_rows: int) -> None:
        self._halves, self._n_rows = halves, n_rows
        self.indices: list[int] = []
        self.gains: list[int] = []
        self._reach = n_rows
        self._pool, self._bounds = np.empty(0, dtype=np.int64), np.empty(0)
        self._picked = np.empty(0, dtype=np.int64)

    def step(self, k: int) -> bool:
        """One pool: some picks, up to `k` altogether, or better bounds; False if nothing can be gained any more."""
        before = len(self.indices)
        if self._reach:
            self._renew(self._reach)
        floor = self._fill()
        if not len(self._pool):
            return False
        self._settle(floor, k)
        self._reach = 0 if len(self.indices) > before else min(self._n_rows, max(_POOL, self._reach) * _GROWTH)
        return True

    def _renew(self, reach: int) -> None:
        """Bounds that know of all picks, for the rows of highest bound, `reach` a shard."""
        lengths = self._halves.ask("queue", reach)
        share = -(-_SHOWN // len(lengths))
        bounds = [np.empty(0)] * len(lengths)
        while True:
            shown = self._halves.ask_each("show", [(share, part) for part in bounds])
            rows = np.concatenate(shown)
            if not len(rows):
                return
            total = np.sum(self._halves.ask("bounds", rows), axis=0)
            bounds = np.split(total, np.cumsum([len(part) for part in shown])[:-1])

    def _fill(self) -> Key:
        """A new pool of the rows of highest bound; returns the highest key outside."""
        left = self._bounds >= 0
        answers = self._halves.ask("candidates", _POOL, self._picked, self._pool[left], self._bounds[left])
        indices, bounds, rows, floors = zip(*answers, strict=True)
        pool, highest, points = np.concatenate(indices), np.concatenate(bounds), np.concatenate(rows)
        order = np.lexsort((pool, -highest))
        floor = max(floors)
        if len(order) > _POOL:
            floor = max(floor, _key(highest, pool, order[_POOL]))
        order = order[:_POOL]
        self._pool, self._bounds, self._picked = pool[order], highest[order], np.empty(0, dtype=np.int64)
        self._halves.ask("hold", self._pool, points[order])
        return floor

    def _settle(self, floor: Key, k: int) -> None:
        """Picks from the pool for as long as nothing outside can be better."""
        size = _ASKED
        while len(self.indices) < k:
            order = np.lexsort((self._pool, -self._bounds))
            if _key(self._bounds, self._pool, order[0]) < floor or self._bounds[order[0]] <= 0:
                break
            asked, rest = order[:size], order[size:]
            others = max(floor, _key(self._bounds, self._pool, rest[0])) if len(rest) else floor
            gains, shared = (sum(p) for p in zip(*self._halves.ask("gains", self._picked, asked), strict=True))
            won, won_gains, bounds = _certain(gains, shared, self._pool[asked], others, k - len(self.indices))
            self._bounds[asked], self._picked = bounds, asked[won]
            self.indices += self._pool[self._picked].tolist()
            self.gains += won_gains
            size = _ASKED if won else 2 * size


def _key(bounds: np.ndarray, indices: np.ndarray, position: int) -> Key:
    return float(bounds[position]), -float(indices[position])


def _certain(
    gains: np.ndarray, shared: np.ndarray, indices: np.ndarray, others: Key, k: int
) -> tuple[list[int], list[int], np.ndarray]:
    """Up to `k` picks, in the order picked, among t rows whose gains are exact; no other row is better than `others`.

    shared   int64 [m, t] how much of two rows' gains is the same; only the first m rows can be picked. After one pick
             a gain is exactly what is not shared with it, after several it lies between what is shared with none of
             them and what is not shared with the worst of them
    returns  positions of the picks, their gains, and float64 [t] bounds on the gains left (-1 for the picks)
    """
    low, high = gains.copy(), gains.copy()
    won: list[int] = []
    won_gains: list[int] = []
    while len(won) < k:
        best = int(np.lexsort((indices, -high))[0])
        certain = best < len(shared) and max(low[best], 0) == high[best] > 0
        if not certain or (float(high[best]), -float(indices[best])) < others:
            break
        won.append(best)
        won_gains.append(int(high[best]))
        low -= shared[best]
        np.minimum(high, gains - shared[best], out=high)
        low[won] = high[won] = -1
    return won, won_gains, high.astype(np.float64)


def _not_above(values: np.ndarray, kind: type) -> np.ndarray:
    """The integers [n] as floats, rounded downwards."""
    rounded: np.ndarray = values.astype(kind)
    return np.where(rounded.astype(np.float64) > values, np.nextafter(rounded, kind(0)), rounded)
