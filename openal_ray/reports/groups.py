"""Runs that differ by nothing but their seed, averaged: the unit of every comparison."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from openal_ray.config import WHERE_IT_TRAINS
from openal_ray.config_file import flat
from openal_ray.errors import RunError
from openal_ray.reports.curves import SUPERVISED, Curve

_NO_EFFECT = (
    "seed", "out", "shards", "budget.n_end", "cluster", "tracking", "checkpoints", "read.batch_size",
    "read.compile", "data.root", "data.download", "data.cache_gb", "train.cpus_per_worker",
    *(f"train.{key}" for key in WHERE_IT_TRAINS),
    "tune.reuse_from",  # seeds that take another's choices are averaged with it: TorchAL's protocol
)  # fmt: skip
"""Keys whose value does not change what is measured, so that runs may differ in them and still be averaged."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and its sample standard deviation, which one seed alone does not have (nan)."""

    mean: float
    sd: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Estimate":
        sample = np.asarray(list(values), dtype=np.float64)
        return cls(float(sample.mean()), float(sample.std(ddof=1)) if len(sample) > 1 else float("nan"))


@dataclass(frozen=True, eq=False)
class Group:
    """The runs of one strategy in one setting on one data set, one a seed.

    strategy  its name, with the parameters in which its runs differ from others: lfosa(temperature=0.5)
    setting   other keys in which the runs of this data set differ: train.epochs=50; empty if there are none
    """

    dataset: str
    strategy: str
    setting: str
    curves: tuple[Curve, ...]

    @property
    def label(self) -> str:
        return f"{self.strategy} · {self.setting}" if self.setting else self.strategy

    @property
    def name(self) -> str:
        """The strategy's bare name."""
        return self.curves[0].strategy

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(curve.seed for curve in self.curves)

    @property
    def counts(self) -> np.ndarray:
        """[L] the counts of annotated images that any seed measured and all seeds cover, ascending; may be empty."""
        paid = [curve.annotated for curve in self.curves]
        first, last = max(each[0] for each in paid), min(each[-1] for each in paid)
        measured = np.unique(np.concatenate(paid))
        return measured[(measured >= first) & (measured <= last)]

    def at(self, column: str, counts: np.ndarray) -> np.ndarray:
        """[seeds, L] a column at equal counts of annotated images.

        Where a seed has no round with just that many (people may leave out some), it is read by a straight line
        between its rounds, which makes the standard deviation there a little too small.
        """
        return np.stack([curve.at(column, counts) for curve in self.curves])

    def mean_curve(self, column: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """[L] label counts, [L] mean over seeds and [L] sample standard deviation, 0 where there is one seed."""
        counts = self.counts
        values = self.at(column, counts)
        sd = values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(len(counts))
        return counts, values.mean(axis=0), sd

    def spent(self, phase: str) -> Estimate:
        """Seconds that a run spent in a phase."""
        return Estimate.of(curve.seconds(phase) for curve in self.curves)


def group(curves: Sequence[Curve]) -> list[Group]:
    """The groups, data set by data set, supervised references last; otherwise in the order of `curves`.

    raises  RunError if two runs differ neither in their seed nor in anything that matters
    """
    members: dict[tuple[str, str, str], list[Curve]] = {}
    for rivals in _rivals(curves):
        settings = [key for key in _varied_keys(rivals) if not key.startswith("strategy.")]
        for strategy in dict.fromkeys(curve.strategy for curve in rivals):
            peers = [curve for curve in rivals if curve.strategy == strategy]
            parameters = [key for key in _varied_keys(peers) if key.startswith("strategy.")]
            for curve in peers:
                name = strategy + (f"({_spell(curve, parameters)})" if parameters else "")
                members.setdefault((curve.dataset, name, _spell(curve, settings)), []).append(curve)
    groups = [Group(*key, tuple(sorted(runs, key=lambda run: run.seed))) for key, runs in members.items()]
    for each in groups:
        _check_distinct_seeds(each)
    return groups


def _rivals(curves: Sequence[Curve]) -> Iterator[list[Curve]]:
    """The runs to compare with each other: those of one data set, supervised references apart from the others."""
    for dataset in dict.fromkeys(curve.dataset for curve in curves):
        for supervised in (False, True):
            yield [c for c in curves if c.dataset == dataset and (c.strategy == SUPERVISED) is supervised]


def _varied_keys(curves: Sequence[Curve]) -> list[str]:
    """The keys that matter and do not have one value in all runs."""
    configs = [flat(curve.config) for curve in curves]
    keys = dict.fromkeys(key for config in configs for key in config)
    return [key for key in keys if _matters(key) and len({repr(config.get(key)) for config in configs}) > 1]


def _matters(key: str) -> bool:
    return not any(key == each or key.startswith(f"{each}.") for each in _NO_EFFECT)


def _spell(curve: Curve, keys: Sequence[str]) -> str:
    config = flat(curve.config)
    return ", ".join(f"{key.removeprefix('strategy.')}={config.get(key, 'default')}" for key in keys)


def _check_distinct_seeds(group: Group) -> None:
    first_run: dict[int, Curve] = {}
    for curve in group.curves:
        earlier = first_run.setdefault(curve.seed, curve)
        if earlier is not curve:
            raise RunError(
                f"{earlier.folder} and {curve.folder} are the same experiment twice ({group.dataset}, {group.label}, "
                f"seed {curve.seed}); name only one of them, since averaging both would count that seed double"
            )
