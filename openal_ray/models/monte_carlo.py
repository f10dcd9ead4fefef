"""Monte Carlo dropout: several forward passes through thinned networks that are the same for every image.

Dropout is switched on alone, and the network stays in eval mode: BatchNorm and stochastic depth keep still. Pass t
draws one mask for each dropout call, for all images, whatever the batch, the shard or the machine. That is what BALD
means by a sample of the weights (Gal & Ghahramani 2016, §3). Dropout inside fused attention stays off.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from openal_ray import seeds
from openal_ray.errors import ConfigError

SIGNALS = {
    "mc_probs": "[n, T, C] probabilities of every pass; T times the memory of the others",
    "mc_mean": "[n, C] mean probabilities over the passes",
    "mc_std": "[n, C] their standard deviation over the passes (population)",
    "mc_votes": "[n, C] share of the passes that predict the class",
    "mc_entropy": "[n] mean over the passes of the entropy of one pass, in nats",
}

_CHANNELS = (functional.dropout1d, functional.dropout2d, functional.dropout3d)  # a whole map is dropped at once


@dataclass(frozen=True)
class Sampling:
    """How many passes, and the seed of their masks: the same seed gives the same thinned networks."""

    passes: int = 0
    seed: int = 0


NO_PASSES = Sampling()


def read(network: nn.Module, images: torch.Tensor, names: Sequence[str], sampling: Sampling) -> dict[str, torch.Tensor]:
    """The signals `names` of this module for `images` [n, channels, H, W], normalised: float32.

    raises  ConfigError  for a network without dropout
    """
    totals = _Totals(names)
    for probs in _passes(network, images, sampling):
        totals.add(probs)
    return totals.signals(sampling.passes)


def _passes(network: Any, images: torch.Tensor, sampling: Sampling) -> Iterator[torch.Tensor]:
    """Probabilities [n, C] of each pass; feature maps that no dropout touches are computed once."""
    features, head = (lambda given: given), network
    if hasattr(network, "forward_features") and hasattr(network, "forward_head"):
        features, head = network.forward_features, network.forward_head
    with _FixedDropout(sampling.seed, 0) as dropout:
        maps = features(images)
    before_head = dropout.calls
    for number in range(sampling.passes):
        with _FixedDropout(sampling.seed, number) as dropout:
            if before_head and number:
                maps = features(images)
            dropout.calls = before_head
            logits = head(maps)
        if not dropout.calls:
            raise ConfigError(
                f"Monte Carlo dropout needs a network with dropout, and {type(network).__name__} has none: "
                "set model.params.drop_rate, for example to 0.5, or choose a strategy without passes"
            )
        yield logits.float().softmax(1)


class _FixedDropout(TorchFunctionMode):
    """While active, dropout applies the masks of pass `number`, whether or not its module is in training mode.

    calls  dropout calls of positive rate so far; the place in this order names the mask
    """

    def __init__(self, seed: int, number: int) -> None:
        super().__init__()
        self.seed, self.number, self.calls = seed, number, 0

    def __torch_function__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), keywords: Mapping[str, Any] | None = None
    ) -> Any:
        if function is functional.dropout or function in _CHANNELS:
            given = dict(zip(("input", "p"), arguments, strict=False)) | dict(keywords or {})
            return self._dropped(given["input"], float(given.get("p", 0.5)), function in _CHANNELS)
        return function(*arguments, **(keywords or {}))

    def _dropped(self, values: torch.Tensor, rate: float, channels: bool) -> torch.Tensor:
        if not 0 < rate < 1:
            return values
        shape = (1, values.shape[1], *[1] * (values.ndim - 2)) if channels else (1, *values.shape[1:])
        generator = torch.Generator().manual_seed(seeds.derive(self.seed, self.number, f"dropout {self.calls}"))
        mask = torch.rand(shape, generator=generator) >= rate  # drawn on the CPU: the same on every device
        self.calls += 1
        return values * (mask / (1 - rate)).to(values.device, values.dtype)


class _Totals:
    """Sums over the passes, so that no array grows with T unless mc_probs is asked for."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self.sums: dict[str, torch.Tensor] = {}
        self.every: list[torch.Tensor] = []

    def add(self, probs: torch.Tensor) -> None:
        if "mc_probs" in self.names:
            self.every.append(probs)
        # float64: the difference of two sums below must not drown in their rounding
        exact = probs.double()
        self._add("mean", exact)
        self._add("squares", exact.square())
        self._add("votes", functional.one_hot(probs.argmax(1), probs.shape[1]).double())
        self._add("entropy", torch.special.entr(exact).sum(1))

    def signals(self, passes: int) -> dict[str, torch.Tensor]:
        mean = {name: total / passes for name, total in self.sums.items()}
        variance = (mean["squares"] - mean["mean"].square()).clamp(min=0)
        found = {
            "mc_mean": mean["mean"], "mc_std": variance.sqrt(), "mc_votes": mean["votes"], "mc_entropy": mean["entropy"]
        }  # fmt: skip
        if self.every:
            found["mc_probs"] = torch.stack(self.every, dim=1)
        return {name: found[name].float() for name in self.names}

    def _add(self, name: str, value: torch.Tensor) -> None:
        self.sums[name] = self.sums[name] + value if name in self.sums else value
