"""Pictures in several blocks, a network to read them with, and the same signals by one plain pass of PyTorch."""

from typing import Any

import numpy as np
import torch
from torch import nn

from openal_ray import config
from openal_ray.data.images import ArrayImages
from openal_ray.models.learners import Classifier
from openal_ray.shard import Settings

N_CLASSES, MEAN, STD = 4, 0.4, 0.3
PIXELS = np.random.default_rng(0).integers(0, 256, (2600, 8, 8, 1), dtype=np.uint8)  # blocks of 1024, 1024 and 552
IMAGES = ArrayImages(PIXELS)
LEARNER = Classifier(N_CLASSES)
SIGNALS = ("probs", "features", "logits", "stages")


def settings(skip_bad_images: bool = False, cache_bytes: int = 0, **read: Any) -> Settings:
    return Settings(config.Read(**read), (MEAN,), (STD,), cache_bytes=cache_bytes, skip_bad_images=skip_bad_images)


def network(seed: int = 0) -> nn.Module:
    """In eval mode, with BatchNorm statistics as after training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = LEARNER.build((8, 8, 1)).eval().requires_grad_(False)
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.3, 0.3)
                module.running_var.uniform_(0.5, 2)
    return made


class Counted:
    """Pictures that count how often each is loaded."""

    def __init__(self, count: int) -> None:
        self.loads = np.zeros(count, np.int64)
        self._images = ArrayImages(PIXELS[:count])
        self.shape = self._images.shape

    def __len__(self) -> int:
        return len(self.loads)

    def load(self, indices: np.ndarray) -> np.ndarray:
        self.loads[indices] += 1
        return self._images.load(indices)

    def ids(self, indices: np.ndarray) -> list[str]:
        return self._images.ids(indices)


def plain_pass(indices: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """SIGNALS of the images at `indices`, all in one batch."""
    made = network(seed)
    inputs = (torch.from_numpy(PIXELS[indices]).permute(0, 3, 1, 2).float() / 255 - MEAN) / STD
    first = made.stages[0](inputs)
    maps = made.stages[1](first)
    features = torch.relu(maps.flatten(1) @ made.hidden.weight.T + made.hidden.bias)
    logits = features @ made.fc.weight.T + made.fc.bias
    stages = torch.cat([first.mean((2, 3)), maps.mean((2, 3))], dim=1)
    found = {"probs": torch.softmax(logits, 1), "features": features, "logits": logits, "stages": stages}
    return {name: signal.numpy() for name, signal in found.items()}


def assert_close(ours: Any, indices: np.ndarray, names: tuple[str, ...] = SIGNALS, **tolerance: float) -> None:
    """That a reading is of exactly these indices, and as a plain pass finds it, up to the order of float32 sums."""
    np.testing.assert_array_equal(ours.indices, indices)
    assert set(ours.signals) == set(names)
    expected = plain_pass(indices)
    for name in names:
        np.testing.assert_allclose(ours.signals[name], expected[name], **({"rtol": 1e-3, "atol": 1e-4} | tolerance))
