"""A network by name: our small CNN, any timm model, or a function in a file of the user's."""

import difflib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from openal_ray.errors import ConfigError, unknown_name
from openal_ray.models import checkpoints
from openal_ray.models.small_cnn import SmallCNN
from openal_ray.user_code import user_function

SMALL_IMAGE = 224  # below this side, and without published weights, ResNets get a stem that keeps the resolution
FROM_DATA = ("num_classes", "n_classes", "in_chans", "shape", "pretrained")  # arguments that we give ourselves


def create(
    name: str,
    n_classes: int,
    shape: tuple[int, int, int],
    *,
    pretrained: bool = False,
    checkpoint: Path | str | None = None,
    params: Mapping[str, Any] | None = None,
    blank: bool = False,
) -> nn.Module:
    """A classifier for images of `shape` (height, width, channels).

    blank   build what published weights fit, without fetching them, for whoever has weights to load

    It has `forward_features(images) -> maps` and `forward_head(maps, pre_logits=False) -> logits or features`,
    the contract of timm, unless it is the user's own module without them (then only `logits` and `probs` can be read).
    A function of the user's is called with n_classes=…, shape=… and `params`.
    raises  ConfigError  for an unknown name, a parameter that the network does not take, or weights that do not fit
    """
    arguments = dict(params or {})
    if taken := sorted(arguments.keys() & set(FROM_DATA)):
        raise ConfigError(f"model.params: {', '.join(taken)} follows from the data and the model keys; leave it out")
    if name == "small_cnn":
        _check_known(arguments, SmallCNN, name)
        network: nn.Module = SmallCNN(n_classes, **{"in_chans": shape[2], "img_size": shape[:2], **arguments})
    elif ":" in name:
        network = _user_network(name, n_classes, shape, arguments)
    else:
        network = _timm_model(name, n_classes, shape, pretrained, arguments, blank)
    if checkpoint:
        checkpoints.load(network, Path(checkpoint), name)
    return network


def check_name(name: str) -> None:
    """Raises ConfigError unless `name` can be created; builds nothing."""
    if name == "small_cnn":
        return
    if ":" in name:
        user_function(name, "model.name")
        return
    import timm

    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=5, cutoff=0.5)
        examples = near or ["resnet18", "vit_tiny_patch16_224"]
        raise ConfigError(f"model.name: {unknown_name('model', name, ['small_cnn', 'path.py:function', *examples])}")
    published = timm.list_pretrained(f"{architecture}.*")
    if tag and name not in published:
        raise ConfigError(f"model.name: {unknown_name('model', name, [architecture, *published])}")


def _user_network(name: str, n_classes: int, shape: tuple[int, int, int], params: dict[str, Any]) -> nn.Module:
    function = user_function(name, "model.name")
    _check_known(params, function, name)
    arguments = {"n_classes": n_classes, "shape": shape, **params}
    try:
        inspect.signature(function).bind(**arguments)  # so that an error inside the function is not taken for this one
    except TypeError as error:
        raise ConfigError(f"model.name: {name} is called with {', '.join(arguments)} by name: {error}") from None
    network = function(**arguments)
    if not isinstance(network, nn.Module):
        raise ConfigError(f"model.name: {name} must return a torch.nn.Module, got {type(network).__name__}")
    return network


def _timm_model(
    name: str, n_classes: int, shape: tuple[int, int, int], pretrained: bool, params: dict[str, Any], blank: bool
) -> nn.Module:
    import timm

    check_name(name)
    size: dict[str, Any] = {"img_size": shape[:2]} if _wants_image_size(name, shape) else {}
    fetched = pretrained and not blank
    arguments = {"num_classes": n_classes, "in_chans": shape[2], "pretrained": fetched, **size, **params}
    try:
        network: nn.Module = timm.create_model(name, **arguments)
    except TypeError as error:
        _check_known(params, type(timm.create_model(name)), name)
        raise ConfigError(f"model.params: {name} cannot be built with {params}: {error}") from error
    except (OSError, RuntimeError) as error:
        if not fetched:
            raise
        raise ConfigError(
            f"model.pretrained: the published weights of {name} cannot be had: {error} "
            "Without a connection, give the weights as a file: model.pretrained=false model.checkpoint=FILE"
        ) from error
    if not pretrained and min(shape[:2]) < SMALL_IMAGE:
        _small_image_stem(network, shape[2])
    return network


def _wants_image_size(name: str, shape: tuple[int, int, int]) -> bool:
    """True for networks built for one image size, such as plain vision transformers, when ours is another."""
    import timm

    configuration = timm.get_pretrained_cfg(name)
    return bool(
        configuration and configuration.fixed_input_size and tuple(configuration.input_size[1:]) != tuple(shape[:2])
    )


def _small_image_stem(network: nn.Module, channels: int) -> None:
    """A 3×3 stride-1 first convolution and no pooling, for ResNets on small images (CIFAR practice)."""
    for owner, convolution, pool in ((network, "conv1", "maxpool"), (getattr(network, "stem", None), "conv", "pool")):
        first = getattr(owner, convolution, None)
        if isinstance(owner, nn.Module) and isinstance(first, nn.Conv2d) and hasattr(owner, pool):
            setattr(owner, convolution, nn.Conv2d(channels, first.out_channels, 3, stride=1, padding=1, bias=False))
            setattr(owner, pool, nn.Identity())
            return


def _check_known(params: Mapping[str, Any], function: Callable[..., Any], name: str) -> None:
    """Raises ConfigError for a parameter that the function does not take."""
    known = inspect.signature(function).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        return
    for key in params:
        if key not in known:
            valid = [name for name in known if name not in FROM_DATA]
            raise ConfigError(f"model.params: {name}: {unknown_name('parameter', key, valid)}")
