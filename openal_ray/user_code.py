"""Functions of the user's own, named in a configuration as path.py:function."""

import hashlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from openal_ray.errors import ConfigError, unknown_name


def user_function(reference: str, key: str) -> Callable[..., Any]:
    """The function that `path.py:function` names; raises ConfigError that begins with `key`."""
    path, _, function = reference.rpartition(":")
    file = Path(path).expanduser()
    if not file.is_file():
        raise ConfigError(f"{key}: {reference!r} names a function in {path!r}, but there is no such file")
    name = f"{file.stem}_{hashlib.blake2b(str(file.resolve()).encode(), digest_size=4).hexdigest()}"
    specification = importlib.util.spec_from_file_location(name, file)
    if specification is None or specification.loader is None:
        raise ConfigError(f"{key}: {path} is not a Python file; write path.py:function")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # where dataclasses look for the module of a class
    try:
        specification.loader.exec_module(module)
    finally:
        del sys.modules[name]  # so that its functions travel to other processes by value: they cannot import it
    found = getattr(module, function, None)
    if not callable(found):
        own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
        raise ConfigError(f"{key}: {path}: {unknown_name('function', function, own)}")
    return found


def code_of(recipe: Any) -> str | None:
    """Tells the code that a recipe, such as a learner, runs: by the files of its classes and those it names.

    What such a file imports is not looked at.
    returns  None if a class of it came from another process without its file
    """
    digest = hashlib.blake2b(digest_size=16)
    try:
        for file in _files(recipe):
            digest.update(file.read_bytes())
    except (OSError, TypeError):  # of inspect: the class is of no module here
        return None
    return digest.hexdigest()


def _files(part: Any) -> Iterator[Path]:
    """The files of a recipe's classes, and of the functions named path.py:function, however deep."""
    if isinstance(part, str):
        if found := re.fullmatch(r"(.+\.py):\w+", part):
            yield Path(found[1]).expanduser()
    elif is_dataclass(part):
        if type(part).__module__ == "__main__":  # another file in a worker
            raise TypeError("__main__")
        yield Path(inspect.getfile(type(part)))
        for value in vars(part).values():
            yield from _files(value)
    elif isinstance(part, Mapping | list | tuple):
        for each in part.values() if isinstance(part, Mapping) else part:
            yield from _files(each)
