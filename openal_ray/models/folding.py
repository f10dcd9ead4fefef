"""Merging BatchNorm into the convolution before it: the same predictions with fewer passes over memory."""

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

TOLERANCE = 1e-3  # relative; merging reorders float32 products, which moves outputs by about 1e-6


def fold_batchnorm(network: nn.Module, shape: tuple[int, int, int]) -> nn.Module:
    """The eval-mode `network` for images of `shape` (height, width, channels), with BatchNorm merged where possible.

    A BatchNorm is merged if it is declared right after a convolution of its width, as in every ResNet. Declaration
    is not proof, so both networks meet two random images first; should they differ, the original is returned.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        return network
    folded = copy.deepcopy(network)
    for parent in list(folded.modules()):
        children = list(parent.named_children())
        for (conv_name, conv), (norm_name, norm) in zip(children, children[1:], strict=False):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and _fits(conv, norm):
                setattr(parent, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, norm_name, _activation(norm))
    return folded if _agree(network, folded, shape) else network


def _fits(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> bool:
    return conv.out_channels == norm.num_features and norm.track_running_stats


def _activation(norm: nn.BatchNorm2d) -> nn.Module:
    """What timm's BatchNormAct2d does besides normalising; nothing for a plain BatchNorm."""
    parts = [module for name in ("drop", "act") if (module := getattr(norm, name, None)) is not None]
    return nn.Sequential(*parts) if parts else nn.Identity()


def _agree(network: nn.Module, folded: nn.Module, shape: tuple[int, int, int]) -> bool:
    images = torch.randn(2, shape[2], shape[0], shape[1], generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before, after = network(images), folded(images)
    return bool((before - after).abs().max() <= TOLERANCE * before.abs().max())
