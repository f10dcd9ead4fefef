"""Tests of record.py: what was appended is what is replayed, whatever happened to the file in between."""

import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openal_ray.errors import RunError
from openal_ray.record import Record, State, selections
from tests.disk import full_beyond

CLASSES = ["cat", "dog"]


def asked(number: int, *indices: int) -> dict[str, Any]:
    scores = [index / 8 for index in indices]
    ids = [f"{index}.png" for index in indices]
    return {"kind": "asked", "round": number, "indices": list(indices), "ids": ids, "scores": scores}


def answered(number: int, *answers: int) -> dict[str, Any]:
    return {"kind": "answered", "round": number, "answers": list(answers)}


def two_rounds(path: Path) -> Record:
    """Round 0 labels 3 and 1, round 1 labels 4 and rejects 0; 5 and 6 are for validation, 2 and 5 cannot be decoded."""
    record = Record(path)
    record.begin("pets", 8, CLASSES, lambda: np.array([5, 6]))
    record.append(asked(0, 3, 1), answered(0, 1, 0))
    record.append({"kind": "evaluated", "round": 0, "row": {"accuracy": 0.5}, "per_class": []})
    record.append(asked(1, 4, 0) | {"skipped": {2: "2.png: cut off", 5: "5.png: cut off"}}, answered(1, 0, -1))
    return record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rounds.jsonl"


def test_the_pool_is_the_sum_of_all_answers(path: Path) -> None:
    state = two_rounds(path).state
    pool = state.pool()
    assert pool.labelled.tolist() == [3, 1, 4]
    assert pool.classes.tolist() == [1, 0, 0]
    assert pool.rejected.tolist() == [0]
    assert pool.held_out.tolist() == [2, 5, 6]
    assert pool.unlabelled.between(0, 8).tolist() == [7]


def test_where_a_run_stands(path: Path) -> None:
    record = Record(path)
    assert (record.state.round, record.state.pending, record.state.trained) == (-1, None, False)
    record.begin("pets", 8, CLASSES)
    assert (record.state.round, record.state.pending, record.state.trained) == (-1, None, False)
    record.append(asked(0, 3))
    assert record.state.pending == asked(0, 3)
    record.append(answered(0, 1))
    assert (record.state.round, record.state.pending, record.state.trained) == (0, None, False)
    record.append({"kind": "evaluated", "round": 0, "row": {}, "per_class": []})
    assert (record.state.round, record.state.trained, record.state.ending) == (0, True, {})
    record.append({"kind": "finished"})
    assert record.state.ending == {"kind": "finished"}


def test_a_replay_gives_the_same_state(path: Path) -> None:
    record = two_rounds(path)
    again = Record(path)
    assert again.state == record.state
    assert again.state.skipped.tolist() == [2, 5]
    assert again.state.validation.tolist() == [5, 6]
    again.append(asked(2, 2))
    assert Record(path).state.round == 2


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(), min_size=1))
def test_any_text_survives(path: Path, texts: list[str]) -> None:
    path.unlink(missing_ok=True)
    record = Record(path)
    record.begin("pets", 8, texts)
    line = {**asked(0, *range(len(texts))), "ids": texts}
    record.append(line)
    assert record.state.asked[0]["ids"] == texts
    assert Record(path).state == record.state


@pytest.mark.parametrize("name", ["line\u2028separator", "next\x85line", "carriage\rreturn", "not UTF-8: \udcff"])
def test_file_names_that_break_lines_or_encodings_survive(path: Path, name: str) -> None:
    record = Record(path)
    record.append({**asked(0, 3), "ids": [name]})
    assert Record(path).state.asked[0]["ids"] == [name]
    assert path.read_bytes().count(b"\n") == 1


def test_each_line_is_json_that_any_program_reads(path: Path) -> None:
    record = Record(path)
    scores = np.array([0.5, np.nan, -np.inf], np.float32)
    row = {"accuracy": np.float64(0.25), "auroc": math.nan, "best": np.bool_(True), "counts": (np.int64(3), None)}
    record.append({**asked(0, 1, 2, 3), "indices": np.array([1, 2, 3]), "scores": scores}, answered(0, 0, 0, 1))
    record.append({"kind": "evaluated", "round": 0, "row": row, "per_class": [{1: "Küche"}]})

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    first, _, last = [json.loads(line, parse_constant=refuse) for line in path.read_text("utf-8").splitlines()]
    assert (first["indices"], first["scores"]) == ([1, 2, 3], [0.5, None, None])
    assert last["row"] == {"accuracy": 0.25, "auroc": None, "best": True, "counts": [3, None]}
    assert last["per_class"] == [{"1": "Küche"}]
    assert "Küche" in path.read_text("utf-8")
    assert record.state.evaluated[0] == last  # what is held is what was written


def test_selections_are_ranked_within_their_round(path: Path) -> None:
    record = Record(path)
    record.append({**asked(0, 3), "scores": [math.nan]}, answered(0, 1), asked(1, 4, 0))
    assert list(selections(record.state)) == [
        (0, 1, 3, "3.png", None),
        (1, 1, 4, "4.png", 0.5),
        (1, 2, 0, "0.png", 0.0),
    ]


