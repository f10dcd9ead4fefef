"""Many configurations out of one: every combination of listed values, each with a folder named after what it is."""

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from openal_ray import config, config_file
from openal_ray.config import Config
from openal_ray.errors import ConfigError
from openal_ray.strategies import catalogue

LONGEST = 150  # characters of a folder's name; file systems allow 255 bytes
IN_LABEL = ("strategy", "seed")


def combine(base: Mapping[str, Any], grid: Mapping[str, Sequence[Any]]) -> list[Config]:
    """One configuration for each combination of the grid's values, the last key's values changing fastest.

    base     nested mappings; `out` is the folder around all runs
    grid     values by dotted key, such as train.optimizer.lr; a strategy may be a name or a mapping with parameters
    returns  configurations whose `out` is a folder of their own inside base's `out`; its name holds every key of the
             grid, even one with a single value, so that a grid that grows finds its earlier runs
    raises   ConfigError for wrong keys and values, and for the same run twice
    """
    found: dict[str, Config] = {}
    for values in itertools.product(*grid.values()):
        chosen = dict(zip(grid, values, strict=True))
        general_first = dict(sorted(chosen.items(), key=lambda item: item[0].count(".")))  # strategy, then its keys
        one = canonical(config.parse(config_file.changed(base, general_first)))
        name = _name(one, chosen)
        if name in found:
            raise ConfigError(f"{', '.join(grid)}: the same run twice: {name}")
        found[name] = one
    return [one.model_copy(update={"out": (one.out or Path("runs")) / name}) for name, one in found.items()]


def canonical(configuration: Config) -> Config:
    """The same with the strategy's own name instead of an alias, so that reports know it for the same."""
    strategy = configuration.strategy
    if strategy is None or ":" in strategy.name:
        return configuration
    named = strategy.model_copy(update={"name": catalogue.find(strategy.name).name})
    return configuration.model_copy(update={"strategy": named})


def listed(value: Any) -> list[Any]:
    """The values that a key holds: a list's, those between commas, or the one that there is."""
    if isinstance(value, str) and "," in value:
        return [yaml.safe_load(part) for part in value.split(",") if part.strip()]
    return value if isinstance(value, list) else [value]


def _name(one: Config, chosen: Mapping[str, Any]) -> str:
    """digits-lr=0.01-margin-0: the grid's other keys, then strategy, parameters and seed."""
    others = {path: value for path, value in chosen.items() if path.partition(".")[0] not in IN_LABEL}
    lasts = [path.rpartition(".")[2] for path in others]
    parts = []
    for path, value in others.items():
        last = path.rpartition(".")[2]
        key = last if lasts.count(last) == 1 else path
        parts.append(config.last_part(str(value)) if path == "data.name" else f"{key}={value}")
    name = config.file_name("-".join([*parts, one.label]))
    if len(name) <= LONGEST:
        return name
    return f"{name[: LONGEST - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
