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
from rich.box import SIMPLE_HEAD
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
price_options = (
    click.option("--dry-run", is_flag=True, help="Only say what it will cost: images, minutes, memory, bytes."),
    click.option(
        "--rates", type=(float, float), metavar="READ TRAIN",
        help="For --dry-run: images a second that one device reads and trains on; measured here if not given.",
    ),
)  # fmt: skip
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
    openal-ray pretrain configs/pretrain_simclr.yaml   an encoder from all images of a pool, without labels
    openal-ray submit configs/digits.yaml out=/shared/margin    the same as `run`, on a cluster
    openal-ray strategies badge                  what a strategy needs, costs and does

    Exit codes: 0 done, 1 a bug, 2 bad input, 3 waiting for people to label, 130 interrupted.
    """


@cli.command()
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

    _logs(verbose)
    configurations = runs.expand(_read(configuration, overrides))
    if dry_run:
        _print_price(configurations, rates, as_json)
        return
    with ProgressLine(err, len(configurations)) as progress, _waiting_as_json(as_json, configurations):
        finished = runs.run_all(configurations, listener=progress)
    _show([each.folder for each in finished], runs.common_folder(configurations), as_json)


@cli.command()
@click.argument("configuration", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--address", help="The cluster's dashboard; RAY_API_SERVER_ADDRESS or http://127.0.0.1:8265 if not given."
)
@click.option("--no-wait", is_flag=True, help="Return once the job is accepted.")
@price_options[0]
@price_options[1]
@json_option
@verbose_option
def submit(
    configuration: Path,
    overrides: Sequence[str],
    address: str | None,
    no_wait: bool,
    dry_run: bool,
    rates: tuple[float, float] | None,
    as_json: bool,
    verbose: bool,
) -> None:
    """Run an experiment as a job of a Ray cluster, and follow it.

    Takes what `run` takes. The configuration and your own path.py:function files travel; data never does, so its paths
    must be absolute or URLs, and so must out=DIR. Ctrl-C detaches: the job goes on. The exit code is the run's own.
    """
    from openal_ray import runs

    _logs(verbose)
    values = _read(configuration, overrides)
    configurations = runs.expand(values)
    if dry_run:
        _print_price(configurations, rates, as_json)
        return
    from openal_ray.cluster import jobs, parcel

    job = jobs.submit(parcel.pack(values, configurations[0]), address, runs.common_folder(configurations).name)
    told = {"job": job.id, "address": job.address, "out": str(values["out"])}
    err.print(f"job {job.id} at {job.address}\n{job.hints}", markup=False, highlight=False, soft_wrap=True)
    if no_wait:
        if as_json:
            _print_json(told)
        return
    try:
        ended = job.follow(lambda text: click.echo(text, nl=False, err=as_json))
    except KeyboardInterrupt:
        err.print(f"Detached; the job goes on.\n{job.hints}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(INTERRUPTED)
    if as_json:
        _print_json({**told, "status": ended.status, "exit_code": ended.exit_code})
    err.print(f"job {job.id}: {ended.status}, exit code {ended.exit_code}", markup=False, highlight=False)
    sys.exit(ended.exit_code)


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


@cli.command("pretrain")
@click.argument("configuration", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@json_option
@verbose_option
def pretrain_command(configuration: Path, overrides: Sequence[str], as_json: bool, verbose: bool) -> None:
    """Train an encoder on all images of a pool, without a label, for strategies with encoder=FOLDER.

    The keys `pretrain.…` say how, `data.…` and `model.…` on what; `strategy` and `budget` do not matter, so the file of
    an experiment will do. Writes encoder.pt and encoder.yaml into out=DIR. The same command again goes on with a
    training that was stopped, and finds one that is finished.
    """
    from openal_ray import config_file
    from openal_ray.openal.keys import translate
    from openal_ray.pretrain import parse, pretrain
    from openal_ray.progress import EpochLine

    _logs(verbose)
    values, lines = translate(config_file.override(config_file.read_file(configuration), overrides))
    for line in lines:
        err.print(line, highlight=False, markup=False)
    wanted = parse(values)
    try:
        with EpochLine(err, f"{wanted.pretrain.method} on {wanted.data.name}") as progress:
            found = pretrain(wanted, listener=progress)
    except KeyboardInterrupt:
        err.print("Interrupted; the same command goes on from the last checkpoint.")
        sys.exit(INTERRUPTED)
    if as_json:
        _print_json({"folder": str(found.folder), **found.facts})
        return
    out.print(f"encoder  {found.folder / 'encoder.pt'}", highlight=False, soft_wrap=True)
    _print_facts(found.facts)


@cli.command()
@click.argument("configuration", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@json_option
@verbose_option
def zeroshot(configuration: Path, overrides: Sequence[str], as_json: bool, verbose: bool) -> None:
    """Measure CLIP or CLIPN on the test images, before any label is bought.

    The keys under clip say which: clip.model=ViT-B-32 clip.pretrained=laion2b_s34b_b79k, or clip.checkpoint=FILE of
    CLIPN. clip.templates=FILE and clip.class_names=FILE change what it is told of the classes.
    """
    from openal_ray import config, config_file, zeroshot
    from openal_ray.openal.keys import translate

    _logs(verbose)
    values, lines = translate(config_file.override(config_file.read_file(configuration), overrides))
    for line in lines:
        err.print(line, highlight=False, markup=False)
    found = zeroshot.evaluate(config.parse({**values, "strategy": None, "seed": 0}))
    if as_json:
        _print_json(found)
        return
    _print_facts({name: _rounded(value) for name, value in found.items() if name != "per_class"})
    rows = [{name: _rounded(value) for name, value in row.items()} for row in found["per_class"]]
    _print_table(rows, ("class", "support", "recall", "precision", "f1"))


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
        _print_table([_brief(entry) for entry in facts], ("name", "family", "needs", "paper", "aliases"))


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


def _read(configuration: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """The keys of a file with those of the command line, OpenAL's translated; says on stderr what was."""
    from openal_ray import config_file
    from openal_ray.openal.keys import translate

    values, lines = translate(config_file.override(config_file.read_file(configuration), overrides))
    for line in lines:
        err.print(line, highlight=False, markup=False)
    return values


