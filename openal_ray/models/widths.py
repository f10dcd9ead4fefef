"""How wide a network's inner arrays are, found out with one black image; eval mode, so that no statistic moves."""

from typing import Any

import torch


def feature_width(network: Any, shape: tuple[int, int, int]) -> int:
    """The number of features before the last layer, of a network of timm's contract; it is left in training mode."""
    network.eval()
    with torch.no_grad():
        width = network.forward_head(network.forward_features(_black(shape)), pre_logits=True).shape[1]
    network.train()
    return int(width)


def stage_widths(network: Any, shape: tuple[int, int, int]) -> list[int]:
    """The channels of the map of every stage; it is left in training mode."""
    network.eval()
    with torch.no_grad():
        _, stages = network.forward_intermediates(_black(shape), norm=False)
    network.train()
    return [stage.shape[1] for stage in stages]


def _black(shape: tuple[int, int, int]) -> torch.Tensor:
    height, width, channels = shape
    return torch.zeros(1, channels, height, width)
