"""What pydantic finds wrong with a configuration, as sentences that begin with the key's path."""

from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from openal_ray.errors import unknown_name

PLAIN_WORDS = {"tuple_type": "must be a list", "dict_type": "must hold keys and values"}


def sentence(problem: Any, whole: type[BaseModel]) -> str:
    """One entry of a ValidationError's errors(), met while `whole` was checked, in words for a person."""
    kind, given = problem["type"], problem["input"]
    path, section = _locate(problem["loc"], whole)
    if kind == "value_error":  # of a check over several keys, which names them itself
        return str(problem["ctx"]["error"])
    if kind == "extra_forbidden":
        return f"{path}: {unknown_name('key', path.rpartition('.')[2], _keys(section))}"
    if kind == "missing":
        return f"{path}: required, but not given"
    if kind == "model_type":
        return f"{path}: has keys of its own, such as {path}.{next(iter(_keys(section)))}; got {given!r}"
    message = PLAIN_WORDS.get(kind) or problem["msg"].replace("Input should be", "must be")
    return f"{path}: {message[0].lower()}{message[1:]}, got {given!r}"


def _locate(location: Sequence[str | int], whole: type[BaseModel]) -> tuple[str, type[BaseModel] | None]:
    """The key's path as a user writes it, and the section that it is or stands in; None inside a plain value.

    Pydantic's location goes on with marks for the members of a union; they are no keys and are left out.
    """
    path: list[str] = []
    section: type[BaseModel] | None = whole
    for part in location:
        if section is None and not isinstance(part, int):
            break
        path.append(str(part))
        field = _keys(section).get(str(part))
        section = _section(field.annotation) if field else section
    return ".".join(path), section


def _keys(section: type[BaseModel] | None) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in section.model_fields.items()} if section else {}


def _section(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds, optional or not; None for a plain value."""
    kinds = [kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type)]
    return next((kind for kind in kinds if issubclass(kind, BaseModel)), None)
