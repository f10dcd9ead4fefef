"""ALFA-Mix: ask where a small step towards the features of labelled images changes the prediction."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from openal_ray.errors import ConfigError
from openal_ray.models.signals import CLASSIFIER
from openal_ray.selection.alpha_mix import AlphaMixHalf, class_anchors, pick_alpha_mix
from openal_ray.selection.alpha_scan import LinearHead, Rule, learned, random, scanned_steps, steepest
from openal_ray.selection.alpha_steps import first_steps
from openal_ray.selection.halves import Picks
from openal_ray.shard import Part
from openal_ray.strategies.strategy import Strategy
from openal_ray.strategies.view import View

ALPHAS = ("closed", "random", "learned")
_ROWS = 1024  # features that a head of torch's takes at a time


def alpha_mix(cap: float = 1 / 32, alpha: str = "closed") -> Strategy:
    """ALFA-Mix (Parvaneh et al. 2022, Alg. 1): images that mixing with labelled features confuses, spread out.

    cap    how far one step goes; the candidates are those of as few steps as give B of them
    alpha  closed: the paper's closed form; random: drawn; learned: by gradient steps (§3.3 and its authors' code)
    A linear head has an exact solution of all steps at once; any other head is tried step by step. Differs: see
    `openal_ray.selection.alpha_mix`; features are those before the last layer, as in the authors' code, where OpenAL
    takes the maps before pooling.
    """
    if not 0 < cap <= 1:
        raise ValueError(f"cap must be above 0 and at most 1, got {cap}")
    if alpha not in ALPHAS:
        raise ValueError(f"alpha must be one of {', '.join(ALPHAS)}, got {alpha!r}")

    def pick(view: View, budget: int, rng: np.random.Generator) -> Picks:
        anchors = class_anchors(view.labelled.signals["features"], view.labelled_classes, view.n_classes)
        halves = view.open(_half, anchors, cap, alpha, int(rng.integers(2**63)))
        return pick_alpha_mix(halves, budget, rng)

    return Strategy(needs=("features", "logits"), needs_labelled=("features",), pick=pick)


def _half(part: Part, anchors: np.ndarray, cap: float, alpha: str, seed: int) -> AlphaMixHalf:
    features, logits = part.signals["features"], part.signals["logits"]
    head = _head(part)
    if alpha == "closed" and isinstance(head, LinearHead):
        steps = first_steps(features, logits, head.weights, anchors, cap)
    else:
        steps = scanned_steps(features, part.indices, head, anchors, _rule(alpha, head, features, seed), cap)
    return AlphaMixHalf(features, steps, part.indices, part.device)


def _rule(alpha: str, head: Any, features: np.ndarray, seed: int) -> Rule:
    if alpha == "closed":
        return steepest(head.gradient(features, head(features).argmax(axis=1)))
    return random(seed) if alpha == "random" else learned(seed, head.gradient)


def _head(part: Part) -> Any:
    """What turns the part's features into its logits, with gradients; raises ConfigError if the network hides it."""
    network = part.networks[CLASSIFIER]
    module = network.get_classifier() if hasattr(network, "get_classifier") else None  # type: ignore[operator]
    if not isinstance(module, nn.Module):
        raise ConfigError(
            f"alpha_mix mixes features before the last layer, and {type(network).__name__} does not say which that is: "
            "write get_classifier(), as timm's models do"
        )
    head: Any = _TorchHead(module, part.device)
    if isinstance(module, nn.Linear):
        weights, bias = (None if each is None else each.detach().cpu().numpy() for each in (module.weight, module.bias))
        head = LinearHead(weights, np.zeros(len(weights)) if bias is None else bias)
    expected, found = part.signals["logits"][:64], head(part.signals["features"][:64])
    if np.abs(found - expected).max() > 1e-2 * (1 + np.abs(expected).max()):
        raise ConfigError(
            f"alpha_mix: the last layer that {type(network).__name__}.get_classifier() gives does not make its logits "
            "from its features (forward_head with pre_logits=True)"
        )
    return head


@dataclass(frozen=True)
class _TorchHead:
    """Any head on the shard's device; numbers come and go as float64."""

    module: nn.Module
    device: str

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Logits [m, C]."""
        return self._in_pieces(self.module, features)

    def gradient(self, features: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Of each row's cross-entropy at its class [m, D]."""
        targets = iter(np.array_split(classes, range(_ROWS, len(classes), _ROWS)))
        return self._in_pieces(lambda rows: self._slope(rows, next(targets)), features)

    def _slope(self, rows: torch.Tensor, classes: np.ndarray) -> torch.Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            rows = rows.clone().requires_grad_()
            targets = torch.from_numpy(classes).to(self.device)
            loss = functional.cross_entropy(self.module(rows), targets, reduction="sum")
            (slope,) = torch.autograd.grad(loss, rows)
        return slope

    def _in_pieces(self, apply: Callable[[torch.Tensor], torch.Tensor], features: np.ndarray) -> np.ndarray:
        pieces = np.array_split(np.asarray(features, dtype=np.float32), range(_ROWS, len(features), _ROWS))
        with torch.no_grad():
            made = [apply(torch.from_numpy(piece).to(self.device)).cpu().numpy() for piece in pieces]
        return np.concatenate(made).astype(np.float64)
