"""The command line `openal-ray`. Commands import what they use, so that --help need not wait for torch."""

import signal
import sys

import click

from openal_ray import __version__
from openal_ray.cli import encoders, experiments, lookups, submission
from openal_ray.cli.console import BAD_INPUT, INTERRUPTED, WAITING, err
from openal_ray.errors import UserError
from openal_ray.pool import AnswersPending


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


for command in (
    experiments.run, experiments.sweep, experiments.resume, experiments.report, submission.submit,
    encoders.pretrain_command, encoders.zeroshot,
    lookups.status, lookups.strategies, lookups.datasets, lookups.doctor_command,
):  # fmt: skip
    cli.add_command(command)


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
        err.print("Interrupted; finished rounds are kept. `openal-ray resume DIR`, or a sweep's same command, goes on.")
        sys.exit(INTERRUPTED)


def _interrupt(number: int, frame: object) -> None:
    """SIGTERM, as job schedulers send it, ends a run like Ctrl-C: hardware is given back, finished rounds are kept."""
    raise KeyboardInterrupt