def _print_price(configurations: Sequence[Any], stated: tuple[float, float] | None, as_json: bool) -> None:
    """What runs would cost: round by round if it is one."""
    from openal_ray.dry_run import quotes
    from openal_ray.reports import prices

    found = quotes(configurations, stated)
    if as_json:
        _print_json([{"run": label, **each.as_json()} for label, each in found])
        return
    first, one = found[0]
    if len(found) == 1:
        prices.print_rounds(one.rows, one.total, one.devices, out)
    else:
        prices.print_runs([(label, each.total) for label, each in found], one.devices, out)
    out.print(prices.explanation(first, one.rates, one.devices), highlight=False)


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def _print_table(facts: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=column == "name", overflow="fold")  # a name is there to be copied
    for entry in facts:
        table.add_row(*(_text(entry[column]) for column in columns))
    out.print(table)


def _brief(facts: dict[str, Any]) -> dict[str, Any]:
    """A strategy in a line: signals without the helpers they come from, once each, and papers without their numbers."""
    signals = dict.fromkeys(need.rpartition(".")[2] for need in facts["needs"])
    return facts | {"needs": list(signals), "paper": facts["paper"].partition(" (")[0]}


def _print_facts(facts: dict[str, Any]) -> None:
    for key, value in facts.items():
        out.print(f"[bold]{key}[/]: ", end="")
        out.print(_text(value), markup=False, highlight=False)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={default}" for key, default in value.items()) or "none"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    return f"{value:.4f}" if isinstance(value, float) else value


def _logs(verbose: bool) -> None:
    logging.basicConfig(level=logging.DEBUG if verbose else logging.WARNING, format="%(message)s")
    if not verbose:
        logging.getLogger("openal_ray").setLevel(logging.INFO)
