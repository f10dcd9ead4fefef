"""The command line `openal-ray`. Commands import what they use, so that --help need not wait for torch."""

import json
import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from openal_ray import __version__
from openal_ray.errors import UserError
from openal_ray.pool import AnswersPending

DONE, INTERNAL, BAD_INPUT, WAITING, INTERRUPTED = 0, 1, 2, 3, 130
PIPE_WIDTH = 120  # columns for output that goes to a file or another program
out = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
err = Console(stderr=True, width=None if sys.stderr.isatty() else PIPE_WIDTH)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
verbose_option = click.option("-v", "--verbose", is_flag=True, help="Show everything, Ray's own output included.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def cli() -> None:
    """Active learning for image classification, from a laptop to a Ray cluster.

    \b
    openal-ray run configs/digits.yaml strategy=margin seed=0 out=runs/margin
    openal-ray run configs/quickstart.yaml       several strategies and seeds, compared
    openal-ray sweep configs/sweeps/digits.yaml  many at once on a cluster, compared
    openal-ray resume runs/margin                go on after a crash, a Ctrl-C, or new labels
    openal-ray strategies badge                  what a strategy needs, costs and does

    Exit codes: 0 done, 1 a bug, 2 bad input, 3 waiting for people to label, 130 interrupted.
    """


@cli.command()
@click.argument("configuration", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@json_option
@verbose_option
def run(configuration: Path, overrides: Sequence[str], as_json: bool, verbose: bool) -> None:
    """Run the experiment that a YAML file describes.

    Any key can be set on the command line: strategy=badge, budget.n_query=50, train.epochs=20, shards=4. A strategy
    with parameters: strategy=margin strategy.some_parameter=1. Several strategies or seeds, separated by commas, are
    run one after the other and compared. Without a strategy, all labels are used (supervised reference). OpenAL's
    keys (AL.n_start=…, DATASET.name=…) are understood.
    """
    from openal_ray import config, runs
    from openal_ray.openal.keys import translate
    from openal_ray.progress import ProgressLine

    _logs(verbose)
    values, lines = translate(config.override(config.read_file(configuration), overrides))
    for line in lines:
        err.print(line, highlight=False, markup=False)
    configurations = runs.expand(values)
    with ProgressLine(err, len(configurations)) as progress, _waiting_as_json(as_json, configurations):
        finished = runs.run_all(configurations, listener=progress)
    _show([each.folder for each in finished], runs.common_folder(configurations), as_json)


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@json_option
@verbose_option
def resume(folder: Path, overrides: Sequence[str], as_json: bool, verbose: bool) -> None:
    """Go on with a run, or with all runs in a folder, as if they had never stopped.

    Keys that say where the work runs may be set anew: cluster.address=auto, shards=8, train.mode=local.
    """
    from openal_ray import runs
    from openal_ray.progress import ProgressLine
    from openal_ray.run_folder import runs_in

    _logs(verbose)
    folders = runs_in(folder)
    with ProgressLine(err, len(folders)) as progress, _waiting_as_json(as_json, folders):
        finished = runs.resume_all(folders, overrides, listener=progress)
    _show([each.folder for each in finished], folder, as_json)


@cli.command()
@click.argument("sweep_file", type=click.Path(path_type=Path), metavar="SWEEP")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--resume", is_flag=True, help="SWEEP is the folder of a sweep that was begun; go on with it.")
@json_option
@verbose_option
def sweep(sweep_file: Path, overrides: Sequence[str], resume: bool, as_json: bool, verbose: bool) -> None:
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

    _logs(verbose)
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


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
def status(folder: Path, as_json: bool) -> None:
    """Say how far a run is: rounds, labels, accuracy, and what it waits for."""
    from openal_ray import run_folder

    found = [run_folder.status(each) for each in run_folder.runs_in(folder)]
    if as_json:
        _print_json(found)
        return
    for each in found:
        out.print(f"[bold]{each.pop('folder')}[/]: {each.pop('state')}")
        for key, value in each.items():
            out.print(f"  {key}: {value}", highlight=False)


@cli.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@click.option("--out", "target", type=click.Path(path_type=Path), help="Where report.html goes.")
@json_option
def report(folders: Sequence[Path], target: Path | None, as_json: bool) -> None:
    """Compare runs: a table here, figures and report.html on disk."""
    _show(folders, target or folders[0], as_json)


@cli.command()
@click.argument("name", required=False)
@json_option
def strategies(name: str | None, as_json: bool) -> None:
    """List the strategies, or print all there is to know about one."""
    from openal_ray.strategies import catalogue

    facts = [entry.facts() for entry in ([catalogue.find(name)] if name else catalogue.ENTRIES)]
    if as_json:
        _print_json(facts)
    elif name:
        _print_facts(facts[0])
    else:
        _print_table(facts, ("name", "family", "needs", "paper", "aliases"))


@cli.command()
@click.argument("name", required=False)
@json_option
def datasets(name: str | None, as_json: bool) -> None:
    """List the data sets, or print all there is to know about one."""
    from openal_ray.data import catalogue

    sources = [catalogue.find(name)[0]] if name else catalogue.DATASETS.values()
    facts = [source.facts() for source in sources]
    if as_json:
        _print_json(facts)
    elif name:
        _print_facts(facts[0])
    else:
        _print_table(facts, ("name", "n_classes", "size", "channels", "licence", "aliases"))


@cli.command("doctor")
@click.argument("data", required=False)
@click.option("--no-ray", is_flag=True, help="Do not start Ray.")
@json_option
def doctor_command(data: str | None, no_ray: bool, as_json: bool) -> None:
    """Check this machine: versions, Ray, GPUs, memory, disk; and with DATA, every image of a data set or manifest."""
    from openal_ray import doctor

    findings = doctor.examine(data, with_ray=not no_ray)
    if as_json:
        _print_json([finding.__dict__ for finding in findings])
    else:
        for finding in findings:
            mark = "[green]✓[/]" if finding.good else "[red]✗[/]"
            out.print(f"{mark} [bold]{finding.what}[/]: ", end="")
            out.print(finding.found, markup=False, highlight=False)
    if not all(finding.good for finding in findings):
        sys.exit(BAD_INPUT)


def main() -> None:
    """The installed command: errors that a user can mend are sentences, not tracebacks."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        cli(standalone_mode=False)
    except click.exceptions.Exit as exit_:
        sys.exit(exit_.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(BAD_INPUT)
    except AnswersPending as waiting:
        err.print(str(waiting), markup=False, highlight=False, soft_wrap=True)
        sys.exit(WAITING)
    except UserError as error:
        err.print("[red]Error:[/] ", end="")
        err.print(str(error), markup=False, highlight=False, soft_wrap=True)
        sys.exit(BAD_INPUT)
    except (KeyboardInterrupt, click.Abort):
        err.print("Interrupted; all finished rounds are kept. `openal-ray resume`, or a sweep's same command, goes on.")
        sys.exit(INTERRUPTED)


def _interrupt(number: int, frame: object) -> None:
    """SIGTERM, as job schedulers send it, ends a run like Ctrl-C: hardware is given back, finished rounds are kept."""
    raise KeyboardInterrupt


def _show(folders: Sequence[Path], target: Path, as_json: bool) -> None:
    """The comparison of runs: as JSON, or as a table with the paths of what lies on disk."""
    from openal_ray.reports import comparison, curves, html, tables

    page = html.write_report(folders, target / "report.html")
    found = curves.load(folders)
    if as_json:
        _print_json({"report": str(page), "comparisons": tables.as_json(comparison.compare(found))})
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
            paths = [run if isinstance(run, Path) else run.folder.expanduser() for run in runs]
            _print_json([run_folder.status(path) for path in paths if (path / "config.yaml").is_file()])
        raise


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def _print_table(facts: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    table = Table(*columns)
    for entry in facts:
        table.add_row(*(_text(entry[column]) for column in columns))
    out.print(table)


def _print_facts(facts: dict[str, Any]) -> None:
    for key, value in facts.items():
        out.print(f"[bold]{key}[/]: ", end="")
        out.print(_text(value), markup=False, highlight=False)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={default}" for key, default in value.items()) or "none"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _logs(verbose: bool) -> None:
    logging.basicConfig(level=logging.DEBUG if verbose else logging.WARNING, format="%(message)s")
    if not verbose:
        logging.getLogger("openal_ray").setLevel(logging.INFO)
