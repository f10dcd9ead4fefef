"""Many runs at once on a cluster, compared at the end; the same call goes on with a sweep that was interrupted.

Each run is an ordinary run folder inside the sweep's. All strategies of one seed share the start set, the first weights
and the validation split, since those are drawn from the seed alone.
"""

import json
import logging
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openal_ray import config, config_file, run_folder, runs
from openal_ray.checks import check
from openal_ray.config import Config
from openal_ray.data.dataset import Dataset
from openal_ray.errors import ConfigError, ResourceError, UserError
from openal_ray.listener import Silent, SweepListener
from openal_ray.pool import AnswersPending
from openal_ray.storage import files
from openal_ray.storage.url import Place
from openal_ray.sweep_file import KEPT, Sweep

log = logging.getLogger(__name__)
ORPHAN_SECONDS = 60  # for the processes of a driver that was killed to end
FAILED = "error.txt"
"""In a run's folder, the traceback of its last failure."""
SIGNALS = ".signals"
"""In the sweep's folder, what all its runs have read from frozen networks."""

Tell = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Swept:
    """What a sweep came to.

    folders  run folders with at least one finished round, in the grid's order
    failed   errors of the runs that failed for good, in a sentence each, by run
    waiting  runs that wait for people to label
    stopped  runs that asha stopped
    """

    folders: list[Place]
    failed: dict[str, str]
    waiting: list[str]
    stopped: list[str]


def sweep(plan: Sweep, listener: SweepListener) -> Swept:
    """Works off the sweep's runs, as many at once as the cluster holds; finished ones are not run again.

    raises  UserError, before any work where it can be known by then; a run that fails does not stop the others
    """
    from openal_ray.cluster.reservation import adapted

    trials = {one.folder.name: adapted(_sharing(one, plan.out)) for one in plan.runs()}
    datasets = _checked(trials)
    with _held(plan):
        finished = [name for name, trial in trials.items() if _state(trial.folder) == "finished"]
        # Asha compares with finished runs, so those tell of their rounds again.
        left = {name: trial for name, trial in trials.items() if plan.asha or name not in finished}
        failures = _Failures(listener, plan.out)
        if len(finished) < len(trials):
            _run(plan, left, datasets, failures, len(trials), len(finished))
    return _swept(trials, failures.final)


def carry_out(configuration: Config, dataset: Dataset, tell: Tell, again: bool = False) -> None:
    """One run from wherever its folder stands to its end, or until people have to label.

    dataset  without images of no known class; they join as the configuration says
    again    also tell of rounds that were finished before
    """
    folder = configuration.folder
    run_folder.wait_until_free(folder, ORPHAN_SECONDS)
    listener = _Telling(tell)
    try:
        if not (folder / "config.yaml").is_file():
            runs.run(configuration, dataset=dataset, listener=listener)
            return
        (folder / FAILED).unlink(missing_ok=True)
        if again:
            for row in run_folder.rows(folder):
                tell({**row, "rounds": None})
        runs.resume(folder, *_where(configuration), dataset=dataset, listener=listener)
    except AnswersPending:
        return  # the others go on; the folder says that it waits


def _sharing(configuration: Config, out: Place) -> Config:
    """The run with a place for signals of frozen networks that all of the sweep share; a store is too far for that."""
    read = configuration.read
    if read.cache or not isinstance(out, Path):
        return configuration
    return configuration.model_copy(update={"read": read.model_copy(update={"cache": out / SIGNALS})})


def _carry_out_again(configuration: Config, dataset: Dataset, tell: Tell) -> None:
    carry_out(configuration, dataset, tell, again=True)


def _run(
    plan: Sweep, trials: Mapping[str, Config], datasets: Mapping[str, Dataset], listener: SweepListener,
    runs: int, finished: int,
) -> None:  # fmt: skip
    from openal_ray.cluster.connect import connected
    from openal_ray.cluster.sweeps import run_trials

    cluster = next(iter(trials.values())).cluster
    with connected(cluster, verbose=log.isEnabledFor(logging.DEBUG)):
        at_once = _at_once(plan, trials)
        listener.begin(runs, finished, at_once)
        work = _carry_out_again if plan.asha else carry_out
        run_trials(trials, datasets, work, listener, at_once, plan.retries, plan.asha, plan.out / ".tune")


