"""One network of each family that timm's contract must hold for, small, with BatchNorm statistics as after training."""

import torch
from torch import nn

from openal_ray.models import backbones

N_CLASSES = 5
FAMILIES = {
    "small_cnn": (12, 8, 1),
    "resnet18": (32, 32, 3),
    "resnetv2_18": (32, 32, 1),
    "test_vit": (32, 32, 3),
    "convnext_atto": (32, 32, 3),
    "tf_efficientnet_lite0": (32, 32, 1),
}


def network(name: str) -> nn.Module:
    """In eval mode; a fresh BatchNorm would be almost the identity, so its four vectors are drawn."""
    torch.manual_seed(0)
    made = backbones.create(name, N_CLASSES, FAMILIES[name]).eval()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
    return made.requires_grad_(False)


def images(name: str, count: int = 3) -> torch.Tensor:
    """Normalised images [count, channels, H, W] for the network of that name."""
    height, width, channels = FAMILIES[name]
    return torch.randn(count, channels, height, width, generator=torch.Generator().manual_seed(1))
