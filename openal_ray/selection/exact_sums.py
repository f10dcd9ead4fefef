"""Sums of float64 numbers as integers: the same in any order, so that shards may add up first.

A number is kept as  unit · (high + low / 2^bits)  with two int64, which leave room for as many of them as are added.
"""

from dataclasses import dataclass
from math import frexp

import numpy as np

_ROOM = 62  # bits of a sum


@dataclass(frozen=True)
class Scale:
    """How numbers become integers.

    unit  a power of two
    bits  each of the two integers has so many, so a number is right to 2^-bits units
    """

    unit: float
    bits: int

    @staticmethod
    def of(largest: float, count: int) -> "Scale":
        """The finest scale for sums of up to `count` numbers of absolute value up to `largest`."""
        bits = _ROOM - max(1, count).bit_length()
        return Scale(2.0 ** max(frexp(largest)[1] - bits, -900), bits)

    def integers(self, numbers: np.ndarray) -> np.ndarray:
        """int64 [2, ...] of float64 [...]."""
        scaled = numbers / self.unit
        high = np.rint(scaled)
        return np.stack([high, np.rint((scaled - high) * 2.0**self.bits)]).astype(np.int64)

    def numbers(self, integers: np.ndarray) -> np.ndarray:
        """float64 [...] of the sum int64 [2, ...] of such integers."""
        return (integers[0] + integers[1] / 2.0**self.bits) * self.unit
