"""Start weights from a file, or from a package that brings some along."""

import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from openal_ray.errors import ConfigError
from openal_ray.models import packaged

WRAPPERS = ("state_dict", "model_state_dict", "model")  # keys under which training scripts keep the weights
PACKAGED = "packaged"  # instead of a file: the weights of an installed package
SHAPES_HINT = (
    "Set model.name, model.params and data.channels to those of the network that was saved. "
    "(For images below 224 pixels our ResNets begin with a 3×3 convolution, unless model.pretrained=true.)"
)


def load(network: nn.Module, source: Path, name: str) -> None:
    """Loads a file, or the packaged weights of the model called `name`; a head for other classes stays as it is.

    source  .safetensors, anything else as torch.save writes it, or "packaged"
    raises  ConfigError  if there is no such file, it has no plain tensors, or they do not fit the network
    """
    if str(source) == PACKAGED:
        state = packaged.weights(name, list(network.state_dict()))
    else:
        state = read_file(Path(source).expanduser(), "model.checkpoint")
    own = network.state_dict()
    fitting = {key: value for key, value in state.items() if key in own and value.shape == own[key].shape}
    missing = sorted(own.keys() - fitting.keys() - _head_keys(network))
    if missing:
        there = (
            f"{_shape(state[missing[0]])} there, {_shape(own[missing[0]])} here" if missing[0] in state else "not there"
        )
        raise ConfigError(
            f"model.checkpoint: {source} does not fit {name}: of {len(own)} tensors {len(missing)} are missing or have "
            f"another shape, first {missing[0]!r} ({there}). {SHAPES_HINT}"
        )
    network.load_state_dict(fitting, strict=False)


def read_file(file: Path, key: str) -> dict[str, torch.Tensor]:
    """The tensors of a file by name, without the prefix of data-parallel training; the file stays mapped, not read.

    raises  ConfigError  that begins with the configuration's `key`
    """
    if not file.is_file():
        raise ConfigError(f"{key}: {file}: no such file; give a .pt, .pth or .safetensors file")
    try:
        state = _read_tensors(file)
    except Exception as error:  # each format has its own, and a damaged file can raise nearly any
        raise ConfigError(f"{key}: {file} is not a file of plain tensors: {error}") from error
    state = next(
        (state[key] for key in WRAPPERS if isinstance(state, dict) and isinstance(state.get(key), dict)), state
    )
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ConfigError(
            f"{key}: {file} must hold tensors by name, as torch.save(network.state_dict(), …) writes them"
        )
    return {key.removeprefix("module."): value for key, value in state.items()}


def _read_tensors(file: Path) -> Any:
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(file)
    return torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))


def _head_keys(network: nn.Module) -> set[str]:
    """Names of the tensors of the last layer, or of both where a distilled network has two."""
    found = network.get_classifier() if hasattr(network, "get_classifier") else ()  # type: ignore[operator]
    heads = found if isinstance(found, tuple) else (found,)
    names = [name for name, module in network.named_modules() if any(module is head for head in heads)]
    return {key for key in network.state_dict() for name in names if key.startswith(f"{name}.")}


def _shape(tensor: torch.Tensor) -> list[int]:
    return list(tensor.shape)
