"""The images that are labelled before round 0."""

from collections import Counter
from pathlib import Path

import numpy as np

from openal_ray.config import Budget
from openal_ray.errors import ConfigError, unknown_name
from openal_ray.pool import UNLABELLED, DatasetOracle, Pool

RULES = ("stratified", "random", "given", "none")


def check(budget: Budget, n_classes: int, labels: np.ndarray) -> None:
    """Raises ConfigError for a start set that cannot be drawn; `labels` are the data set's."""
    unlabelled = labels == UNLABELLED
    if budget.start == "stratified" and budget.n_start < n_classes:
        raise ConfigError(
            f"budget.n_start={budget.n_start} is less than the {n_classes} classes, so a stratified start set cannot "
            "hold one image of each. Raise it, or set budget.start=random."
        )
    if budget.start == "given" and not unlabelled.any():
        raise ConfigError(
            "budget.start=given takes the rows that are labelled already, and all are: there is no unlabelled row to "
            "ask for. To simulate the labelling, set budget.start=stratified or random."
        )
    if budget.start == "given" and unlabelled.all():
        raise ConfigError("budget.start=given needs some labelled rows; set budget.start=none to begin without any")
    if budget.start in ("stratified", "random") and unlabelled.any():
        raise ConfigError(
            f"{unlabelled.sum()} of {len(labels)} train images have no label, so nobody can answer for them in a "
            "simulation. Set budget.start=given to ask people: the labelled rows are the start set."
        )
    if isinstance(budget.start, Path):
        _indices_in(budget.start, len(labels))


def choose(budget: Budget, pool: Pool, oracle: DatasetOracle, n_classes: int, rng: np.random.Generator) -> np.ndarray:
    """Dataset indices of the start set, by the rule budget.start; at most the pool has."""
    count = min(budget.n_start, pool.unlabelled.count)
    if budget.start == "none":
        return np.empty(0, dtype=np.int64)
    if budget.start == "random":
        return pool.unlabelled.draw(count, rng)
    if budget.start == "stratified":
        return oracle.stratified(pool.unlabelled, count, n_classes, rng)
    if budget.start == "given":
        return oracle.answerable(pool.unlabelled)
    indices = _indices_in(budget.start, pool.size)
    return indices[~np.isin(indices, pool.held_out)]


def _indices_in(file: Path, size: int) -> np.ndarray:
    path = file.expanduser()
    if not path.is_file():
        raise ConfigError(
            f"budget.start: {unknown_name('rule', str(file), RULES)} "
            "There is no file of dataset indices of that name either."
        )
    try:
        indices = [int(word) for word in path.read_text(encoding="utf-8").replace(",", " ").split()]
    except ValueError as error:
        raise ConfigError(f"budget.start: {path} must hold dataset indices, one a line: {error}") from None
    problem = _problem(indices, size)
    if problem:
        raise ConfigError(f"budget.start: {path}: {problem}")
    return np.array(indices, dtype=np.int64)


def _problem(indices: list[int], size: int) -> str | None:
    if not indices:
        return "it holds no dataset index; to begin without labels set budget.start=none"
    wrong = next((index for index in indices if not 0 <= index < size), None)
    if wrong is not None:
        return f"{wrong} is not in 0 … {size - 1}"
    twice = next((index for index, times in Counter(indices).items() if times > 1), None)
    return None if twice is None else f"{twice} stands there more than once"
