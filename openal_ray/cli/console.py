"""What all commands share: where they print, how, their exit codes and common options."""

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from openal_ray.storage.url import Place, place

DONE, INTERNAL, BAD_INPUT, WAITING, INTERRUPTED = 0, 1, 2, 3, 130
PIPE_WIDTH = 120  # columns for output that goes to a file or another program
out = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
err = Console(stderr=True, width=None if sys.stderr.isatty() else PIPE_WIDTH)


class Folder(click.ParamType):
    """A path, or the URL of a folder in a store."""

    name = "path"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Place:
        try:
            return place(value)
        except ValueError as error:
            self.fail(str(error), parameter, context)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
verbose_option = click.option("-v", "--verbose", is_flag=True, help="Show everything, Ray's own output included.")


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_table(facts: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=column == "name", overflow="fold")  # a name is there to be copied
    for entry in facts:
        table.add_row(*(_text(entry[column]) for column in columns))
    out.print(table)


def print_facts(facts: dict[str, Any]) -> None:
    for key, value in facts.items():
        out.print(f"[bold]{key}[/]: ", end="")
        out.print(_text(value), markup=False, highlight=False)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={default}" for key, default in value.items()) or "none"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: rounded(inner) for name, inner in value.items()}
    return f"{value:.4f}" if isinstance(value, float) else value


def read(configuration: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """The keys of a file with those of the command line, OpenAL's translated; says on stderr what was."""
    from openal_ray import config_file
    from openal_ray.openal.keys import translate

    values, lines = translate(config_file.override(config_file.read_file(configuration), overrides))
    for line in lines:
        err.print(line, highlight=False, markup=False)
    return values


def logs(verbose: bool) -> None:
    logging.basicConfig(level=logging.DEBUG if verbose else logging.WARNING, format="%(message)s")
    if not verbose:
        logging.getLogger("openal_ray").setLevel(logging.INFO)
