"""--dry-run: what runs would cost."""

from collections.abc import Sequence
from typing import Any

import click

from openal_ray.cli.console import out, print_json

price_options = (
    click.option("--dry-run", is_flag=True, help="Only say what it will cost: images, minutes, memory, bytes."),
    click.option(
        "--rates", type=(float, float), metavar="READ TRAIN",
        help="For --dry-run: images a second that one device reads and trains on; measured here if not given.",
    ),
)  # fmt: skip


def print_price(configurations: Sequence[Any], stated: tuple[float, float] | None, as_json: bool) -> None:
    """What runs would cost: round by round if it is one."""
    from openal_ray.dry_run import quotes
    from openal_ray.reports import prices

    found = quotes(configurations, stated)
    if as_json:
        print_json([{"run": label, **each.as_json()} for label, each in found])
        return
    first, one = found[0]
    if len(found) == 1:
        prices.print_rounds(one.rows, one.total, one.devices, out)
    else:
        prices.print_runs([(label, each.total) for label, each in found], one.devices, out)
    out.print(prices.explanation(first, one.rates, one.devices), highlight=False)
