"""Monte Carlo dropout: several forward passes through thinned networks that are the same for every image.

Dropout is switched on alone, and the network stays in eval mode: BatchNorm and stochastic depth keep still. Pass t
draws one mask for each dropout call, for all images, whatever the batch, the shard or the machine. That is what BALD
means by a sample of the weights (Gal & Ghahramani 2016, §3). Dropout inside fused attention stays off.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
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

_NUMBERS = 2**17  # logits of several passes made by one product of matrices: half a MB
_TINY = torch.finfo(torch.float32).tiny
_CHANNELS = (functional.dropout1d, functional.dropout2d, functional.dropout3d)  # a whole map is dropped at once


@dataclass(frozen=True)
class Sampling:
    """How many passes, and the seed of their masks: the same seed gives the same thinned networks."""

    passes: int = 0
    seed: int = 0


NO_PASSES = Sampling()


@dataclass(frozen=True)
class Made:
    """What the part of a network before its head made of n images.

    maps    [n, …] the head's input
    stages  [n, C_i, H_i, W_i] the map of each stage, where these were asked for
    """

    maps: torch.Tensor
    stages: Sequence[torch.Tensor] = ()


@dataclass(frozen=True)
class Cut:
    """A network in two parts, so that what comes before its head can be computed once.

    name  of its kind, for people
    """

    body: Callable[[torch.Tensor], Made]
    head: Callable[..., torch.Tensor]
    name: str


def read(
    cut: Cut, images: torch.Tensor, names: Sequence[str], sampling: Sampling
) -> tuple[dict[str, torch.Tensor], Made | None]:
    """The signals `names` of this module for `images` [n, channels, H, W], normalised: float32.

    returns  also what the body made, unless dropout has touched it
    raises   ConfigError  for a network without dropout
    """
    with _FixedDropout(sampling.seed, 0) as dropout:
        made = cut.body(images)
    totals = _Totals(names)
    for probs in _passes(cut, images, made, dropout.calls, sampling):
        totals.add(probs)
    return totals.signals(sampling.passes), None if dropout.calls else made


def _passes(cut: Cut, images: torch.Tensor, made: Made, before_head: int, sampling: Sampling) -> Iterator[torch.Tensor]:
    """Probabilities [t, C, n] of some passes at a time; what no dropout touches is computed once.

    made         by the body in pass 0
    before_head  dropout calls in it
    """
    for number in range(sampling.passes):
        with _FixedDropout(sampling.seed, number) as dropout:
            if before_head and number:
                made = cut.body(images)
            dropout.calls = before_head
            logits = cut.head(made.maps)
        if not dropout.calls:
            raise ConfigError(
                f"Monte Carlo dropout needs a network with dropout, and {cut.name} has none: "
                "set model.params.drop_rate, for example to 0.5, or choose a strategy without passes"
            )
        last = dropout.last
        if not before_head and dropout.calls == 1 and last is not None and last.logits is logits:
            yield from last.passes(sampling)
            return
        yield logits.float().softmax(1).T[None]


@lru_cache(maxsize=8)
def _masks(sampling: Sampling, rate: float, width: int) -> torch.Tensor:
    """The masks [T, width] of a first dropout call on features, for all passes; the same for every batch."""
    with torch.inference_mode(False):  # they outlive the reading that first asks for them
        return torch.cat([_mask(sampling.seed, number, 0, rate, (1, width)) for number in range(sampling.passes)])


def _mask(seed: int, number: int, call: int, rate: float, shape: tuple[int, ...]) -> torch.Tensor:
    """0 where dropped, else 1 / (1 - rate), for one dropout call of one pass."""
    generator = torch.Generator().manual_seed(seeds.derive(seed, number, f"dropout {call}"))
    kept = torch.rand(shape, generator=generator) >= rate  # drawn on the CPU: the same on every device
    return kept / (1 - rate)


@dataclass(frozen=True)
class _LastLayer:
    """A linear layer of a head whose input is the output of its only dropout: the thinned networks differ in it alone.

    features  [n, D] before the dropout, of this rate
    logits    what the layer gave
    """

    features: torch.Tensor
    rate: float
    weight: torch.Tensor
    bias: torch.Tensor | None
    logits: torch.Tensor

    def passes(self, sampling: Sampling) -> Iterator[torch.Tensor]:
        """Probabilities [t, C, n]: masks on the weights, so that one product serves many passes."""
        n_classes, width = self.weight.shape
        masks = _masks(sampling, self.rate, width).to(self.weight.device, self.weight.dtype)
        for some in masks.split(max(1, _NUMBERS // max(1, n_classes * len(self.features)))):
            weight = (some[:, None] * self.weight).flatten(0, 1)
            logits = (weight @ self.features.T).unflatten(0, (len(some), n_classes)).float()
            if self.bias is not None:
                logits += self.bias.float()[:, None]
            yield logits.softmax(1)


class _FixedDropout(TorchFunctionMode):
    """While active, dropout applies the masks of pass `number`, whether or not its module is in training mode.

    calls  dropout calls of positive rate so far; the place in this order names the mask
    last   the linear layer right after the latest dropout, if there is one
    """

    def __init__(self, seed: int, number: int) -> None:
        super().__init__()
        self.seed, self.number, self.calls = seed, number, 0
        self.last: _LastLayer | None = None
        self._latest: tuple[torch.Tensor, torch.Tensor, float] | None = None

    def __torch_function__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), keywords: Mapping[str, Any] | None = None
    ) -> Any:
        if function is functional.dropout or function in _CHANNELS:
            given = dict(zip(("input", "p"), arguments, strict=False)) | dict(keywords or {})
            return self._dropped(given["input"], float(given.get("p", 0.5)), function in _CHANNELS)
        found = function(*arguments, **(keywords or {}))
        if function is functional.linear:
            given = dict(zip(("input", "weight", "bias"), arguments, strict=False)) | dict(keywords or {})
            self._follow(given["input"], given["weight"], given.get("bias"), found)
        return found

    def _dropped(self, values: torch.Tensor, rate: float, channels: bool) -> torch.Tensor:
        if not 0 < rate < 1:
            return values
        shape = (1, values.shape[1], *[1] * (values.ndim - 2)) if channels else (1, *values.shape[1:])
        mask = _mask(self.seed, self.number, self.calls, rate, shape)
        self.calls += 1
        dropped = values * mask.to(values.device, values.dtype)
        self._latest = (values, dropped, rate)
        return dropped

    def _follow(
        self, given: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, found: torch.Tensor
    ) -> None:
        if self._latest is not None and self._latest[1] is given and given.ndim == 2:
            self.last = _LastLayer(self._latest[0], self._latest[2], weight, bias, found)


class _Totals:
    """Sums over the passes, so that no array grows with T unless mc_probs is asked for."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = set(names)
        self.sums: dict[str, torch.Tensor] = {}
        self.every: list[torch.Tensor] = []
        self.first: torch.Tensor | None = None

    def add(self, probs: torch.Tensor) -> None:
        """Of some passes [t, C, n]: images last, where the processor adds many at a time."""
        if "mc_probs" in self.names:
            self.every.append(probs)
        if "mc_mean" in self.names:
            self._add("mean", probs.sum(0, dtype=torch.float64))
        if "mc_std" in self.names:
            self.first = probs[0] if self.first is None else self.first
            deviations = probs - self.first  # of the size of what is sought, or the difference of two sums below drowns
            self._add("shift", deviations.sum(0, dtype=torch.float64))
            self._add("squares", deviations.square_().sum(0, dtype=torch.float64))
        if "mc_votes" in self.names:
            classes = torch.arange(probs.shape[1], device=probs.device)[:, None]
            modal = probs.max(1, keepdim=True).indices  # the first of equals; argmax says the same, five times slower
            self._add("votes", (modal == classes).sum(0, dtype=torch.int32))
        if "mc_entropy" in self.names:
            terms = probs.clamp_min(_TINY).log_().mul_(probs)  # torch's entr takes six times as long
            self._add("entropy", -terms.sum((0, 1), dtype=torch.float64))

    def signals(self, passes: int) -> dict[str, torch.Tensor]:
        found = {f"mc_{name}": total / passes for name, total in self.sums.items()}
        if "mc_squares" in found:
            found["mc_std"] = (found["mc_squares"] - found["mc_shift"].square()).clamp(min=0).sqrt()
        if self.every:
            found["mc_probs"] = torch.cat(self.every).permute(2, 0, 1)
        by_image = {name: value.T if value.ndim == 2 else value for name, value in found.items()}
        return {name: value.float().contiguous() for name, value in by_image.items() if name in self.names}

    def _add(self, name: str, value: torch.Tensor) -> None:
        self.sums[name] = self.sums[name] + value if name in self.sums else value
