"""Features and probabilities for the selection benchmark: of a real network on real images, and drawn ones."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

CLASSES = 10


def rectified(n: int, d: int, seed: int = 0) -> np.ndarray:
    """float32 [n, d] as a rectified last layer gives them: classes that overlap, with few directions in each."""
    rng = np.random.default_rng(seed)
    directions = max(4, d // 16)
    middles = rng.standard_normal((CLASSES, d), dtype=np.float32)
    spreads = rng.standard_normal((CLASSES, directions, d), dtype=np.float32) / np.float32(directions**0.5)
    features = np.empty((n, d), np.float32)
    for low in range(0, n, 10_000):
        rows = features[low : low + 10_000]
        classes = rng.integers(0, CLASSES, len(rows))
        for label in range(CLASSES):
            mine = classes == label
            width = 0.4 + 0.8 * rng.random((mine.sum(), 1), dtype=np.float32)
            inside = rng.standard_normal((mine.sum(), directions), dtype=np.float32) * width
            noise = 0.15 * rng.standard_normal((mine.sum(), d), dtype=np.float32)
            rows[mine] = np.maximum(middles[label] + inside @ spreads[label] + noise, 0)
    return features


def residuals(features: np.ndarray, n_classes: int, seed: int = 1) -> np.ndarray:
    """float32 [n, C]: probabilities of a random linear head on the features, minus the predicted class."""
    rng = np.random.default_rng(seed)
    head = rng.standard_normal((features.shape[1], n_classes), dtype=np.float32) * 4 / features.shape[1] ** 0.5
    left = np.empty((len(features), n_classes), np.float32)
    middle = features[:1000].mean(axis=0)
    for low in range(0, len(left), 10_000):
        logits = (features[low : low + 10_000] - middle) @ head
        left[low : low + 10_000] = minus_predicted(torch.softmax(torch.from_numpy(logits), dim=1).numpy())
    return left


def minus_predicted(probs: np.ndarray) -> np.ndarray:
    """Probabilities [n, C] minus the one-hot predicted class, in place."""
    probs[np.arange(len(probs)), probs.argmax(axis=1)] -= 1
    return probs


def digits(n: int, d: int = 512) -> tuple[np.ndarray, np.ndarray]:
    """float32 features [n, d] and residuals [n, 10] of a small network trained on scikit-learn's handwritten digits.

    The 1797 images are turned, moved, scaled and made noisy, differently each time, so that n of them differ.
    """
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    pixels, labels = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    classes = torch.tensor(labels)
    body = nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(1024, d), nn.ReLU()),
    )
    head = nn.Linear(d, CLASSES)
    optimiser = torch.optim.Adam([*body.parameters(), *head.parameters()], 1e-3)
    for _ in range(15 * len(images) // 128):
        chosen = torch.randint(0, len(images), (128,), generator=generator)
        loss = functional.cross_entropy(head(body(_varied(images[chosen], generator))), classes[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    body.eval()
    features, left = np.empty((n, d), np.float32), np.empty((n, CLASSES), np.float32)
    with torch.no_grad():
        for low in range(0, n, 1000):
            chosen = torch.randint(0, len(images), (min(1000, n - low),), generator=generator)
            rows = body(_varied(images[chosen], generator))
            features[low : low + 1000] = rows.numpy()
            left[low : low + 1000] = minus_predicted(head(rows).softmax(dim=1).numpy())
    return features, left


def _varied(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    n = len(images)
    angle, scale, shift = (width * (torch.rand(n, 2, generator=generator) - 0.5) for width in (0.6, 0.3, 0.4))
    turned = torch.zeros(n, 2, 3)
    turned[:, 0, 0] = turned[:, 1, 1] = (1 + scale[:, 0]) * angle[:, 0].cos()
    turned[:, 1, 0] = (1 + scale[:, 0]) * angle[:, 0].sin()
    turned[:, 0, 1] = -turned[:, 1, 0]
    turned[:, :, 2] = shift
    grid = functional.affine_grid(turned, list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, align_corners=False)
    return moved + 0.08 * torch.randn(moved.shape, generator=generator)
