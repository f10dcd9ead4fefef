"""The command that sends an experiment to a cluster."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from openal_ray.cli.console import INTERRUPTED, err, json_option, logs, print_json, read, verbose_option
from openal_ray.cli.prices import price_options, print_price


@click.command()
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

    logs(verbose)
    values = read(configuration, overrides)
    configurations = runs.expand(values)
    if dry_run:
        print_price(configurations, rates, as_json)
        return
    from openal_ray.cluster import jobs, parcel

    job = jobs.submit(parcel.pack(values, configurations[0]), address, runs.common_folder(configurations).name)
    told = {"job": job.id, "address": job.address, "out": str(values["out"])}
    err.print(f"job {job.id} at {job.address}\n{job.hints}", markup=False, highlight=False, soft_wrap=True)
    if no_wait:
        if as_json:
            print_json(told)
        return
    try:
        ended = job.follow(lambda text: click.echo(text, nl=False, err=as_json))
    except KeyboardInterrupt:
        err.print(f"Detached; the job goes on.\n{job.hints}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(INTERRUPTED)
    if as_json:
        print_json({**told, "status": ended.status, "exit_code": ended.exit_code})
    err.print(f"job {job.id}: {ended.status}, exit code {ended.exit_code}", markup=False, highlight=False)
    sys.exit(ended.exit_code)
