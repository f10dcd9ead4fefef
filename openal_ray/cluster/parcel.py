"""What a job needs from this machine: its configuration, and user files named path.py:function. Never data."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from openal_ray import config_file
from openal_ray.config import Config
from openal_ray.errors import ConfigError
from openal_ray.start_set import RULES

CONFIG = "config.yaml"
_FUNCTION = re.compile(r"^(?P<path>[^,:]+\.py):(?P<function>\w+)$")
CLIP_FILES = ("checkpoint", "templates", "negated_templates", "class_names", "cache")
_SHARED = "write an absolute path that every node sees, or a URL such as s3://…"


def pack(values: Mapping[str, Any], configuration: Config) -> dict[str, bytes]:
    """The files of a job's working folder, by name: config.yaml, and copies of the user's own files.

    values         the configuration as the user wrote it, overrides included
    configuration  the same, checked; one of several runs
    raises         ConfigError  for a path that only this machine can see
    """
    _check_out(values.get("out"), configuration)
    _check_paths(values)
    files: dict[str, bytes] = {}
    shipped = _mapped(values, lambda key, text: _shipped(key, text, files))
    return {CONFIG: config_file.dump_values(shipped).encode(), **files}


def _check_out(out: Any, configuration: Config) -> None:
    if not out:
        raise ConfigError(f"out: a job's own folder is a copy that is thrown away; {_SHARED}, as out=DIR")
    if isinstance(configuration.folder, Path) and "://" not in str(out) and not Path(str(out)).is_absolute():
        raise ConfigError(f"out: {out} is relative, and a job's own folder is thrown away; {_SHARED}, as out=DIR")


def _check_paths(values: Mapping[str, Any]) -> None:
    """Refuses relative paths of data, which is never sent along."""
    data, budget, model = (_section(values, name) for name in ("data", "budget", "model"))
    clip, open_set = _section(values, "clip"), _section(values, "open_set")
    given = {
        "data.name": _target(data.get("name")),
        "data.root": data.get("root"),
        "open_set.other": _target(open_set.get("other")),
        "budget.start": budget.get("start") if budget.get("start") not in RULES else None,
        "model.checkpoint": model.get("checkpoint") if model.get("checkpoint") != "packaged" else None,
        "read.cache": _section(values, "read").get("cache"),
        "tune.reuse_from": _section(values, "tune").get("reuse_from"),
        **{f"clip.{name}": clip.get(name) for name in CLIP_FILES},
    }
    for key, path in given.items():
        if path and not _everywhere(str(path)):
            raise ConfigError(f"{key}: {path} is relative to this machine, and the cluster cannot see it: {_SHARED}")
    _mapped(values, _check_file)


def _check_file(key: str, text: str) -> str:
    """Refuses a parameter that names a file or folder here, such as an encoder's weights."""
    named = not _FUNCTION.match(text) and ("." in text or "/" in text) and "\n" not in text and len(text) < 4096
    if named and not _everywhere(text) and Path(text).exists():
        kind = "folder" if Path(text).is_dir() else "file"
        raise ConfigError(f"{key}: {text} is a {kind} of this machine, and the cluster cannot see it: {_SHARED}")
    return text


def _target(name: Any) -> str | None:
    """The path in folder:PATH or manifest:FILE."""
    kind, _, target = str(name or "").partition(":")
    return target if kind in ("folder", "manifest") else None


def _section(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name)
    return found if isinstance(found, Mapping) else {}


def _everywhere(path: str) -> bool:
    """Whether a path means the same on each machine: a URL, from the root on, or from the home folder on."""
    return "://" in path or path.startswith(("/", "~"))


def _shipped(key: str, text: str, files: dict[str, bytes]) -> str:
    """The text with each path.py:function of a file of this machine pointing into the working folder."""
    parts = text.split(",") if ".py:" in text else [text]
    return ",".join(_shipped_one(key, part.strip() if len(parts) > 1 else part, files) for part in parts)


def _shipped_one(key: str, text: str, files: dict[str, bytes]) -> str:
    found = _FUNCTION.match(text)
    if not found:
        return text
    file = Path(found["path"]).expanduser()
    if not file.is_file():
        if file.is_absolute():
            return text  # on the cluster's disk
        raise ConfigError(f"{key}: {text!r} names a function in {found['path']!r}, but there is no such file here")
    content, name, number = file.read_bytes(), file.name, 1
    while files.get(name, content) != content:  # another file of that name
        number += 1
        name = f"{file.stem}_{number}.py"
    files[name] = content
    return f"{name}:{found['function']}"


def _mapped(values: Any, change: Callable[[str, str], str], path: str = "") -> Any:
    """The same nested values with every text changed."""
    if isinstance(values, Mapping):
        return {key: _mapped(value, change, f"{path}.{key}" if path else str(key)) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_mapped(value, change, path) for value in values]
    return change(path, values) if isinstance(values, str) else values
