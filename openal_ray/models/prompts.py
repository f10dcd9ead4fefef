"""Sentences on classes, from class names and templates: what CLIP's text towers are given."""

import logging
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import yaml

from openal_ray.errors import ConfigError, unknown_name

log = logging.getLogger(__name__)
PLACE = "{}"  # of the class in a template


def templates(file: Path | None, kind: str = "templates") -> tuple[str, ...]:
    """The sentences of a file, one a line; empty lines and those that begin with # are left out.

    file    None: those of this package
    kind    templates or negated_templates: the key under clip, and the file of this package
    raises  ConfigError  for a file without sentences, or a sentence without exactly one {}
    """
    if file is None:
        text = resources.files("openal_ray.models").joinpath(f"{kind}.txt").read_text(encoding="utf-8")
    else:
        text = _text(file, f"clip.{kind}")
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    found = [(number, line) for number, line in lines if line and not line.startswith("#")]
    for number, line in found:
        if line.count(PLACE) != 1:
            raise ConfigError(
                f"clip.{kind}: {file}, line {number}: a sentence has {PLACE} once, where the class comes; got {line!r}"
            )
    if not found:
        raise ConfigError(f"clip.{kind}: {file} holds no sentence, such as: a photo of a {PLACE}.")
    return tuple(line for _, line in found)


def words(classes: Sequence[str], file: Path | None) -> tuple[str, ...]:
    """What each class is called in a sentence: its name with spaces for underscores, or what the file says.

    file    YAML, from class names to words: aquarium_fish: fish in an aquarium. It may name more classes than there
            are, such as those that an open-set experiment does not know
    raises  ConfigError  for a file that is not that, or names no class
    """
    given = _mapping(file) if file else {}
    strangers = [name for name in given if name not in classes]
    if strangers and len(strangers) == len(given):
        raise ConfigError(f"clip.class_names: {file}: {unknown_name('class', strangers[0], classes)}")
    if strangers:
        log.info("clip.class_names: %d names are of no class here, such as %s", len(strangers), strangers[0])
    return tuple(given.get(name, name.replace("_", " ")) for name in classes)


def sentences(names: Sequence[str], forms: Sequence[str]) -> list[str]:
    """Every form filled with every name: all of the first name, then all of the second."""
    return [form.replace(PLACE, name) for name in names for form in forms]


def _mapping(file: Path) -> dict[str, str]:
    try:
        found = yaml.load(_text(file, "clip.class_names"), yaml.BaseLoader)  # which leaves 0 and no as they are written
    except yaml.YAMLError as error:
        raise ConfigError(f"clip.class_names: {file}: not a YAML file: {error}") from None
    if not isinstance(found, dict) or not all(isinstance(value, str) and value.strip() for value in found.values()):
        raise ConfigError(f"clip.class_names: {file} must hold lines such as aquarium_fish: fish in an aquarium")
    return found


def _text(file: Path, key: str) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{key}: {file} cannot be read as text: {error}") from None
