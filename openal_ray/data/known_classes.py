"""Which classes of a data set an open-set experiment knows: the draws that publications made, and the user's own."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from openal_ray.errors import ConfigError, unknown_name

Known = int | float | tuple[int | str, ...] | None
"""How many classes (int), which share of them (float, rounded down), which ones (numbers or names, in label order);
None: all, or as many as the publication of the draw had."""

# The fixed permutations of EOAL and EAOA (their main.py, seed 1), by the number of classes of the data set: CIFAR-10,
# CIFAR-100 and Tiny-ImageNet; of the latter two the first 40, since no more of them were ever used.
_EOAL = {
    10: "8 2 7 4 3 5 9 6 0 1",
    100: "27 56 53 69 57 89 77 21 37 86 51 46 30 68 49 18 20 43 54 19 92 31 3 82 26 12 67 17 63 55 91 62 99 38 47 50 "
    "78 24 0 44",
    200: "74 38 136 85 145 132 102 91 156 97 149 143 168 11 73 181 8 76 148 125 51 19 45 66 141 12 96 167 90 104 103 "
    "35 187 126 124 95 182 180 99 109",
}
_MQNET = ((4, 2, 5, 7), (7, 1, 2, 5), (6, 4, 3, 2), (8, 9, 1, 3), (2, 9, 5, 3))
_CCAL = {10: "0 1", 100: "3 42 43 88 97 15 19 21 32 39 35 63 64 66 75 37 50 65 74 80"}
DRAWS = ("openal", "lfosa", "eoal", "mqnet", "ccal")


@dataclass(frozen=True)
class Draw:
    """How known classes are drawn where `known` says only how many.

    rule   openal  the first of NumPy's legacy permutation RandomState(seed); labels in drawn order
           lfosa   the first classes by number, as LfOSA's code does (its paper says random)
           eoal    the fixed permutations of EOAL and EAOA, for 10, 100 or 200 classes; labels by class number
           mqnet   MQNet's five trials on 10 classes; labels by class number
           ccal    CCAL's lists for 10 and 100 classes, labels in their order
    seed   of openal
    trial  of mqnet, from 0
    """

    rule: str = "openal"
    seed: int = 0
    trial: int = 0


def known_classes(classes: Sequence[str], known: Known, draw: Draw, unknown: Sequence[str] = ()) -> np.ndarray:
    """The numbers int64 [C] of the known classes; the class at place i gets label i.

    classes  the data set's class names
    unknown  words that mean "none of the classes", in any case: a class of such a name is never known
    raises   ConfigError
    """
    words = {word.strip().casefold() for word in unknown}
    possible = np.array([n for n, name in enumerate(classes) if name.strip().casefold() not in words], dtype=np.int64)
    if not len(possible):
        raise ConfigError("open_set.unknown names every class of the data set; at least one must be known")
    if isinstance(known, tuple):
        return _listed(classes, known, possible)
    if draw.rule not in DRAWS:
        raise ConfigError(f"open_set.draw: {unknown_name('draw', draw.rule, DRAWS)}")
    if draw.rule in ("mqnet", "ccal"):
        return _published(draw, len(classes), known)
    count = len(possible) if known is None else _count(known, len(possible))
    if draw.rule == "lfosa":
        return possible[:count]
    if draw.rule == "eoal":
        return np.sort(_eoal(len(classes), count))
    return possible[np.random.RandomState(draw.seed).permutation(len(possible))[:count]]


def _listed(classes: Sequence[str], known: tuple[int | str, ...], possible: np.ndarray) -> np.ndarray:
    numbers = []
    for entry in known:
        if isinstance(entry, str) and entry not in classes:
            raise ConfigError(f"open_set.known: {unknown_name('class', entry, classes)}")
        number = classes.index(entry) if isinstance(entry, str) else int(entry)
        if number not in possible:
            raise ConfigError(
                f"open_set.known: class {entry!r} cannot be known: it must be a number in 0 … {len(classes) - 1} or a "
                "name, and none of open_set.unknown"
            )
        numbers.append(number)
    if not numbers or len(set(numbers)) < len(numbers):
        raise ConfigError(f"open_set.known must list at least one class, each once, got {list(known)}")
    return np.array(numbers, dtype=np.int64)


def _count(known: int | float, available: int) -> int:
    share = isinstance(known, float)
    # Shares are decimals of people: 0.29 of 100 classes are 29, though as a float it is a little less.
    count = int(Fraction(str(known)) * available) if share and 0 < known <= 1 else int(known)
    if not 1 <= count <= available or (share and not 0 < known <= 1):
        raise ConfigError(
            f"open_set.known must be 1 … {available} classes or a share in (0, 1] that comes to at least one, "
            f"got {known}"
        )
    return count


def _eoal(n_classes: int, count: int) -> np.ndarray:
    published = np.array(_EOAL.get(n_classes, "").split(), dtype=np.int64)
    if count > len(published):
        raise ConfigError(
            f"open_set.draw=eoal was published for up to {len(published)} of {n_classes} classes, "
            f"got open_set.known={count}; set open_set.draw=openal"
        )
    return published[:count]


def _published(draw: Draw, n_classes: int, known: Known) -> np.ndarray:
    if draw.rule == "mqnet":
        if n_classes != 10 or not 0 <= draw.trial < len(_MQNET):
            raise ConfigError(
                f"open_set.draw=mqnet has trials 0 … {len(_MQNET) - 1} on 10 classes, got trial {draw.trial} on "
                f"{n_classes}; set open_set.draw=openal"
            )
        found = np.sort(np.array(_MQNET[draw.trial], dtype=np.int64))
    else:
        found = np.array(_CCAL.get(n_classes, "").split(), dtype=np.int64)
        if not len(found):
            raise ConfigError(f"open_set.draw=ccal was published for 10 and 100 classes, this data set has {n_classes}")
    if known not in (None, len(found)):
        raise ConfigError(f"open_set.draw={draw.rule} knows {len(found)} classes, got open_set.known={known}")
    return found
