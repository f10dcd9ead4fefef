"""Where rounds are reported while they happen: nowhere, or Weights & Biases. The run folder stays the only truth."""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from openal_ray.errors import UserError
from openal_ray.storage.url import Place


class Tracker(Protocol):
    """Is told of an experiment's rounds, in order; after a resume perhaps of some of them again."""

    def start(self, config: dict[str, Any], name: str, folder: Place) -> None:
        """Begins, or goes on with, the experiment of this run folder; raises UserError if that cannot be done."""
        ...

    def log(self, round: int, metrics: Mapping[str, float]) -> None:
        """The row of metrics.csv of one round."""
        ...

    def finish(self) -> None:
        """Sends what is left; nothing is logged afterwards."""
        ...


class NoTracker:
    """Tracks nothing."""

    def start(self, config: dict[str, Any], name: str, folder: Place) -> None:
        pass

    def log(self, round: int, metrics: Mapping[str, float]) -> None:
        pass

    def finish(self) -> None:
        pass


class WandbTracker:
    """One run of Weights & Biases for each experiment, with the whole configuration and every round's metrics.

    project, entity  where the run appears; entity None: the user's own default
    """

    def __init__(self, project: str, entity: str | None = None) -> None:
        self.project = project
        self.entity = entity
        self._run: Any = None

    def start(self, config: dict[str, Any], name: str, folder: Place) -> None:
        """Begins the run, or goes on with the one of the same folder name and configuration.

        wandb's own files go into the run folder; where that lies in a store, into a temporary one here.
        """
        try:
            # Names, not the package: a folder called wandb, which runs leave behind, imports as an empty package.
            from wandb import Settings, init
            from wandb.errors import Error
        except ImportError:
            raise UserError(
                "tracking.wandb: the package wandb is not installed. "
                "Run pip install 'openal-ray[wandb]', or set tracking.wandb=false."
            ) from None
        here = folder if isinstance(folder, Path) else tempfile.mkdtemp(prefix="openal-ray-wandb-")
        try:
            self._run = init(
                project=self.project, entity=self.entity, name=name, id=run_id(folder, config), resume="allow",
                config=config, dir=here, settings=Settings(console="off"),
            )  # fmt: skip
        except Error as error:
            raise UserError(
                f"tracking.wandb: Weights & Biases cannot be used ({error}). Log in with `wandb login`, or set "
                "WANDB_MODE=offline in the environment and send the run later with `wandb sync`."
            ) from None

    def log(self, round: int, metrics: Mapping[str, float]) -> None:
        """The metrics become the step `round`; a step that was sent before a resume stays as it is."""
        self._run.log(dict(metrics), step=round)

    def finish(self) -> None:
        if self._run is not None:
            self._run.finish()
            self._run = None


def run_id(folder: Place, config: Mapping[str, Any]) -> str:
    """The same for the same experiment in a folder of the same name, wherever it lies: a resumed run is found again."""
    values = {key: value for key, value in config.items() if key != "out"}
    content = json.dumps([folder.resolve().name, values], sort_keys=True, default=str)
    return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()
