"""Commands that only look: at a run, the catalogues, this machine."""

import sys
from typing import Any

import click

from openal_ray.cli.console import BAD_INPUT, Folder, json_option, out, print_facts, print_json, print_table
from openal_ray.storage.url import Place


@click.command()
@click.argument("folder", type=Folder())
@json_option
def status(folder: Place, as_json: bool) -> None:
    """Say how far a run is: rounds, labels, accuracy, and what it waits for."""
    from openal_ray import run_folder

    found = [run_folder.status(each) for each in run_folder.runs_in(folder)]
    if as_json:
        print_json(found)
        return
    for each in found:
        path, state = each.pop("folder"), each.pop("state")
        hint = f"; `openal-ray resume {path}` goes on" if state == run_folder.INTERRUPTED else ""
        out.print(f"[bold]{path}[/]: {state}{hint}", highlight=False, soft_wrap=True)
        for key, value in each.items():
            out.print(f"  {key}: {value}", highlight=False)


@click.command()
@click.argument("name", required=False)
@json_option
def strategies(name: str | None, as_json: bool) -> None:
    """List the strategies, or print all there is to know about one."""
    from openal_ray.strategies import catalogue

    facts = [entry.facts() for entry in ([catalogue.find(name)] if name else catalogue.ENTRIES)]
    if as_json:
        print_json(facts)
    elif name:
        print_facts(facts[0])
    else:
        print_table([_brief(entry) for entry in facts], ("name", "family", "needs", "paper", "aliases"))


@click.command()
@click.argument("name", required=False)
@json_option
def datasets(name: str | None, as_json: bool) -> None:
    """List the data sets, or print all there is to know about one."""
    from openal_ray.data import catalogue

    sources = [catalogue.find(name)[0]] if name else catalogue.DATASETS.values()
    facts = [source.facts() for source in sources]
    if as_json:
        print_json(facts)
    elif name:
        print_facts(facts[0])
    else:
        print_table(facts, ("name", "n_classes", "size", "channels", "licence", "aliases"))


@click.command("doctor")
@click.argument("data", required=False)
@click.option("--no-ray", is_flag=True, help="Do not start Ray.")
@json_option
def doctor_command(data: str | None, no_ray: bool, as_json: bool) -> None:
    """Check this machine: versions, Ray, GPUs, memory, disk; and with DATA, every image of a data set or manifest."""
    from openal_ray import doctor

    findings = doctor.examine(data, with_ray=not no_ray)
    if as_json:
        print_json([finding.__dict__ for finding in findings])
    else:
        for finding in findings:
            mark = "[green]✓[/]" if finding.good else "[red]✗[/]"
            out.print(f"{mark} [bold]{finding.what}[/]: ", end="")
            out.print(finding.found, markup=False, highlight=False)
    if not all(finding.good for finding in findings):
        sys.exit(BAD_INPUT)


def _brief(facts: dict[str, Any]) -> dict[str, Any]:
    """A strategy in a line: signals without the helpers they come from, once each, and papers without their numbers."""
    signals = dict.fromkeys(need.rpartition(".")[2] for need in facts["needs"])
    return facts | {"needs": list(signals), "paper": facts["paper"].partition(" (")[0]}
