"""Tests of start_set.py: every rule chooses what it says, and what cannot be drawn is refused before any work."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openal_ray.config import Budget
from openal_ray.errors import ConfigError
from openal_ray.pool import DatasetOracle, Pool
from openal_ray.start_set import check, choose

LABELS = np.array([0, 1, 1, 0, 1, 1, 1, 0, 1, 1])  # 3 of class 0, 7 of class 1


def chosen(labels: np.ndarray = LABELS, held_out: tuple[int, ...] = (), seed: int = 0, **budget: Any) -> list[int]:
    pool = Pool(len(labels), held_out=np.array(held_out, np.int64))
    rng = np.random.default_rng(seed)
    return choose(Budget(**budget), pool, DatasetOracle(labels), 2, rng).tolist()


def test_stratified_takes_each_class_in_proportion() -> None:
    found = chosen(start="stratified", n_start=5, held_out=(0,))  # leaves 2 of 9 and 7 of 9: 1.1 and 3.9
    assert np.bincount(LABELS[found]).tolist() == [1, 4]
    assert 0 not in found
    assert chosen(start="stratified", n_start=5, held_out=(0,)) == found
    assert chosen(start="stratified", n_start=5, held_out=(0,), seed=1) != found


def test_random_takes_any_unlabelled_image() -> None:
    draws = [chosen(start="random", n_start=3, held_out=(2, 5), seed=seed) for seed in range(60)]
    assert all(len(set(found)) == 3 for found in draws)
    assert set().union(*draws) == set(range(10)) - {2, 5}


@pytest.mark.parametrize("start", ["stratified", "random"])
def test_no_more_than_the_pool_has(start: str) -> None:
    assert sorted(chosen(start=start, n_start=100, held_out=(9,))) == list(range(9))


def test_given_takes_what_is_labelled() -> None:
    assert chosen(np.array([-2, 1, -2, 0, 1]), held_out=(3,), start="given", n_start=0) == [1, 4]


def test_none_takes_nothing() -> None:
    assert chosen(start="none") == []


@pytest.mark.parametrize("text", ["7\n0\n3\n", "7, 0,3", " 7 0\n\n3"])
def test_a_file_is_taken_in_its_order(tmp_path: Path, text: str) -> None:
    file = tmp_path / "start.txt"
    file.write_text(text)
    check(Budget(start=file), 2, LABELS)
    assert chosen(start=file) == [7, 0, 3]
    assert chosen(start=file, held_out=(0,)) == [7, 3]


def test_a_file_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "start.txt").write_text("1")
    assert chosen(start=Path("~/start.txt")) == [1]


def test_every_rule_that_can_be_drawn_passes() -> None:
    half_known = np.array([0, 1, -2])
    check(Budget(start="stratified", n_start=2), 2, LABELS)
    check(Budget(start="random", n_start=1), 2, LABELS)
    check(Budget(start="given"), 2, half_known)
    check(Budget(start="none"), 2, half_known)


@pytest.mark.parametrize(
    ("budget", "labels", "message"),
    [
        ({"start": "stratified", "n_start": 1}, LABELS, "budget.n_start=1 is less than the 2 classes.* Raise it, or"),
        ({"start": "given"}, LABELS, "all are: .* set budget.start=stratified or random"),
        ({"start": "given"}, np.array([-2, -2]), "needs some labelled rows; set budget.start=none"),
        ({"start": "random"}, np.array([0, -2, -2]), "2 of 3 train images have no label.* Set budget.start=given"),
        ({"start": "stratified"}, np.array([0, -2, 1]), "1 of 3 train images have no label.* Set budget.start=given"),
    ],
)
def test_what_cannot_be_drawn_is_refused(budget: dict[str, Any], labels: np.ndarray, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(Budget(**budget), 2, labels)


def test_a_misspelt_rule_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        check(Budget(start="stratifed"), 2, LABELS)
    assert str(caught.value) == (
        "budget.start: unknown rule 'stratifed'. Did you mean 'stratified'? Valid: given, none, random, stratified. "
        "There is no file of dataset indices of that name either."
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1\ntwo\n", "must hold dataset indices, one a line: .*'two'"),
        (b"1\xff", "must hold dataset indices, one a line: .*utf-8"),
        (b"3 10", "10 is not in 0 … 9"),
        (b"-1", "-1 is not in 0 … 9"),
        (b"99999999999999999999", "99999999999999999999 is not in 0 … 9"),
        (b"4 2 4", "4 stands there more than once"),
        (b" \n", "it holds no dataset index; to begin without labels set budget.start=none"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "start.txt"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=f"budget.start: {file}:? {message}"):
        check(Budget(start=file), 2, LABELS)
