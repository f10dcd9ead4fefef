"""Prices of runs as tables for a terminal; the numbers come from price.py."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from openal_ray.price import Rates, Row

UNITS = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def print_rounds(rows: Sequence[Row], total: Row, devices: tuple[str, str], console: Console) -> None:
    """One line a round, and the sums; devices are those of reading and of training."""
    table = _table("round", devices)
    for row in rows:
        table.add_row(str(row.number), f"{row.labelled:,}", *_cells(row))
    table.add_section()
    table.add_row("all", f"{total.labelled:,}", *_cells(total), style="bold")
    console.print(table)


def print_runs(totals: Sequence[tuple[str, Row]], devices: tuple[str, str], console: Console) -> None:
    """One line a run."""
    table = _table("run", devices)
    for label, total in totals:
        table.add_row(label, f"{total.labelled:,}", *_cells(total))
    console.print(table)


def explanation(run: str, rates: Rates, devices: tuple[str, str]) -> str:
    """What the numbers rest on, in sentences; the rates are that run's."""
    train = rates.of_training("")
    known = [
        f"reading {rates.evaluate:,.0f} images/s, querying {rates.query:,.0f}" if rates.evaluate else "",
        f"training {train:,.0f} images/s" if train else "",
    ]
    lines = [f"Rates of one device for {run} ({rates.source}): {', '.join(filter(None, known)) or 'none is known'}."]
    if not (rates.evaluate and train):
        lines.append(
            f"Minutes are missing where a {' or '.join(dict.fromkeys(devices))} is asked for that is not on this "
            "machine: state its rates with --rates READ TRAIN, in images a second."
        )
    lines.append(
        "Passes are forward passes of images, steps those of training. Minutes are of devices, all together; wall: at "
        "least, with all shards and trainers at work side by side. Moved: between driver, shards and trainers, without "
        "pictures and checkpoints. Shard: the fullest shard's peak, without the layers' own memory and what a "
        "selection works with."
    )
    return "\n".join(lines)


def size(count: int) -> str:
    """Bytes for a person."""
    for unit, name in UNITS:
        if count >= unit:
            return f"{count / unit:,.1f} {name}"
    return f"{count} B"


def _table(first: str, devices: tuple[str, str]) -> Table:
    read, train = devices
    table = Table(first, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("labels", "images read", "passes", "steps", f"{read} min\nreading", f"{train} min\ntraining",
                 "wall\nmin", "moved", "shard"):  # fmt: skip
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _cells(row: Row) -> list[str]:
    return [
        f"{row.images_read:,}", f"{row.forward_passes:,}", f"{row.training_steps:,}",
        _minutes(row.read_minutes), _minutes(row.train_minutes), _minutes(row.wall_minutes),
        size(row.moved_bytes), size(row.shard_bytes),
    ]  # fmt: skip


def _minutes(minutes: float | None) -> str:
    return "–" if minutes is None else f"{minutes:,.2f}" if minutes < 10 else f"{minutes:,.0f}"
