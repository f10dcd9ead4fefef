"""rounds.jsonl: the append-only account of an experiment, from which the pool and every table are derived.

One JSON object a line. The first is
  begin      the data set's name, number of train images and classes, the validation split, and `outside`, the images
             that are no part of the experiment
then, in this order for each round,
  asked      the query: indices, ids, scores, seconds; round 0 is the start set, later ones have the strategy's
             `guarantee`: exact, or what kind of approximation; `skipped`, the images that were found to be undecodable
             on the way and left the experiment: index to reason; `notes`, what the strategy wants to remember of each
  answered   the oracle's answers to it, -1 for out-of-distribution (in one write with `asked` if they are at hand)
  tried      if hyper-parameters are searched: a trial, its values, and what they came to on validation; in any order
  tuned      likewise, if a search ended or values were taken from another run: what rounds train with from here on
  evaluated  metrics on the test images and seconds, per-class table, training epochs
  finished   the last line of a run whose budget is spent
"""

import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from openal_ray.errors import RunError
from openal_ray.pool import Pool
from openal_ray.storage import files
from openal_ray.storage.url import Place

log = logging.getLogger(__name__)
Line = dict[str, Any]


@dataclass(frozen=True, eq=False)
class PastQuery:
    """A query of an earlier round with its answers: all that a strategy can remember.

    indices  int64 [k] dataset indices, in the order picked
    answers  int64 [k] classes, -1 for out-of-distribution
    notes    what its picks said of each image, row by row
    """

    round: int
    indices: np.ndarray
    answers: np.ndarray
    notes: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class State:
    """Where an experiment stands, replayed from its lines.

    begin                       the first line; empty before it
    asked, answered, evaluated  the lines of each kind, by round
    tried                       those of trials, by round and trial
    tuned                       those of chosen hyper-parameters, by round
    ending                      the line `finished`; empty before it
    """

    begin: Line = field(default_factory=dict)
    asked: dict[int, Line] = field(default_factory=dict)
    answered: dict[int, Line] = field(default_factory=dict)
    evaluated: dict[int, Line] = field(default_factory=dict)
    tried: dict[int, dict[int, Line]] = field(default_factory=dict)
    tuned: dict[int, Line] = field(default_factory=dict)
    ending: Line = field(default_factory=dict)

    @property
    def round(self) -> int:
        """The last round that was asked; -1 before the start set."""
        return max(self.asked, default=-1)

    @property
    def pending(self) -> Line | None:
        """The query that waits for answers, if there is one."""
        return self.asked[self.round] if self.round in self.asked and self.round not in self.answered else None

    @property
    def trained(self) -> bool:
        """True if the last round is complete, so that the next query may be chosen."""
        return self.round in self.evaluated

    @property
    def skipped(self) -> np.ndarray:
        """Indices of the images that cannot be decoded and left the experiment, ascending."""
        found = {int(index) for line in self.asked.values() for index in line.get("skipped", {})}
        return np.array(sorted(found), dtype=np.int64)

    @property
    def validation(self) -> np.ndarray:
        """Indices of the validation split, as it was when the run began."""
        return np.array(self.begin.get("validation", []), dtype=np.int64)

    def history(self) -> tuple[PastQuery, ...]:
        """Every query that has been answered, the start set first."""
        return tuple(
            PastQuery(
                number, np.array(asked["indices"], np.int64), np.array(self.answered[number]["answers"], np.int64),
                {name: np.array(values) for name, values in asked.get("notes", {}).items()},
            )
            for number, asked in sorted(self.asked.items())
            if number in self.answered
        )  # fmt: skip

    def tuned_by(self, round: int) -> Line | None:
        """The line of the hyper-parameters that round `round` trains with; None: those of the configuration."""
        found = [number for number in self.tuned if number <= round]
        return self.tuned[max(found)] if found else None

    @property
    def outside(self) -> np.ndarray:
        """Indices of the images that are no part of the experiment."""
        return np.array(self.begin.get("outside", []), dtype=np.int64)

    @property
    def bought(self) -> int:
        """How many answers were paid for, start set included."""
        return sum(len(line["answers"]) for line in self.answered.values())

    def pool(self, return_rejected: bool = False) -> Pool:
        """The pool after all answers, without the validation split, the skipped images and those outside.

        return_rejected  rejected images may be asked again
        """
        held_out = np.unique(np.concatenate([self.validation, self.skipped, self.outside]))
        pool = Pool(self.begin["images"], held_out=held_out, return_rejected=return_rejected)
        for number, answer in sorted(self.answered.items()):
            pool = pool.annotate(self.asked[number]["indices"], answer["answers"])
        return pool


