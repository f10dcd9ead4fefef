"""Kinds of values in a configuration: paths made absolute, places in stores, numbers that may be a span."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, PlainValidator
from pydantic_core import PydanticCustomError

from openal_ray.storage.url import Place, place


def absolute(path: str) -> str:
    """A local path from the root on, since workers and later resumes start elsewhere; a URL stays as it is."""
    try:
        return path if "://" in path else str(Path(path).expanduser().absolute())
    except RuntimeError:
        raise ValueError(f"{path}: there is no such home folder") from None


def is_path(name: str) -> bool:
    """Whether a value that may be a name or a path is a path: it has a folder in it, or the ending of weights."""
    return ":" not in name and ("/" in name or name.endswith((".pt", ".pth", ".safetensors")))


def _with_absolute_path(name: str) -> str:
    """`name`, with the path in it made absolute: folder:PATH, manifest:FILE, or path.py:function."""
    kind, colon, rest = name.partition(":")
    if kind in ("folder", "manifest") and rest:
        return f"{kind}:{absolute(rest)}"
    path, colon, function = name.rpartition(":")
    return f"{absolute(path)}:{function}" if colon and path.endswith(".py") else name


def absolute_if_file(name: str) -> str:
    return absolute(name) if Path(name).expanduser().is_file() else name


Name = Annotated[str, AfterValidator(_with_absolute_path)]
LocalPath = Annotated[Path, AfterValidator(lambda path: Path(absolute(str(path))))]


def _place_of(key: str) -> PlainValidator:
    def checked(given: Any) -> Place:
        try:
            return place(given)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None

    return PlainValidator(checked)


def absolute_place(given: Place) -> Place:
    return Path(absolute(str(given))) if isinstance(given, Path) else given


Out = Annotated[Place, _place_of("out"), PlainSerializer(str)]
"""A folder on a disk, or the URL of one in a store."""
Reused = Annotated[Place, _place_of("tune.reuse_from"), PlainSerializer(str), AfterValidator(absolute_place)]


def _whole_or_span(value: Any) -> Any:
    few, many = value if isinstance(value, list | tuple) and len(value) == 2 else (value, value)
    if type(few) is type(many) is int and 1 <= few <= many:
        return few if few == many else value
    raise PydanticCustomError("whole_or_span", "must be a whole number above 0, or [least, most] of them")


Span = Annotated[int | tuple[int, int], BeforeValidator(_whole_or_span)]
"""How many shards or workers; or the least and the most of them, between which their number follows the cluster."""


def least(span: Span) -> int:
    return span if isinstance(span, int) else span[0]


def most(span: Span) -> int:
    return span if isinstance(span, int) else span[1]


def in_words(span: Span) -> str:
    return str(span) if isinstance(span, int) else f"{span[0]} to {span[1]}"
