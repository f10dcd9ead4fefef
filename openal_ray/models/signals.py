"""The named per-image arrays that can be read from a classifier, all from one forward pass."""

from collections.abc import Iterable

import torch
from torch import nn

from openal_ray.errors import ConfigError, unknown_name

SIGNALS = {
    "logits": "[n, C] the network's outputs",
    "probs": "[n, C] softmax of the logits",
    "features": "[n, D] penultimate activations, what the last linear layer sees",
    "maps": "[n, …] the last feature maps (or tokens), before pooling",
    "stages": "[n, ΣC_i] the spatial mean of every stage's map, one after the other",
}


def check_names(names: Iterable[str]) -> None:
    """Raises ConfigError for a name that is no signal."""
    for name in names:
        if name not in SIGNALS:
            raise ConfigError(unknown_name("signal", name, SIGNALS))


def read(network: nn.Module, images: torch.Tensor, names: Iterable[str]) -> dict[str, torch.Tensor]:
    """The signals `names` of `images` [n, channels, H, W] (normalised), float32, from one pass.

    raises  ConfigError  if the network cannot give a signal
    """
    wanted = set(names)
    signals: dict[str, torch.Tensor] = {}
    if wanted <= {"logits", "probs"}:
        signals["logits"] = network(images)
    else:
        maps = _maps(network, images, signals, "stages" in wanted)
        signals["maps"] = maps
        if "features" in wanted:
            signals["features"] = network.forward_head(maps, pre_logits=True)  # type: ignore[operator]
        if wanted & {"logits", "probs"}:
            signals["logits"] = network.forward_head(maps)  # type: ignore[operator]
    signals = {name: signal.float() for name, signal in signals.items()}
    if "probs" in wanted:
        signals["probs"] = signals["logits"].softmax(1)
    return {name: signals[name] for name in wanted}


def _maps(
    network: nn.Module, images: torch.Tensor, signals: dict[str, torch.Tensor], stages: bool
) -> torch.Tensor:
    _require(network, "forward_features", "forward_head")
    if not stages:
        maps: torch.Tensor = network.forward_features(images)  # type: ignore[operator]
        return maps
    if hasattr(network, "forward_intermediates"):
        maps, each = network.forward_intermediates(images, norm=False)
    else:
        _require(network, "stages")
        each, maps = [], images
        for stage in network.stages:  # type: ignore[union-attr]
            maps = stage(maps)
            each.append(maps)
    signals["stages"] = torch.cat([stage.float().mean(dim=(2, 3)) for stage in each], dim=1)
    return maps


def _require(network: nn.Module, *methods: str) -> None:
    missing = [method for method in methods if not hasattr(network, method)]
    if missing:
        raise ConfigError(
            f"the strategy needs signals that {type(network).__name__} cannot give: it has no {' and no '.join(missing)}. "
            "Write forward_features(images) and forward_head(maps, pre_logits=False), as timm's models do, "
            "or choose a strategy that needs probs alone."
        )