def _at_once(plan: Sweep, trials: Mapping[str, Config]) -> int:
    """How many runs may work at the same time; raises ResourceError if the cluster cannot hold one."""
    from openal_ray.cluster import reservation, share

    largest = max(trials.values(), key=lambda trial: reservation.needed(trial)["CPU"])
    demand = reservation.needed(largest)
    cpus_and_gpus = {name: demand[name] for name in ("CPU", "GPU")}
    there = share.grown_to(cpus_and_gpus, largest) | {"memory": share.memory()}
    most = reservation.most_at_once(trials.values(), there)
    if not most:
        raise ResourceError(
            f"one run of the sweep needs {demand['CPU']:g} CPUs, {demand['GPU']:g} GPUs and about "
            f"{demand['memory'] / 2**30:.1f} GiB, the cluster has {there['CPU']:g}, {there['GPU']:g} and "
            f"{there['memory'] / 2**30:.1f}. Lower shards, cluster.cpus_per_shard, train.workers or "
            "train.cpus_per_worker, or use a larger cluster (cluster.address)"
        )
    if there["GPU"] and not demand["GPU"]:
        log.warning("the cluster's GPUs stay idle: set train.gpus_per_worker and cluster.gpus_per_shard to use them")
    train_outside = any(reservation.trainers(trial)["CPU"] for trial in trials.values())
    if plan.concurrency and plan.concurrency > most and train_outside:
        raise ConfigError(
            f"concurrency={plan.concurrency}: runs that train with Ray Train would wait for each other for ever; the "
            f"cluster holds {most} of them at once"
        )
    return plan.concurrency or most


def _checked(trials: Mapping[str, Config]) -> dict[str, Dataset]:
    """The data set of each run, each loaded once; raises what would stop a run before it does any work."""
    loaded: dict[str, Dataset] = {}
    found = {}
    for name, trial in trials.items():
        key = trial.data.model_dump_json()
        if key not in loaded:
            loaded[key] = runs.closed_dataset(trial, trial.data.name)
        found[name] = loaded[key]
        begun = (trial.folder / "config.yaml").is_file()
        try:
            check(trial, runs.Datasets(found[name]).of(trial), begun)
        except UserError as error:
            raise type(error)(f"{name}: {error}") from None
        if begun:
            _check_same(trial)
    return found


def _check_same(trial: Config) -> None:
    """Raises ConfigError if the run was begun with other keys that decide its results."""
    old, new = (config_file.flat(json.loads(one.model_dump_json(by_alias=True)))
                for one in (run_folder.read_config(trial.folder), trial))  # fmt: skip
    for key in [*new, *(old.keys() - new.keys())]:
        if old.get(key) != new.get(key) and key != "out" and not f"{key}=".startswith(runs.WHERE):
            raise ConfigError(
                f"{key}: {trial.folder} was begun with {old.get(key)!r}, and the sweep now says {new.get(key)!r}. "
                "Choose another folder with out=DIR, or remove that run."
            )


def _where(configuration: Config) -> list[str]:
    """The keys that say where a run works, as overrides of its resume."""
    values = config_file.flat(configuration.model_dump(mode="json", by_alias=True))
    settings = (f"{key}={json.dumps(value)}" for key, value in values.items())
    return [setting for setting in settings if setting.startswith(runs.WHERE)]


@contextmanager
def _held(plan: Sweep) -> Iterator[None]:
    """The sweep's folder with its file in it, kept from other drivers."""
    holding = run_folder.held(plan.out, ".sweep.lock")
    try:
        run_folder.write(plan.out / KEPT, config.dump(plan))
        yield
    finally:
        holding.release()


def _state(folder: Place) -> str | None:
    return run_folder.status(folder)["state"] if (folder / "config.yaml").is_file() else None


def _swept(trials: Mapping[str, Config], failed: dict[str, str]) -> Swept:
    states = {name: run_folder.status(trial.folder) for name, trial in trials.items() if _state(trial.folder)}
    return Swept(
        [trials[name].folder for name, state in states.items() if state["rounds"]],
        failed,
        [name for name, state in states.items() if state["waiting_for_labels"]],
        [name for name, s in states.items() if s["state"] == run_folder.INTERRUPTED and name not in failed],
    )


class _Failures:
    """Passes on to a listener, keeps errors of runs that failed for good, and leaves tracebacks in their folders."""

    def __init__(self, listener: SweepListener, out: Place) -> None:
        self.begin, self.round_done, self.ended = listener.begin, listener.round_done, listener.ended
        self.final: dict[str, str] = {}
        self._listener, self._out = listener, out

    def failed(self, run: str, error: BaseException, again: bool) -> None:
        self._listener.failed(run, error, again)
        if (self._out / run).is_dir():
            text = "".join(traceback.format_exception(error))
            with files.complete(self._out / run / FAILED) as incomplete:
                incomplete.write_text(text, encoding="utf-8", errors="backslashreplace")
        if not again:
            self.final[run] = f"{type(error).__name__}: {error}"


class _Telling(Silent):
    """A run's listener that tells the sweep of each round."""

    def __init__(self, tell: Tell) -> None:
        self._tell, self._rounds = tell, 0

    def begin(self, configuration: Config, folder: Place, rounds: int, done: int) -> None:
        self._rounds = rounds

    def round_done(self, row: dict[str, Any]) -> None:
        self._tell({**row, "rounds": self._rounds})
