"""From uint8 pixels to the network's input: augmentation by name, and normalisation, both on the device."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from openal_ray.errors import ConfigError, unknown_name

Augmentation = Callable[[torch.Tensor], torch.Tensor]


class Normalise(nn.Module):
    """uint8 [n, channels, H, W] to float32 of mean 0 and deviation 1; mean and std refer to pixels in 0 … 1."""

    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("shift", torch.tensor(mean).reshape(1, -1, 1, 1) * 255)
        self.register_buffer("scale", 1 / (torch.tensor(std).reshape(1, -1, 1, 1) * 255))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return (pixels.float() - self.shift) * self.scale


class Refit(nn.Module):
    """From a data set's normalised pictures to those that a network was trained on: size, channels, normalisation.

    size           pixels a side; the shorter side is made as long, and the centre of the longer one is kept
    given, wanted  mean and std per channel of what comes and of what the network expects, of pixels in 0 … 1
    """

    def __init__(
        self,
        size: int,
        given: tuple[Sequence[float], Sequence[float]],
        wanted: tuple[Sequence[float], Sequence[float]],
    ) -> None:
        super().__init__()
        self.size, self.given, self.wanted = size, Normalise(*given), Normalise(*wanted)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pixels = images / self.given.scale + self.given.shift
        pixels = pixels.expand(-1, 3, -1, -1) if pixels.shape[1] == 1 else pixels
        height, width = pixels.shape[2:]
        shorter = min(height, width)
        sides = (round(height * self.size / shorter), round(width * self.size / shorter))
        pixels = functional.interpolate(pixels, sides, mode="bicubic", antialias=True)
        top, left = (sides[0] - self.size) // 2, (sides[1] - self.size) // 2
        fitting: torch.Tensor = self.wanted(pixels[:, :, top : top + self.size, left : left + self.size].clamp(0, 255))
        return fitting


def augmentation(names: Sequence[str | Mapping[str, Mapping[str, Any]]], shape: tuple[int, int, int]) -> Augmentation:
    """The transforms of torchvision.transforms.v2 called `names`, drawn anew for every image of a batch.

    names    each a bare name, or one {name: {argument: value}}; crops and resizes without a size get the image's
    returns  a function from uint8 [n, channels, H, W] to the same; it draws from torch's global generator
    raises   ConfigError  for an unknown transform or argument
    """
    if not names:
        return lambda pixels: pixels
    from torchvision.transforms import v2

    transform = v2.Compose([_transform(entry, shape) for entry in names])

    def each(pixels: torch.Tensor) -> torch.Tensor:
        return torch.stack([transform(image) for image in pixels]).contiguous(memory_format=torch.channels_last)

    return each


def check_augmentation(names: Sequence[str | Mapping[str, Mapping[str, Any]]], shape: tuple[int, int, int]) -> None:
    """Tries the augmentation on a black picture; raises ConfigError if it fails or returns another kind of picture."""
    height, width, channels = shape
    black = torch.zeros(1, channels, height, width, dtype=torch.uint8)
    augment = augmentation(names, shape)
    try:
        with torch.random.fork_rng(devices=[]):
            made = augment(black)
    except Exception as error:  # whatever a transform raises, it cannot be used
        raise ConfigError(f"train.augment: cannot be applied to one uint8 picture [C, H, W]: {error}") from error
    if made.shape != black.shape or made.dtype != black.dtype:
        raise ConfigError(
            f"train.augment: a picture must stay {black.dtype} {list(black.shape[1:])}, "
            f"got {made.dtype} {list(made.shape[1:])}"
        )


def _transform(entry: str | Mapping[str, Mapping[str, Any]], shape: tuple[int, int, int]) -> nn.Module:
    from torchvision.transforms import v2

    name, arguments = (entry, {}) if isinstance(entry, str) else next(iter(entry.items()))
    known = {key: value for key, value in vars(v2).items() if isinstance(value, type) and issubclass(value, nn.Module)}
    if name not in known:
        raise ConfigError(f"train.augment: {unknown_name('transform', name, known)}")
    arguments = dict(arguments or {})
    if name in ("RandomCrop", "CenterCrop", "Resize", "RandomResizedCrop"):
        arguments.setdefault("size", list(shape[:2]))
    try:
        made: nn.Module = known[name](**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"train.augment: {name}: {error}") from None
    return made
