"""A data set, networks and a call as OpenAL's users have them, small."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torchvision.transforms import v2

from openal_ray.models.small_cnn import SmallCNN
from openal_ray.openal.query_strategy import QueryStrategy, create_query_strategy

N, CLASSES, SIDE = 60, 5, 16
LABELLED = np.arange(N) % 6 == 0  # 0, 6, 12, …: ten images
TO_TENSOR = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.4, 0.5, 0.6], [0.2, 0.25, 0.3])]
TEST_TRANSFORM = v2.Compose(TO_TENSOR)
TRAIN_TRANSFORM = v2.Compose([v2.RandomHorizontalFlip(1.0), *TO_TENSOR])


class Pictures:
    """A data set as torchvision makes them."""

    def __init__(self, transform: Callable[[Any], Any] = TRAIN_TRANSFORM, labels: bool = True) -> None:
        rng = np.random.default_rng(0)
        self.data = rng.integers(0, 256, (N, SIDE, SIDE, 3), np.uint8)
        self.targets = rng.integers(0, CLASSES, N).tolist()
        self.transform, self.labels = transform, labels

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> Any:
        image = self.transform(Image.fromarray(self.data[index]))
        return (image, self.targets[index]) if self.labels else image


def pixels() -> torch.Tensor:
    """All images as the networks are to see them [N, 3, H, W]."""
    scaled = torch.from_numpy(Pictures().data).permute(0, 3, 1, 2) / 255
    return (scaled - torch.tensor([0.4, 0.5, 0.6]).reshape(3, 1, 1)) / torch.tensor([0.2, 0.25, 0.3]).reshape(3, 1, 1)


def network(kind: str) -> nn.Module:
    """A small network with decided opinions, in training mode; the CNN's BatchNorm has seen images."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        if kind == "vit":
            sizes = {"img_size": SIDE, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}
            model: Any = VisionTransformer(num_classes=CLASSES, **sizes)
            head = model.head
        else:
            model = SmallCNN(CLASSES, in_chans=3, img_size=SIDE, hidden=8)
            head = model.fc
        with torch.no_grad():
            model(pixels())
            head.weight.mul_(8)
    return model


def create(name: str, model: nn.Module, **options: Any) -> QueryStrategy:
    """Called as OpenAL's users call it."""
    given = {
        "model": model, "strategy_name": name, "dataset": Pictures(), "is_labeled": LABELLED,
        "transform": TEST_TRANSFORM, "sampler_name": "SubsetRandomSampler",
        "n_query": 8, "batch_size": 16, "num_workers": 0, "steps_per_epoch": 0,
    }  # fmt: skip
    return create_query_strategy(**(given | options))
