"""Commands about networks that need no labels: an encoder from all images, and CLIP on the test images."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from openal_ray.cli.console import (
    INTERRUPTED,
    err,
    json_option,
    logs,
    out,
    print_facts,
    print_json,
    print_table,
    read,
    rounded,
    verbose_option,
)


@click.command("pretrain")
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
    from openal_ray.pretrain import parse, pretrain
    from openal_ray.progress import EpochLine

    logs(verbose)
    wanted = parse(read(configuration, overrides))
    try:
        with EpochLine(err, f"{wanted.pretrain.method} on {wanted.data.name}") as progress:
            found = pretrain(wanted, listener=progress)
    except KeyboardInterrupt:
        err.print("Interrupted; the same command goes on from the last checkpoint.")
        sys.exit(INTERRUPTED)
    if as_json:
        print_json({"folder": str(found.folder), **found.facts})
        return
    out.print(f"encoder  {found.folder / 'encoder.pt'}", highlight=False, soft_wrap=True)
    print_facts(found.facts)


@click.command()
@click.argument("configuration", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@json_option
@verbose_option
def zeroshot(configuration: Path, overrides: Sequence[str], as_json: bool, verbose: bool) -> None:
    """Measure CLIP or CLIPN on the test images, before any label is bought.

    The keys under clip say which: clip.model=ViT-B-32 clip.pretrained=laion2b_s34b_b79k, or clip.checkpoint=FILE of
    CLIPN. clip.templates=FILE and clip.class_names=FILE change what it is told of the classes.
    """
    from openal_ray import config, zeroshot

    logs(verbose)
    values = read(configuration, overrides)
    found = zeroshot.evaluate(config.parse({**values, "strategy": None, "seed": 0}))
    if as_json:
        print_json(found)
        return
    print_facts({name: rounded(value) for name, value in found.items() if name != "per_class"})
    rows = [{name: rounded(value) for name, value in row.items()} for row in found["per_class"]]
    print_table(rows, ("class", "support", "recall", "precision", "f1"))
