"""Tests of progress.py: one line a round where nobody watches, moving bars in a terminal that is left clean."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from openal_ray import config
from openal_ray.listener import Listener
from openal_ray.progress import ProgressLine
from openal_ray.training.job import Epoch


def run(line: Listener, rounds: int = 2, strategy: str | None = "margin") -> None:
    """What an experiment tells its listener."""
    line.begin(config.parse({"strategy": strategy, "seed": 3}), Path("runs"), rounds, 0)
    for round in range(rounds):
        line.phase("query", round, 100)
        line.advance(60)
        line.advance(-20)  # a lost shard takes images back
        line.phase("train", round, 2)
        for epoch in range(2):
            line.epoch(Epoch(epoch, 2, 0.5, 0.5, float("nan"), float("nan"), 1.0))
        line.phase("evaluate", round, 50)
        line.advance(50)
        line.round_done({"round": round, "labelled": 20 + 15 * round, "accuracy": 0.5 + round / 8})


def printed(width: int = 80, terminal: bool = False, runs: int = 1, **options: Any) -> str:
    with io.StringIO() as file:
        console = Console(file=file, force_terminal=terminal, width=width, _environ={"TERM": "xterm"})
        with ProgressLine(console, runs) as line:
            for _ in range(runs):
                run(line, **options)
        return file.getvalue()


def test_without_a_terminal_there_is_one_plain_line_a_round() -> None:
    assert printed() == (
        "margin, seed 3: round 0/1, 20 labels, accuracy 50.0 %\nmargin, seed 3: round 1/1, 35 labels, accuracy 62.5 %\n"
    )


def test_answers_are_told_from_labels_where_a_set_is_open() -> None:
    file = io.StringIO()
    line = ProgressLine(Console(file=file, width=120), 1)
    line.begin(config.parse({"strategy": "margin", "seed": 3}), Path("runs"), 5, done=1)
    row = {"round": 1, "labelled": 26, "accuracy": 0.75, "annotated": 40}
    line.round_done(row | {"purity": 0.3})
    line.round_done(row | {"purity": float("nan")})  # nothing was asked
    told = "margin, seed 3: round 1/4, 40 answers, 26 labels, accuracy 75.0 %"
    assert file.getvalue().splitlines() == [f"{told}, 30% of the query known", told]


def test_several_runs_are_counted() -> None:
    lines = printed(runs=2).splitlines()
    assert [line[:5] for line in lines] == ["[1/2]", "[1/2]", "[2/2]", "[2/2]"]


def test_without_a_strategy_all_labels_are_used() -> None:
    assert printed(strategy=None, rounds=1) == "all labels, seed 3: round 0/0, 20 labels, accuracy 50.0 %\n"


def test_a_long_or_marked_up_name_stays_one_line_as_it_is() -> None:
    name = "/home/someone/a long folder/[bold]strategies[/bold]/:smile:.py:mine"
    text = printed(width=40, strategy=name, rounds=1)
    assert text == f"{name}, seed 3: round 0/0, 20 labels, accuracy 50.0 %\n"


def test_in_a_terminal_bars_move_and_are_removed() -> None:
    text = printed(terminal=True)
    for part in ("round 1/1, 35 labels, accuracy 62.5 %", "\x1b[?25l", "\x1b[?25h", "evaluating"):
        assert part in text  # the cursor is hidden, and shown again at the end
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_the_terminal_is_restored_after_an_error() -> None:
    with io.StringIO() as file:
        console = Console(file=file, force_terminal=True, _environ={"TERM": "xterm"})
        with pytest.raises(KeyboardInterrupt), ProgressLine(console, 1) as line:
            line.begin(config.parse({}), Path("runs"), 1, 0)
            raise KeyboardInterrupt
        _, shown, rest = file.getvalue().rpartition("\x1b[?25h")
    assert shown
    assert "\x1b[?25l" not in rest  # the cursor stays
    assert rest.endswith("\x1b[2K")  # and the bar's line is wiped


def test_the_bars_follow_the_work() -> None:
    line = ProgressLine(Console(file=io.StringIO(), force_terminal=True), 1)
    line.begin(config.parse({"strategy": "margin", "seed": 3}), Path("runs"), 5, done=2)
    line.phase("train", 3, 40)
    line.epoch(Epoch(9, 40, 0.5, 0.5, 0.5, 0.5, 1.0))
    whole, step = line.bars.tasks
    assert (whole.description, whole.completed, whole.total) == ("margin, seed 3: rounds", 2, 5)
    assert (step.description, step.completed, step.total) == ("  round 3: training", 10, 40)
    line.round_done({"round": 3, "labelled": 65, "accuracy": 0.75})
    assert [(task.description, task.completed) for task in line.bars.tasks] == [("margin, seed 3: rounds", 3)]
    line.phase("query", 4, 0)  # nothing to read: the bar pulses
    assert line.bars.tasks[1].total is None
