"""Tests of data/known_classes.py: the published draws, the user's own, refusals."""

import pytest

from openal_ray.data.known_classes import Draw, Known, known_classes
from openal_ray.errors import ConfigError

TEN, HUNDRED, TINY = ([str(number) for number in range(n)] for n in (10, 100, 200))


@pytest.mark.parametrize(
    ("n_classes", "seed", "expected"),
    [
        (10, 0, [2, 8, 4, 9]), (10, 1, [2, 9, 6, 4]), (10, 2, [4, 1, 5, 0]), (10, 3, [5, 4, 1, 2]),
        (10, 4, [3, 8, 4, 9]), (100, 0, [26, 86, 2, 55, 75, 93, 16, 73, 54, 95]),
        (100, 4, [20, 10, 96, 16, 63, 24, 53, 97, 41, 47]),
    ],
)  # fmt: skip
def test_openal_draws_keep_their_order(n_classes: int, seed: int, expected: list[int]) -> None:
    names = [str(number) for number in range(n_classes)]
    assert known_classes(names, len(expected), Draw("openal", seed)).tolist() == expected


def test_other_published_draws() -> None:
    assert known_classes(TEN, 3, Draw("lfosa")).tolist() == [0, 1, 2]
    assert known_classes(TEN, 3, Draw("eoal")).tolist() == [2, 7, 8]  # 8 2 7, then ranked
    assert known_classes(HUNDRED, 3, Draw("eoal")).tolist() == [27, 53, 56]
    assert known_classes(TINY, 40, Draw("eoal"))[-1] == 187
    assert known_classes(TEN, 4, Draw("mqnet", trial=0)).tolist() == [2, 4, 5, 7]
    assert known_classes(TEN, None, Draw("mqnet", trial=4)).tolist() == [2, 3, 5, 9]
    assert known_classes(TEN, None, Draw("ccal")).tolist() == [0, 1]
    assert known_classes(HUNDRED, 20, Draw("ccal")).tolist()[:3] == [3, 42, 43]


def test_every_published_list_has_distinct_classes() -> None:
    for names, rule, count in ((HUNDRED, "eoal", 40), (TINY, "eoal", 40), (TEN, "eoal", 10), (HUNDRED, "ccal", None)):
        found = known_classes(names, count, Draw(rule)).tolist()
        assert len(set(found)) == len(found) == (count or 20)


def test_shares_are_decimals() -> None:
    assert len(known_classes(HUNDRED, 0.29, Draw())) == 29  # int(100 * 0.29) is 28
    assert len(known_classes(TEN, 0.37, Draw())) == 3
    assert len(known_classes(TEN, 1.0, Draw())) == 10
    assert known_classes(TEN, 1, Draw("lfosa")).tolist() == [0]


def test_own_lists_are_in_label_order() -> None:
    assert known_classes(["cat", "dog", "3"], ("3", "cat"), Draw()).tolist() == [2, 0]
    assert known_classes(["cat", "dog", "3"], (1, "3"), Draw()).tolist() == [1, 2]


def test_unknown_words_are_never_known() -> None:
    names = ["cat", "None_of_these", "dog"]
    assert known_classes(names, None, Draw("lfosa"), [" none_of_these"]).tolist() == [0, 2]
    assert known_classes(names, 2, Draw("openal"), ["none_of_these", "junk"]).size == 2
    with pytest.raises(ConfigError, match="class 'None_of_these' cannot be known"):
        known_classes(names, ("None_of_these",), Draw(), ["none_of_these"])
    with pytest.raises(ConfigError, match="open_set.unknown names every class"):
        known_classes(["junk"], None, Draw(), ["junk"])


@pytest.mark.parametrize(
    ("known", "draw", "message"),
    [
        (0, Draw(), r"must be 1 … 10 classes or a share in \(0, 1\] .*, got 0"),
        (11, Draw(), "got 11"),
        (1.5, Draw(), "got 1.5"),
        (0.05, Draw(), "got 0.05"),
        (("cta",), Draw(), "unknown class 'cta'"),
        ((10,), Draw(), "class 10 cannot be known"),
        ((1, 1), Draw(), "each once"),
        ((), Draw(), "at least one class"),
        (3, Draw("opneal"), "unknown draw 'opneal'. Did you mean 'openal'"),
        (3, Draw("mqnet"), "mqnet knows 4 classes, got open_set.known=3"),
        (None, Draw("mqnet", trial=5), "trials 0 … 4 on 10 classes, got trial 5"),
        (3, Draw("ccal"), "ccal knows 2 classes"),
    ],
)
def test_refusals(known: Known, draw: Draw, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        known_classes(TEN, known, draw)


def test_published_draws_of_other_data_sets_are_refused() -> None:
    with pytest.raises(ConfigError, match="published for up to 40 of 100 classes, got open_set.known=41"):
        known_classes(HUNDRED, 41, Draw("eoal"))
    with pytest.raises(ConfigError, match="published for up to 0 of 7 classes"):
        known_classes(TEN[:7], 2, Draw("eoal"))
    with pytest.raises(ConfigError, match="10 and 100 classes, this data set has 7"):
        known_classes(TEN[:7], None, Draw("ccal"))
