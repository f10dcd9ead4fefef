"""Configuration files and `key.path=value` overrides as nested mappings, before anybody checks what they say."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from openal_ray.errors import ConfigError
from openal_ray.storage.url import Place


class _Loader(yaml.SafeLoader):
    """YAML, safely, where 5e-4 is a number: YAML 1.1 takes it for a word, since it has no point."""


class _Dumper(yaml.SafeDumper):
    """Its counterpart, which puts the word 5e-4 between quotes."""


for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+[eE][-+]?\d+$"), list("-+0123456789"))


def read_file(path: Place) -> dict[str, Any]:
    """The nested mappings of a YAML file; raises ConfigError with the file and line if it is not one."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such configuration file. Those shipped are in configs/.")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a YAML file: {error}") from None
    if not isinstance(values, dict):
        found = "an empty file" if values is None else type(values).__name__
        raise ConfigError(f"{path}: expected keys and values, such as seed: 0, got {found}")
    return values


def override(values: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """`values` with each `key.path=value` set; a bare strategy name may be followed by its parameters."""
    result = _copy(values)
    for path, value in map(assigned, assignments):
        _put(result, path.split("."), value)
    return result


def assigned(assignment: str) -> tuple[str, Any]:
    """The dotted key and the value of `key.path=value`; raises ConfigError if it is not written so."""
    path, sign, text = assignment.partition("=")
    if not sign or not path:
        raise ConfigError(f"{assignment!r}: an override is written key=value, for example seed=1")
    try:
        return path, yaml.load(text, _Loader) if text else None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {text!r} is not a YAML value: {error}") from None


def changed(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with each dotted key of `changes` set to its value there."""
    result = _copy(values)
    for path, value in changes.items():
        _put(result, path.split("."), _copy(value) if isinstance(value, Mapping) else value)
    return result


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots: {"train": {"epochs": 5}} becomes {"train.epochs": 5}."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        path = f"{prefix}{key}"
        result |= flat(value, f"{path}.") if isinstance(value, Mapping) and value else {path: value}
    return result


def dump_values(values: Mapping[str, Any]) -> str:
    """Nested mappings as YAML, which `read_file` reads back."""
    return yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in values.items()}


def _put(values: dict[str, Any], path: list[str], value: Any) -> None:
    *parents, last = path
    for parent in parents:
        inner = values.get(parent)
        if parent == "strategy" and isinstance(inner, str):
            inner = {"name": inner}
        elif inner is not None and not isinstance(inner, dict):
            raise ConfigError(f"{'.'.join(path)}: {parent} is {inner!r}, which has no keys of its own")
        values[parent] = inner or {}
        values = values[parent]
    values[last] = value
