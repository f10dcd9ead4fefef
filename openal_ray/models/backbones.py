"""A network by name: our small CNN, any timm model, or a function in a file of the user's."""

import importlib.util
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from openal_ray.errors import ConfigError, unknown_name
from openal_ray.models.small_cnn import SmallCNN

SMALL_IMAGE = 224  # below this side, and without published weights, ResNets get a stem that keeps the resolution


def create(
    name: str,
    n_classes: int,
    shape: tuple[int, int, int],
    *,
    pretrained: bool = False,
    checkpoint: Path | None = None,
    params: Mapping[str, Any] | None = None,
) -> nn.Module:
    """A classifier for images of `shape` (height, width, channels).

    It has `forward_features(images) -> maps` and `forward_head(maps, pre_logits=False) -> logits or features`,
    the contract of timm, unless it is the user's own module without them (then only `logits` and `probs` can be read).
    raises  ConfigError  for an unknown name, a parameter that the network does not take, or weights that do not fit
    """
    arguments = dict(params or {})
    if name == "small_cnn":
        network: nn.Module = _call(
            SmallCNN, name, num_classes=n_classes, in_chans=shape[2], img_size=shape[0], **arguments
        )
    elif ":" in name:
        network = _call(user_function(name, "model.name"), name, n_classes=n_classes, shape=shape, **arguments)
    else:
        network = _timm_model(name, n_classes, shape, pretrained, arguments)
    if checkpoint:
        load_weights(network, Path(checkpoint).expanduser())
    return network


def check_name(name: str) -> None:
    """Raises ConfigError unless `name` can be created; builds nothing."""
    if name == "small_cnn":
        return
    if ":" in name:
        user_function(name, "model.name")
        return
    import timm

    if not timm.is_model(name.split(".")[0].removeprefix("timm/")):
        raise ConfigError(f"model.name: {_unknown_model(name)}")


def user_function(reference: str, key: str) -> Callable[..., Any]:
    """The function that `path.py:function` names; raises ConfigError that begins with `key`."""
    path, _, function = reference.rpartition(":")
    file = Path(path).expanduser()
    if not file.is_file():
        raise ConfigError(f"{key}: {reference!r} names a function in {path!r}, but there is no such file")
    specification = importlib.util.spec_from_file_location(f"openal_ray_user_{file.stem}", file)
    assert specification and specification.loader  # a .py file always has a loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    found = getattr(module, function, None)
    if not callable(found):
        functions = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise ConfigError(f"{key}: {path} has no function {function!r}; it has {', '.join(functions) or 'none'}")
    return found  # type: ignore[no-any-return]


def load_weights(network: nn.Module, file: Path) -> None:
    """Loads a state dict; a head of another number of classes is left as it is. Raises ConfigError if it does not fit."""
    if not file.is_file():
        raise ConfigError(f"model.checkpoint: {file}: no such file")
    state = _read_state(file)
    own = network.state_dict()
    head = _head_keys(network)
    wanted = {key for key in own if key not in head}
    usable = {key: value for key, value in state.items() if key in own and value.shape == own[key].shape}
    missing = sorted(wanted - usable.keys())
    if missing:
        raise ConfigError(
            f"model.checkpoint: {file} does not fit the network: {len(missing)} of {len(own)} tensors are missing "
            f"or of another shape, first {missing[0]!r}. Set model.name to the network that was saved."
        )
    network.load_state_dict(usable, strict=False)


def _read_state(file: Path) -> dict[str, torch.Tensor]:
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(file)
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ConfigError(f"model.checkpoint: {file} is not a file of plain tensors: {error}") from None
    state = state.get("state_dict", state)
    return {key.removeprefix("module."): value for key, value in state.items()}


def _head_keys(network: nn.Module) -> set[str]:
    head = network.get_classifier() if hasattr(network, "get_classifier") else None
    names = [name for name, module in network.named_modules() if module is head]
    return {key for key in network.state_dict() for name in names if key.startswith(f"{name}.")}


def _timm_model(
    name: str, n_classes: int, shape: tuple[int, int, int], pretrained: bool, params: dict[str, Any]
) -> nn.Module:
    import timm

    check_name(name)
    size: dict[str, Any] = {"img_size": shape[:2]} if _wants_image_size(name, shape) else {}
    arguments = {"num_classes": n_classes, "in_chans": shape[2], "pretrained": pretrained, **size, **params}
    network: nn.Module = _call(timm.create_model, name, name, **arguments)
    if not pretrained and min(shape[:2]) < SMALL_IMAGE:
        _small_image_stem(network, shape[2])
    return network


def _wants_image_size(name: str, shape: tuple[int, int, int]) -> bool:
    """True for networks built for one image size, such as plain vision transformers, when ours is another."""
    import timm

    configuration = timm.get_pretrained_cfg(name)
    fixed = bool(configuration and configuration.fixed_input_size)
    return fixed and tuple(configuration.input_size[1:]) != shape[:2]


def _small_image_stem(network: nn.Module, channels: int) -> None:
    """A 3×3 stride-1 first convolution and no pooling, for ResNets on small images (CIFAR practice)."""
    for owner, convolution, pool in ((network, "conv1", "maxpool"), (getattr(network, "stem", None), "conv", "pool")):
        first = getattr(owner, convolution, None)
        if isinstance(first, nn.Conv2d) and hasattr(owner, pool):
            setattr(owner, convolution, nn.Conv2d(channels, first.out_channels, 3, stride=1, padding=1, bias=False))
            setattr(owner, pool, nn.Identity())
            return


def _call(function: Callable[..., Any], name: str, *positional: Any, **arguments: Any) -> Any:
    try:
        return function(*positional, **arguments)
    except TypeError as error:
        valid = [key for key in inspect.signature(function).parameters if key not in ("kwargs", "self")]
        raise ConfigError(f"model.params: {name} does not accept them: {error}. It knows {', '.join(valid)}.") from error


def _unknown_model(name: str) -> str:
    import timm

    near = timm.list_models(f"*{name.split('.')[0].rstrip('0123456789')}*")
    return unknown_name("model", name, ["small_cnn", "path.py:function", *(near or ["resnet18", "vit_tiny_patch16_224"])])
