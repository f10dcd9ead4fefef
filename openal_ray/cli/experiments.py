"""Commands that make, go on with, and compare runs."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from openal_ray.cli.console import (
    BAD_INPUT,
    WAITING,
    Folder,
    err,
    json_option,
    logs,
    out,
    print_json,
    read,
    verbose_option,
)
from openal_ray.cli.prices import price_options, print_price
from openal_ray.errors import UserError
from openal_ray.pool import AnswersPending
from openal_ray.storage.url import Place


@click.command()
@click.argument("configuration", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@price_options[0]
@price_options[1]
@json_option
@verbose_option
def run(
    configuration: Path,
    overrides: Sequence[str],
    dry_run: bool,
    rates: tuple[float, float] | None,
    as_json: bool,
    verbose: bool,
) -> None:
    """Run the experiment that a YAML file describes.

    Any key can be set on the command line: strategy=badge, budget.n_query=50, train.epochs=20, shards=4. A strategy
    with parameters: strategy=margin strategy.some_parameter=1. Several strategies or seeds, separated by commas, are
    run one after the other and compared. Without a strategy, all labels are used (supervised reference). OpenAL's
    keys (AL.n_start=…, DATASET.name=…) are understood.
    """
    from openal_ray import runs
    from openal_ray.progress import ProgressLine

    logs(verbose)
    configurations = runs.expand(read(configuration, overrides))
    if dry_run:
        print_price(configurations, rates, as_json)
        return
    with ProgressLine(err, len(configurations)) as progress, _waiting_as_json(as_json, configurations):
        finished = runs.run_all(configurations, listener=progress)
    _show([each.folder for each in finished], runs.common_folder(configurations), as_json)


@click.command()
@click.argument("folder", type=Folder())
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@json_option
@verbose_option
def resume(folder: Place, overrides: Sequence[str], as_json: bool, verbose: bool) -> None:
    """Go on with a run, or with all runs in a folder or at its URL, as if they had never stopped.

    Keys that say where the work runs may be set anew: cluster.address=auto, shards=8, train.mode=local.
    """
    from openal_ray import runs
    from openal_ray.progress import ProgressLine
    from openal_ray.run_folder import runs_in

    logs(verbose)
    folders = runs_in(folder)
    with ProgressLine(err, len(folders)) as progress, _waiting_as_json(as_json, folders):
        finished = runs.resume_all(folders, overrides, listener=progress)
    _show([each.folder for each in finished], folder, as_json)


@click.command()
@click.argument("sweep_file", type=Folder(), metavar="SWEEP")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--resume", is_flag=True, help="SWEEP is the folder of a sweep that was begun; go on with it.")
@json_option
@verbose_option
def sweep(sweep_file: Place, overrides: Sequence[str], resume: bool, as_json: bool, verbose: bool) -> None:
    """Run every combination of a grid, several at once on a cluster, and compare them.

    SWEEP is a YAML file with a base, a configuration or its path, and a grid, lists of values by key: strategy, seed,
    data.name, train.optimizer.lr. Overrides: out=DIR, concurrency=N, asha.grace=N (stops hopeless runs, which biases
    the comparison); a key of the grid gets new values, separated by commas; any other key is set for all runs.

    The same command goes on with a sweep that was interrupted, and adds what is new in the grid. A run that fails is
    tried again once, then told at the end (exit code 2); the others go on.
    """
    from openal_ray import sweep_file as files
    from openal_ray import sweeps
    from openal_ray.progress import SweepLines

    logs(verbose)
    if resume and not sweep_file.is_dir():
        raise UserError(f"--resume: {sweep_file} is no folder; name the folder that the sweep was begun in")
    plan = files.read(sweep_file, overrides)
    done = sweeps.sweep(plan, SweepLines(err))
    if done.folders:
        _show(done.folders, plan.out, as_json)
    for name, problem in done.failed.items():
        err.print(f"{name} failed: {problem} ({plan.out / name / sweeps.FAILED})", markup=False, soft_wrap=True)
    if done.stopped:
        err.print(
            f"stopped early, which biases the comparison: {', '.join(done.stopped)}", markup=False, soft_wrap=True
        )
    if done.waiting:
        err.print(
            f"waiting for labels, see `openal-ray status {plan.out}`: {', '.join(done.waiting)}",
            markup=False,
            soft_wrap=True,
        )
    if done.failed or done.waiting:
        sys.exit(BAD_INPUT if done.failed else WAITING)


@click.command()
@click.argument("folders", nargs=-1, required=True, type=Folder(), metavar="RUN...")
@click.option("--out", "target", type=Folder(), help="Where report.html goes.")
@json_option
def report(folders: Sequence[Place], target: Place | None, as_json: bool) -> None:
    """Compare runs: a table here, figures and report.html on disk."""
    _show(folders, target or folders[0], as_json)


def _show(folders: Sequence[Place], target: Place, as_json: bool) -> None:
    """The comparison of runs: as JSON, or as a table with the paths of what lies on disk."""
    from openal_ray.reports import comparison, curves, html, tables

    page = html.write_report(folders, target / "report.html")
    found = curves.load(folders)
    if as_json:
        print_json({"report": str(page), "comparisons": tables.as_json(comparison.compare(found))})
        return
    tables.print_comparison(found, out)
    out.print(f"report  {page}\nfigure  {page.parent / 'curves.png'}", highlight=False, soft_wrap=True)


@contextmanager
def _waiting_as_json(as_json: bool, runs: Sequence[Any]) -> Iterator[None]:
    """Where people have to label first, says with --json how far the runs are, as `status` does."""
    from openal_ray import run_folder

    try:
        yield
    except AnswersPending:
        if as_json:
            paths = [run if isinstance(run, Place) else run.folder.expanduser() for run in runs]
            print_json([run_folder.status(path) for path in paths if (path / "config.yaml").is_file()])
        raise