@pytest.mark.parametrize("cut", [1, 12, 70])
def test_a_last_line_that_was_cut_off_never_happened(path: Path, cut: int, caplog: pytest.LogCaptureFixture) -> None:
    record = two_rounds(path)
    before, whole = record.state, path.read_bytes()
    record.append({"kind": "evaluated", "round": 1, "row": {"accuracy": 0.75}, "per_class": []})
    complete = path.read_bytes()
    path.write_bytes(complete[:-cut])

    assert Record(path, read_only=True).state == before
    assert path.read_bytes() == complete[:-cut]  # reading alone repairs nothing

    with caplog.at_level(logging.WARNING):
        repaired = Record(path)
    assert repaired.state == before
    assert path.read_bytes() == whole
    assert f"{path}: its last line was cut off and is dropped" in caplog.text
    repaired.append({"kind": "evaluated", "round": 1, "row": {"accuracy": 0.75}, "per_class": []})
    assert path.read_bytes() == complete


def test_a_write_that_was_cut_between_query_and_answers_leaves_the_query_pending(path: Path) -> None:
    two_rounds(path)
    path.write_bytes(path.read_bytes()[:-5])
    state = Record(path).state
    assert state.pending is not None and state.pending["indices"] == [4, 0]
    assert state.pool().labelled.tolist() == [3, 1]


DAMAGE = {
    "cut short": (b'{"kind": "answered", "round"', "JSONDecodeError"),
    "no object": (b"[1, 2]", "TypeError"),
    "no kind": (b'{"round": 0}', "KeyError('kind')"),
    "unknown kind": (b'{"kind": "guessed", "round": 0}', "unknown kind 'guessed'"),
    "empty": (b"", "JSONDecodeError"),
    "not UTF-8": (b'{"kind": "answered", "round": 0, "answers": [1, 0], "note": "\xff"}', "UnicodeDecodeError"),
    "too few answers": (b'{"kind": "answered", "round": 0, "answers": [1]}', "2 images were asked, but"),
    "answers to no query": (b'{"kind": "answered", "round": 7, "answers": [1, 0]}', "KeyError(7)"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_middle_line_is_named_and_the_file_left_alone(path: Path, kind: str) -> None:
    two_rounds(path)
    lines = path.read_bytes().split(b"\n")
    lines[2], reason = DAMAGE[kind]
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(RunError) as caught:
        Record(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: line 3 is damaged (")
    assert message.endswith(
        "Cut the file before that line to go on from the rounds before it, or start anew in another folder."
    )
    assert reason in message
    assert path.read_bytes() == b"\n".join(lines)
    path.write_bytes(b"\n".join(lines[:2]) + b"\n")  # as the message advises
    assert Record(path).state.pending == asked(0, 3, 1)


def test_lines_that_cannot_follow_are_refused_before_anything_is_written(path: Path) -> None:
    record = two_rounds(path)
    before, content = record.state, path.read_bytes()
    with pytest.raises(ValueError, match="1 images were asked, but there are 2 answers"):
        record.append(asked(2, 7), answered(2, 0, 1))
    assert record.state == before
    assert path.read_bytes() == content


def test_a_full_disk_loses_nothing(path: Path) -> None:
    record = two_rounds(path)
    before, content = record.state, path.read_bytes()
    lines = (asked(2, 7), answered(2, 1))
    with full_beyond(len(content) + 60), pytest.raises(RunError) as caught:  # room for a part of the first line
        record.append(*lines)
    assert str(caught.value) == (
        f"{path}: cannot be written (File too large). Nothing of the finished rounds is lost; "
        "make room and `openal-ray resume`."
    )
    assert path.read_bytes() == content
    assert record.state == before
    record.append(*lines)
    assert Record(path).state.answered[2] == answered(2, 1)


def test_a_folder_that_vanished_is_an_error_for_people(tmp_path: Path) -> None:
    record = Record(tmp_path / "gone" / "rounds.jsonl")
    with pytest.raises(RunError, match="cannot be written .No such file or directory."):
        record.begin("pets", 8, CLASSES)
    assert record.state == State()


def test_the_same_data_set_may_go_on(path: Path) -> None:
    two_rounds(path)
    content = path.read_bytes()
    Record(path).begin("pets", 8, tuple(CLASSES))
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("now", "changed"),
    [
        (("cars", 8, CLASSES), "data was pets, is cars"),
        (("pets", 9, CLASSES), "images was 8, is 9"),
        (("pets", 8, ["dog", "cat"]), r"classes was \['cat', 'dog'\], is \['dog', 'cat'\]"),
    ],
)
def test_another_data_set_is_refused(path: Path, now: tuple[str, int, list[str]], changed: str) -> None:
    two_rounds(path)
    with pytest.raises(RunError, match=f"the data set is not the one this run began with: {changed}. Restore it, or"):
        Record(path).begin(*now)