class Record:
    """The file, opened for appending; its whole lines are the truth, a cut-off last line never happened.

    check  called before each write; raises RunError if this process may not write any more
    """

    def __init__(self, path: Place, read_only: bool = False, check: Callable[[], None] = lambda: None) -> None:
        self.path, self._check = path, check
        self.state = State()
        self._content = b""
        if path.exists():
            self._replay(repair=not read_only)

    def begin(
        self,
        data: str,
        images: int,
        classes: Sequence[str],
        validation: Callable[[], Iterable[int]] = tuple,
        outside: Sequence[int] | np.ndarray = (),
    ) -> None:
        """Writes the first line, or checks that the data set is still the one that the run began with.

        validation  draws the split; called only then, since its candidates may have changed by the next start
        """
        now = {"kind": "begin", "data": data, "images": images, "classes": list(classes)}
        then = self.state.begin
        if not then:
            self.append(now | {"validation": validation()} | ({"outside": outside} if len(outside) else {}))
            return
        for key, value in now.items():
            if value != then.get(key):
                raise RunError(
                    f"{self.path.parent}: the data set is not the one this run began with: {key} was "
                    f"{str(then.get(key))[:200]}, is {str(value)[:200]}. Restore it, or begin a new run."
                )

    def append(self, *lines: Mapping[str, Any]) -> None:
        """Adds lines: all of them reach the disk, or none; raises ValueError for a line that cannot follow."""
        texts = [json.dumps(_plain(line), ensure_ascii=False) for line in lines]
        state = self.state
        for text in texts:
            state = _after(state, json.loads(text))
        # A file name that is not UTF-8 has lone surrogates; written as \udcXX, which JSON reads back as they were.
        added = "".join(f"{text}\n" for text in texts).encode("utf-8", errors="backslashreplace")
        self._check()
        try:
            files.append(self.path, added, self._content)
        except OSError as error:
            raise RunError(
                f"{self.path}: cannot be written ({error.strerror}). Nothing of the finished rounds is lost; "
                "make room and `openal-ray resume`."
            ) from None
        self.state, self._content = state, self._content + added

    def _replay(self, repair: bool) -> None:
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content) and repair:
            log.warning("%s: its last line was cut off and is dropped", self.path)
            files.truncate(self.path, whole)
        self._content = whole
        for number, line in enumerate(whole.split(b"\n")[:-1], start=1):
            try:
                self.state = _after(self.state, json.loads(line.decode("utf-8")))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise RunError(
                    f"{self.path}: line {number} is damaged ({error!r}). Cut the file before that line to go on from "
                    "the rounds before it, or start anew in another folder."
                ) from None


def _after(state: State, line: Line) -> State:
    """The state once `line` has happened; raises ValueError, KeyError or TypeError for a line that cannot follow."""
    kind = line["kind"]
    if kind == "begin":
        return replace(state, begin=line)
    if kind == "finished":
        return replace(state, ending=line)
    if kind == "tried":
        trials = {**state.tried.get(line["round"], {}), line["trial"]: line}
        return replace(state, tried={**state.tried, line["round"]: trials})
    if kind not in ("asked", "answered", "tuned", "evaluated"):
        raise ValueError(f"unknown kind {kind!r}")
    if kind == "answered":
        asked, answered = len(state.asked[line["round"]]["indices"]), len(line["answers"])
        if asked != answered:
            raise ValueError(f"{asked} images were asked, but there are {answered} answers")
    return replace(state, **{kind: {**getattr(state, kind), line["round"]: line}})


def selections(state: State) -> Iterable[tuple[int, int, int, str, float | None]]:
    """The rows of selections.csv: round, rank (from 1), index, id, score (None where nothing was scored)."""
    for number, line in sorted(state.asked.items()):
        for rank, (index, name, score) in enumerate(zip(line["indices"], line["ids"], line["scores"], strict=True), 1):
            yield number, rank, index, name, score


def labels(state: State) -> Iterable[tuple[int, int, str, int]]:
    """Everything that was answered: round, index, id, class (-1 for out-of-distribution)."""
    for number, answer in sorted(state.answered.items()):
        asked = state.asked[number]
        for index, name, label in zip(asked["indices"], asked["ids"], answer["answers"], strict=True):
            yield number, index, name, label


def trials(state: State) -> Iterable[Line]:
    """The rows of trials.csv: round, trial, whether its round trains with it, what it came to, its values by key."""
    for number, tried in sorted(state.tried.items()):
        for trial, line in sorted(tried.items()):
            chosen = int(state.tuned.get(number, {}).get("trial") == trial)
            told = {name: line[name] for name in ("validation_accuracy", "validation_loss", "epochs", "seconds")}
            yield {"round": number, "trial": trial, "chosen": chosen, **told, **_spelt(line["values"])}


def choices(state: State) -> Iterable[Line]:
    """The rows of choices.csv: each finished round's labels, where its hyper-parameters are from, and their values."""
    for number, line in sorted(state.evaluated.items()):
        tuned = state.tuned_by(number) or {"values": {}}
        searched = len(state.tried.get(number, {}))
        origin = "configuration" if "round" not in tuned else tuned.get("from") or f"search of round {tuned['round']}"
        yield {
            "round": number, "labelled": line["row"]["labelled"], "trials": searched, "from": origin,
            "trial": tuned.get("trial"), "validation_accuracy": line["row"].get("validation_accuracy"),
            **_spelt(tuned["values"]),
        }  # fmt: skip


def _spelt(values: Mapping[str, Any]) -> Line:
    """Values fit for the fields of a table: what has parts is written as JSON."""
    return {key: json.dumps(value) if isinstance(value, Mapping | list) else value for key, value in values.items()}


def _plain(value: Any) -> Any:
    """The value in JSON's types; numbers that are not finite become null, since JSON has none."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
