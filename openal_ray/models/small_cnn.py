"""The default network for CPUs: two strided convolutions and a hidden layer, in the form of a timm model."""

import torch
from torch import nn


class SmallCNN(nn.Module):
    """5×5 stride-2 convolutions with BatchNorm (16 then 32 channels), a hidden layer of 64, a linear head.

    114,000 parameters at 28×28; a step of 64 such images costs 6.5 CPU-ms, a prediction 25 CPU-µs
    (measured, see the specification of data and budgets).

    num_classes  0 leaves the linear head out, as in timm
    img_size     pixels a side, or (height, width)
    """

    def __init__(
        self,
        num_classes: int,
        in_chans: int = 1,
        img_size: int | tuple[int, int] = 28,
        hidden: int = 64,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        places = -(-height // 4) * -(-width // 4)  # two stride-2 convolutions, each rounding up
        self.num_classes, self.num_features = num_classes, hidden
        self.stages = nn.Sequential(_stage(in_chans, 16), _stage(16, 32))
        self.hidden = nn.Linear(32 * places, hidden)
        self.drop = nn.Dropout(drop_rate)
        self.fc: nn.Module = nn.Linear(hidden, num_classes) if num_classes else nn.Identity()

    def get_classifier(self) -> nn.Module:
        return self.fc

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """Images [n, channels, H, W] to maps [n, 32, ⌈H/4⌉, ⌈W/4⌉]."""
        maps: torch.Tensor = self.stages(images)
        return maps

    def forward_intermediates(
        self, images: torch.Tensor, norm: bool = False
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The maps, and the map of each stage; `norm` is timm's, and there is no norm after our last stage."""
        first = self.stages[0](images)
        maps = self.stages[1](first)
        return maps, [first, maps]

    def forward_head(self, maps: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Maps to logits [n, num_classes], or to features [n, hidden] if pre_logits."""
        features: torch.Tensor = self.drop(torch.relu(self.hidden(maps.flatten(1))))
        return features if pre_logits else self.fc(features)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(images))


def _stage(channels_in: int, channels_out: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels_in, channels_out, kernel_size=5, stride=2, padding=2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True))
