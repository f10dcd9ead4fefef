"""Rows as int8 digits, whose inner products are the same exact integers on every machine.

A row y is stored as  unit · (first + second / 256 + remainder)  with unit = max|y| / 127, so that both digits are int8.
Products of digits are integers: any library, tile, thread count or device gives the same ones, and int8 is the fastest
arithmetic that processors have. How much the digits leave out is measured row by row; `bounds` turns it into proofs.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

ROUNDING = 2.0**-24
"""Largest relative error of one float32 operation."""

_MEASURES = ("norms", "lengths", "remainders", "seconds")
_LARGEST = 1e70  # products of four such numbers, as in distances of outer products, are still far from overflow
_NUMBERS = 2**17  # encoded at a time, so that they and their copies stay in the second-level cache
_PIECE = 1024  # columns multiplied at a time: 1024 * 127² < 2²⁴, so float32 holds every partial sum exactly


@dataclass(frozen=True)
class Digits:
    """n rows of D numbers.

    first       int8 [n, D]
    second      int8 [n, D], or None where one digit is enough
    norms       float64 [n] Euclidean norms, in the units of the rows
    lengths     float32 [n] the same norms in units of max|y| / 127; 1 for a row of zeros
    remainders  float32 [n] upper bounds on the norm of what the digits leave out, relative to the row's norm
    seconds     float32 [n] upper bounds on the norm of second / 256, relative to the row's norm; 0 without it
    """

    first: torch.Tensor
    second: torch.Tensor | None
    norms: np.ndarray
    lengths: np.ndarray
    remainders: np.ndarray
    seconds: np.ndarray

    def __len__(self) -> int:
        return len(self.norms)

    def __getitem__(self, rows: slice | np.ndarray) -> "Digits":
        """Of a slice, or of positions int64 [m]."""
        second = None if self.second is None else _rows(self.second, rows)
        return Digits(_rows(self.first, rows), second, *(getattr(self, name)[rows] for name in _MEASURES))


def _rows(digits: torch.Tensor, rows: slice | np.ndarray) -> torch.Tensor:
    """index_select copies whole rows, ten times faster than indexing, which copies number by number."""
    return digits[rows] if isinstance(rows, slice) else digits.index_select(0, torch.as_tensor(rows).to(digits.device))


def concatenated(one: Digits, other: Digits) -> Digits:
    """The rows of both, one below the other; first digits only."""
    measures = (np.concatenate([getattr(one, name), getattr(other, name)]) for name in _MEASURES)
    return Digits(torch.cat([one.first, other.first]), None, *measures)


def encode(rows: np.ndarray, origin: np.ndarray | None = None, two: bool = False, device: str = "cpu") -> Digits:
    """The digits of `rows` [n, D] (any float type), seen from `origin` [D] if there is one.

    two      keep a second digit: remainders are some 250 times smaller
    device   where the digits live, and so where they are multiplied
    raises   ValueError if a number, or its difference from the origin, is not finite and below 1e70
    """
    n, d = rows.shape
    first, second = np.empty((n, d), np.int8), np.empty((n if two else 0, d), np.int8)
    norms, lengths = np.empty(n), np.empty(n, np.float32)
    remainders, seconds = np.empty(n, np.float32), np.zeros(n, np.float32)
    step = max(1, _NUMBERS // max(1, d))
    for low in range(0, n, step):
        tile = slice(low, min(low + step, n))
        y, norms[tile], lengths[tile] = _scaled(rows[tile], origin, low)
        digit = np.rint(y)
        np.copyto(first[tile], digit, casting="unsafe")
        y -= digit
        if two:
            np.minimum(np.rint(y * 256), 127, out=digit)
            np.copyto(second[tile], digit, casting="unsafe")
            seconds[tile] = row_norms(digit) / (256 * lengths[tile])
            y -= digit / 256
        remainders[tile] = row_norms(y) / lengths[tile]
    slack = np.float32(1 + (d + 8) * ROUNDING)  # sums of d squares
    remainders = remainders * slack + np.float32(8 * ROUNDING)  # and the roundings of y itself
    one, other = torch.from_numpy(first).to(device), torch.from_numpy(second).to(device)
    return Digits(one, other if two else None, norms, lengths, remainders, seconds * slack)


def _scaled(rows: np.ndarray, origin: np.ndarray | None, position: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows (the first is number `position`) in units of max|y| / 127, their norms, and their norms in those units."""
    kind = np.promote_types(rows.dtype, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # refused below, in words
        y = np.subtract(rows, 0 if origin is None else origin, dtype=kind, order="C")
        largest = np.abs(y).max(axis=1, initial=0)
    wrong = np.flatnonzero(~(largest.astype(np.float64) < _LARGEST))
    if wrong.size:
        raise ValueError(
            f"rows and their differences must be finite and below {_LARGEST:g}; row {position + wrong[0]} is not"
        )
    y /= np.where(largest > 0, largest, 1)[:, None]
    y = y.astype(np.float32, copy=False)
    y *= 127
    lengths = row_norms(y)
    return y, largest.astype(np.float64) * lengths / 127, np.where(largest > 0, lengths, np.float32(1))


def row_norms(rows: np.ndarray) -> np.ndarray:
    """Euclidean norms [n]; einsum adds up each row on its own, so equal whatever rows stand beside it."""
    return np.sqrt(np.einsum("nd,nd->n", rows, rows))


def inner_products(rows: Digits, others: Digits) -> torch.Tensor:
    """<row, other> in units of max|row| / 127 · max|other| / 127: float32 [n, m], on the device of the digits.

    Second digits are used if the others have them, except for the product of two of them (`bounds` allows for it).
    """
    return Room(len(rows) * len(others), rows.first.device).inner_products(rows, others)


class Room:
    """Where the products of one tile after the other are written: fresh memory costs as much as the products.

    size   the largest n · m of a tile
    """

    def __init__(self, size: int, device: torch.device) -> None:
        self._integers = torch.empty(size, dtype=torch.int32, device=device)
        self._floats = torch.empty(size, device=device)

    def inner_products(self, rows: Digits, others: Digits) -> torch.Tensor:
        """As the function of this name; overwritten by the next call."""
        total = self._floats[: len(rows) * len(others)].view(len(rows), len(others))
        self._multiply(rows.first, others.first, total)
        if others.second is not None:
            rest = self._multiply(rows.first, others.second, torch.empty_like(total))
            if rows.second is not None:
                rest += self._multiply(rows.second, others.first, torch.empty_like(total))
            total.add_(rest, alpha=1 / 256)  # a power of two: fused or not, it rounds once
        return total

    def _multiply(self, rows: torch.Tensor, others: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
        """int8 [n, D] times int8 [m, D]: float32 [n, m], every piece exact, the pieces added from left to right."""
        self._piece(rows[:, :_PIECE], others[:, :_PIECE], total)
        for low in range(_PIECE, rows.shape[1], _PIECE):
            piece = torch.empty_like(total)
            total += self._piece(rows[:, low : low + _PIECE], others[:, low : low + _PIECE], piece)
        return total

    def _piece(self, rows: torch.Tensor, others: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
        one_column = rows.shape[1] == 1  # torch 2.14 returns wrong int8 products for it
        if rows.device.type == "cpu" and not one_column and _int8_is_good():
            return total.copy_(_by_int8(rows, others, out=self._integers[: total.numel()].view(total.shape)))
        return _by_float32(rows, others, out=total)


def _by_int8(rows: torch.Tensor, others: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    return torch._int_mm(rows, others.t(), out=out)


def _by_float32(rows: torch.Tensor, others: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    return torch.mm(rows.float(), others.float().t(), out=out)


@cache
def _int8_is_good() -> bool:
    """Whether this processor's int8 products are right (old ones saturate) and faster: the integers are the same."""
    sample = torch.full((256, 512), 127, dtype=torch.int8)
    sample[::2, ::3] = -127
    if not torch.equal(_by_int8(sample, sample).float(), _by_float32(sample, sample)):
        return False
    return _seconds(_by_int8, sample) < _seconds(_by_float32, sample)


def _seconds(multiply: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], sample: torch.Tensor) -> float:
    """The best of a few runs: others may be disturbed by a busy machine."""
    runs = []
    for _ in range(5):
        begin = time.perf_counter()
        multiply(sample, sample)
        runs.append(time.perf_counter() - begin)
    return min(runs)
