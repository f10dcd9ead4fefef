"""The images that are labelled before round 0."""

from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np

from openal_ray.config import Budget
from openal_ray.errors import ConfigError, unknown_name
from openal_ray.pool import UNLABELLED, DatasetOracle, Listed, Pool

RULES = ("stratified", "random", "given", "none")


def check(budget: Budget, n_classes: int, labels: np.ndarray, noise_ratio: float = 0.0) -> None:
    """Raises ConfigError for a start set that cannot be drawn; `labels` are the data set's."""
    unlabelled = labels == UNLABELLED
    if budget.start == "stratified" and 1 <= budget.n_start and budget.n_start * (1 - noise_ratio) < n_classes:
        known = f", of which {1 - noise_ratio:.0%} of known classes," if noise_ratio else ""
        raise ConfigError(
            f"budget.n_start={budget.n_start}{known} is less than the {n_classes} classes, so a stratified start set "
            "cannot hold one image of each. Raise it, or set budget.start=random."
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


def choose(
    budget: Budget,
    pool: Pool,
    oracle: DatasetOracle,
    n_classes: int,
    rng: np.random.Generator,
    noise_ratio: float | None = None,
) -> np.ndarray:
    """Dataset indices of the start set, by the rule budget.start; at most the pool has.

    Images of no known class are not among them, whatever the rule, unless
    noise_ratio  so large a share of the start set is of them, as in the protocols of that family
    """
    if budget.start == "none":
        return np.empty(0, dtype=np.int64)
    if budget.start == "given":
        return oracle.answerable(pool.unlabelled)
    if budget.start in ("random", "stratified"):
        return _drawn(budget, pool, oracle, n_classes, rng, noise_ratio or 0.0)
    indices = _indices_in(Path(budget.start), pool.size)
    return indices[~np.isin(indices, pool.held_out)]


def _drawn(
    budget: Budget, pool: Pool, oracle: DatasetOracle, n_classes: int, rng: np.random.Generator, noise_ratio: float
) -> np.ndarray:
    known = Listed(oracle.in_distribution(pool.unlabelled))
    rejected = np.setdiff1d(oracle.answerable(pool.unlabelled), known.indices)
    share = Fraction(str(budget.n_start))  # as the decimal it is written as, so that no float error costs an image
    count = int(share * known.count) if share < 1 else int(share)
    n_rejected = min(int(count * Fraction(str(noise_ratio))), len(rejected))
    n_known = min(int(count * (1 - Fraction(str(noise_ratio)))), known.count)
    if budget.start == "stratified":
        chosen = oracle.stratified(known, n_known, n_classes, rng)
    else:
        chosen = known.draw(n_known, rng)
    return chosen if not n_rejected else rng.permutation(np.append(chosen, rng.permutation(rejected)[:n_rejected]))


def _indices_in(file: Path, size: int) -> np.ndarray:
    path = file.expanduser()
    if not path.is_file():
        raise ConfigError(
            f"budget.start: {unknown_name('rule', file.name, RULES)} "
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
