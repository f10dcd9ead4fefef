"""The file of a sweep: what all runs share, the grid of what differs, and how many run at once."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from openal_ray import config, config_file
from openal_ray.config import Config, Section
from openal_ray.config_values import Out, absolute_place
from openal_ray.errors import ConfigError
from openal_ray.grid import combine, listed
from openal_ray.storage.url import Place

KEPT = "sweep.yaml"
"""The file's copy in the sweep's folder, from which `sweep --resume` goes on."""


class Asha(Section):
    """Stop runs that fall behind (asynchronous successive halving, Li et al. 2020, on accuracy by round)."""

    grace: int = Field(3, ge=1, description="rounds that every run gets, round 0 included")
    reduction: int = Field(2, ge=2, description="of the runs that reach a rung, one in so many goes on")


class Sweep(Section):
    """One run for each combination of the grid's values."""

    base: dict[str, Any] = Field({}, description="a configuration, or the path of one, seen from this file's folder")
    grid: dict[str, list[Any]] = Field(
        description="values by dotted key: strategy, seed, data.name, train.optimizer.lr"
    )
    out: Annotated[Out, AfterValidator(absolute_place)] = Field(
        description="the folder around all runs; runs/NAME-OF-THE-FILE if not given"
    )
    concurrency: int | None = Field(None, ge=1, description="runs at once; as many as the cluster holds if not given")
    retries: int = Field(1, ge=0, description="further tries of a run that failed; a reclaimed node does not count")
    asha: Asha | None = Field(
        None, description="stop hopeless runs; off, since strategies that begin slowly then look worse than they are"
    )

    def runs(self) -> list[Config]:
        """The runs' configurations, in the grid's order; raises ConfigError for a key or value that is wrong."""
        empty = [path for path, values in self.grid.items() if not values]
        if empty or not self.grid:
            raise ConfigError(f"grid{'.' + empty[0] if empty else ''}: holds no value, so there is nothing to run")
        fixed = [path for path in self.grid if path in ("out", "cluster", "cluster.address", "cluster.cpus")]
        if fixed:
            raise ConfigError(f"grid.{fixed[0]}: all runs of a sweep share one folder and one cluster; set it in base")
        return combine({**self.base, "out": str(self.out)}, self.grid)


def read(path: Place, overrides: Iterable[str] = ()) -> Sweep:
    """The sweep of a file, or the one that was begun in a folder.

    overrides  "key=value": a key of the sweep (out, concurrency), else a key of the runs; one that the grid has gets
               new values there, separated by commas, any other a new value in base
    raises     ConfigError
    """
    file = path / KEPT if path.is_dir() else path
    if path.is_dir() and not file.is_file():
        raise ConfigError(f"{path}: no sweep was begun here, it has no {KEPT}; give the sweep's file, or its folder")
    values: dict[str, Any] = {"out": Path("runs") / path.stem, "base": {}, "grid": {}, **config_file.read_file(file)}
    if path.is_dir():
        values["out"] = path  # wherever it has been moved to
    if isinstance(values["base"], str):
        values["base"] = config_file.read_file(file.parent / str(Path(values["base"]).expanduser()))
    for key in ("base", "grid"):
        if not isinstance(values[key], dict):
            raise ConfigError(f"{file}: {key}: must hold keys and values, got {values[key]!r}")
    values["grid"] = {key: listed(entry) for key, entry in values["grid"].items()}
    return config.parse_as(Sweep, _overridden(values, overrides))


def _overridden(values: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    grid, own, base = dict(values["grid"]), {}, {}
    for key, value in map(config_file.assigned, overrides):
        inner = key.removeprefix("grid.")
        if key != inner or inner in grid:
            grid[inner] = listed(value)
        elif key.partition(".")[0] in Sweep.model_fields and not key.startswith("base."):
            own[key] = value
        else:
            base[key.removeprefix("base.")] = value
    return config_file.changed({**values, "base": config_file.changed(values["base"], base), "grid": grid}, own)
