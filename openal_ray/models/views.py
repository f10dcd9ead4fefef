"""Random views of pictures for contrastive learning: whole batches at once, every picture with draws of its own.

Pixels are float32 in 0 … 1, [n, channels, H, W], on any device. Draws come from torch's global generator; where a
generator of the CPU is given, from that, and all pictures get the same ones, whatever the batch and the machine.
"""

import math

import torch
from torch.nn import functional

from openal_ray import config

JITTER, TURN = 0.4, 0.1  # SimCLR's strengths: brightness, contrast and saturation; hue, as a share of the circle
RATIOS = (3 / 4, 4 / 3)  # of a crop's width to its height
TRIES = 10  # torchvision's: draws of a crop before the largest possible one is taken
LUMINANCE = (0.299, 0.587, 0.114)


Generator = torch.Generator | None


def flipped(pixels: torch.Tensor, share: float, generator: Generator = None) -> torch.Tensor:
    """About that share of the pictures mirrored, left and right."""
    return torch.where(_some(pixels, share, generator), pixels.flip(3), pixels)


def changed(
    pixels: torch.Tensor, views: config.Views, generator: Generator = None, largest_crop: float = 1.0
) -> torch.Tensor:
    """Colour jitter, grey and a resized crop of each picture (Chen et al. 2020, appendix A).

    largest_crop  share of the area that a crop has at most

    Differs: the crop comes last, as in CSI, and may begin between two pixels; the order of the four colour changes
    is drawn once a batch; no blur, as in the paper for small images. Grey pictures get brightness and contrast alone.
    """
    pixels = torch.where(_some(pixels, views.jitter, generator), jittered(pixels, generator), pixels)
    if pixels.shape[1] == 3:
        pixels = torch.where(_some(pixels, views.grey, generator), luminance(pixels).expand_as(pixels), pixels)
    return cropped(pixels, *draw_crops(pixels, views.smallest_crop, largest_crop, generator))


def jittered(pixels: torch.Tensor, generator: Generator = None) -> torch.Tensor:
    """Brightness, contrast, saturation and hue of every picture changed, in a random order."""
    changes = [(brightened, JITTER), (contrasted, JITTER), (saturated, JITTER), (turned, TURN)]
    for number in torch.randperm(len(changes), generator=generator).tolist():
        change, strength = changes[number]
        drawn = (2 * _uniform(pixels, (1, 1, 1), generator) - 1) * strength
        if change in (brightened, contrasted) or pixels.shape[1] == 3:
            pixels = change(pixels, drawn if change is turned else 1 + drawn)
    return pixels


def brightened(pixels: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """factor [n, 1, 1, 1], here and below."""
    return (pixels * factor).clamp(0, 1)


def contrasted(pixels: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return _blend(pixels, luminance(pixels).mean(dim=(2, 3), keepdim=True), factor)


def saturated(pixels: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return _blend(pixels, luminance(pixels), factor)


def turned(pixels: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    """Hues moved by `turn` [n, 1, 1, 1] of the colour circle; value and saturation stay."""
    value, lowest = pixels.amax(1, keepdim=True), pixels.amin(1, keepdim=True)
    spread = value - lowest
    divisor = torch.where(spread > 0, spread, 1)
    red, green, blue = pixels.split(1, dim=1)
    hue = torch.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor)
    hue = torch.where(value == red, (green - blue) / divisor, hue) + 6 * turn  # in sixths of the circle
    # Red, green and blue are the same trapezium over the circle, a third of it apart.
    place = (hue + pixels.new_tensor([5, 3, 1]).reshape(1, 3, 1, 1)) % 6
    return (value - spread * torch.minimum(place, 4 - place).clamp(0, 1)).clamp(0, 1)


def luminance(pixels: torch.Tensor) -> torch.Tensor:
    """The grey picture [n, 1, H, W]."""
    if pixels.shape[1] == 1:
        return pixels
    return (pixels * pixels.new_tensor(LUMINANCE).reshape(1, 3, 1, 1)).sum(1, keepdim=True)


def draw_crops(
    pixels: torch.Tensor, smallest: float, largest: float = 1.0, generator: Generator = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sizes and centres of one crop a picture, both [n, 2], x before y, as shares of the picture's width and height.

    smallest, largest  share of the picture's area that a crop has at least and at most
    returns            [1, 2] each where all pictures get the same crop
    """
    height, width = pixels.shape[2:]
    area = smallest + (largest - smallest) * _uniform(pixels, (TRIES,), generator)
    low, high = (math.log(ratio) for ratio in RATIOS)
    ratio = torch.exp(low + (high - low) * _uniform(pixels, (TRIES,), generator)) * height / width  # of the shares
    sizes = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], dim=2)  # [n, TRIES, 2]
    fitting = (sizes <= 1).all(dim=2)
    first = fitting.int().argmax(1)
    size = sizes[torch.arange(len(sizes), device=pixels.device), first]
    nearest = min(max(width / height, RATIOS[0]), RATIOS[1]) * height / width
    whole = pixels.new_tensor([min(1, nearest), min(1, 1 / nearest)])
    size = torch.where(fitting.any(1, keepdim=True), size, whole)
    centre = size / 2 + (1 - size) * _uniform(pixels, (2,), generator)
    return size, centre


def cropped(pixels: torch.Tensor, size: torch.Tensor, centre: torch.Tensor) -> torch.Tensor:
    """The crop of each picture, stretched to the whole picture's size, bilinear; see `draw_crops`."""
    theta = pixels.new_zeros(len(pixels), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = size[:, 0], size[:, 1]
    theta[:, :, 2] = 2 * centre - 1
    grid = functional.affine_grid(theta, list(pixels.shape), align_corners=False)
    return functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False).clamp(0, 1)


def _some(pixels: torch.Tensor, share: float, generator: Generator) -> torch.Tensor:
    """True for about that share of the pictures, [n, 1, 1, 1]."""
    return _uniform(pixels, (1, 1, 1), generator) < share


def _uniform(pixels: torch.Tensor, shape: tuple[int, ...], generator: Generator) -> torch.Tensor:
    """In 0 … 1, [n, *shape]; [1, *shape] from a generator, for all pictures."""
    if generator is None:
        return torch.rand(len(pixels), *shape, device=pixels.device)
    return torch.rand(1, *shape, generator=generator).to(pixels.device)


def _blend(pixels: torch.Tensor, other: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return (factor * pixels + (1 - factor) * other).clamp(0, 1)
