"""An encoder on disk: its weights as plain tensors, and beside them, for people and programs, the facts to build it.

encoder.pt    the tensors by name, as torch.save writes a state_dict; weights_only
encoder.yaml  method, model, shape, mean, std, heads, and what the training came to; written last
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import yaml

from openal_ray import config
from openal_ray.errors import ConfigError, RunError
from openal_ray.models.contrastive import Contrastive
from openal_ray.models.learners import Classifier

WEIGHTS, FACTS = "encoder.pt", "encoder.yaml"


@dataclass(frozen=True, eq=False)
class Saved:
    """An encoder read back; shape is (height, width, channels) of the images that it was trained on."""

    learner: Contrastive
    shape: tuple[int, int, int]
    weights: Mapping[str, torch.Tensor]


def write(
    folder: Path,
    learner: Contrastive,
    shape: tuple[int, int, int],
    weights: Mapping[str, torch.Tensor],
    further: Mapping[str, Any],
) -> dict[str, Any]:
    """Writes both files, each whole or not at all, and returns the facts.

    further  more facts, plain data: where it comes from and what the training came to
    raises   RunError  if there is no room
    """
    facts = _facts(learner, shape) | dict(further)
    try:
        torch.save(dict(weights), folder / f".{WEIGHTS}.tmp")
        (folder / f".{WEIGHTS}.tmp").replace(folder / WEIGHTS)
        (folder / f".{FACTS}.tmp").write_text(yaml.safe_dump(facts, sort_keys=False, allow_unicode=True))
        (folder / f".{FACTS}.tmp").replace(folder / FACTS)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        raise RunError(f"{folder}: the encoder cannot be written ({error}); make room and start again") from None
    return facts


def facts(folder: Path) -> dict[str, Any] | None:
    """What encoder.yaml says; None if the encoder is not complete. raises ConfigError  for a damaged file"""
    if not (folder / FACTS).is_file() or not (folder / WEIGHTS).is_file():
        return None
    try:
        found = yaml.safe_load((folder / FACTS).read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{folder / FACTS}: not a YAML file: {error}") from None
    return dict(found) if isinstance(found, dict) else {}


def read(path: str) -> Saved:
    """The encoder in a folder, or whose encoder.pt is given.

    raises  ConfigError  if there is none, or its files are damaged or do not belong together
    """
    given = Path(path).expanduser().absolute()
    folder = given.parent if given.suffix == ".pt" else given
    if facts(folder) is None:
        raise ConfigError(
            f"{path}: no encoder here; `openal-ray pretrain` writes {WEIGHTS} and {FACTS} "
            "into its out=DIR when it has finished"
        )
    return _read(folder, (folder / WEIGHTS).stat().st_mtime_ns)


@lru_cache(maxsize=4)  # a strategy asks for it several times a round
def _read(folder: Path, modified: int) -> Saved:
    try:
        learner, shape = _learner(facts(folder) or {})
        weights = torch.load(folder / WEIGHTS, map_location="cpu", weights_only=True)
        with torch.random.fork_rng(devices=[]):
            learner.build(shape).load_state_dict(weights)
    except Exception as error:  # a damaged file can raise nearly anything
        raise ConfigError(f"{folder}: the encoder cannot be used: {error}") from error
    return Saved(learner, shape, weights)


def _facts(learner: Contrastive, shape: tuple[int, int, int]) -> dict[str, Any]:
    backbone = learner.backbone
    of_csi = {"shift": learner.shift, "shift_weight": learner.shift_weight} if learner.shift else {}
    return {
        "method": "csi" if learner.shift else "simclr",
        "model": {"name": backbone.name, "pretrained": backbone.pretrained, "params": dict(backbone.params)},
        "shape": list(shape), "mean": list(learner.mean), "std": list(learner.std),
        "projection": learner.projection, "temperature": learner.temperature, **of_csi,
        "views": learner.views.model_dump(),
    }  # fmt: skip


def _learner(found: Mapping[str, Any]) -> tuple[Contrastive, tuple[int, int, int]]:
    """The learner that reads the weights; how it was trained no longer matters."""
    model, (height, width, channels) = found["model"], found["shape"]
    backbone = Classifier(0, model["name"], model["pretrained"], None, model["params"], blank=True)
    learner = Contrastive(
        backbone, tuple(found["mean"]), tuple(found["std"]), found["projection"],
        views=config.Views(**found["views"]), shift=found["shift"] if found["method"] == "csi" else None,
    )  # fmt: skip
    return learner, (height, width, channels)
