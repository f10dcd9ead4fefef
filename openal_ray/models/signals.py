"""The named per-image arrays that can be read from a classifier, all from one forward pass."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from openal_ray.errors import ConfigError, unknown_name
from openal_ray.models import monte_carlo
from openal_ray.models.monte_carlo import NO_PASSES, Cut, Made, Sampling

SIGNALS = {
    "logits": "[n, C] the network's outputs",
    "probs": "[n, C] softmax of the logits",
    "features": "[n, D] penultimate activations, what the last linear layer sees",
    "maps": "[n, …] the last feature maps (or tokens), before pooling",
    "stages": "[n, ΣC_i] the spatial mean of every stage's map, one after the other",
}
OWN = {
    "predicted_loss": "[n] the loss that a network of learning_loss expects of itself",
    "projection": "[n, D] of norm 1: what an encoder of SimCLR or CSI compares images by",
    "view_projections": "[n, D] their mean over random views of the image, each before it is scaled to norm 1",
    "shift_projections": "[n, S, D] the same of the image in each shift: turned, or its halves swapped",
    "yes": "[n, C] cosines of CLIP's image with the texts that name each class",
    "no": "[n, C] cosines of CLIP's image with the texts that deny each class",
    "binary_logits": "[n, 2, C] no and yes of a binary classifier for each class, of a detector of eoal",
}
NAMES = SIGNALS | OWN | monte_carlo.SIGNALS
CLASSIFIER = ""  # the network whose signals have no prefix; those of a helper are called helper.signal
VIEWS = ("view_projections", "shift_projections")  # which look at the images in their own ways
WIDE = ("features", "maps", "stages", "projection", *VIEWS)  # what read.half stores in float16


def split(need: str) -> tuple[str, str]:
    """The network and the signal of a need: ("detector", "logits") of detector.logits, ("", "probs") of probs."""
    network, _, signal = need.rpartition(".")
    return network, signal


def check_names(needs: Iterable[str]) -> None:
    """Raises ConfigError for a need whose signal does not exist."""
    for need in needs:
        if split(need)[1] not in NAMES:
            raise ConfigError(unknown_name("signal", need, NAMES))


def read(
    network: nn.Module, images: torch.Tensor, names: Iterable[str], sampling: Sampling = NO_PASSES
) -> dict[str, torch.Tensor]:
    """The signals `names` of `images` [n, channels, H, W] (normalised), float32, from one pass.

    network   in eval mode; for logits and probs it need only be callable, for the others it follows timm's contract
    sampling  the passes of the Monte Carlo signals among them
    raises    ConfigError  if the network cannot give a signal
    """
    names = tuple(names)
    sampled = [name for name in names if name in monte_carlo.SIGNALS]
    plain = [name for name in names if name not in (*sampled, *VIEWS)]
    cut = _cut(network, plain, bool(sampled))
    found, made = monte_carlo.read(cut, images, sampled, sampling) if sampled else ({}, None)
    if plain:
        found |= _read_plain(network, cut, made or cut.body(images), plain)
    for name in set(names) & set(VIEWS):
        found[name] = _contrastive(network).forward_views(images, shifts=name == "shift_projections")
    return {name: found[name] for name in names}


def _cut(network: nn.Module, plain: Sequence[str], sampled: bool) -> Cut:
    """The network cut before its head, or not at all where only its outputs are wanted."""
    name = type(network).__name__
    methods = hasattr(network, "forward_features") and hasattr(network, "forward_head")
    if set(plain) <= {"logits", "probs"} and not (sampled and methods):
        return Cut(lambda images: Made(images), network, name)
    staged = bool({"stages", "predicted_loss"} & set(plain))
    backbone = _backbone(network, staged)
    if staged:
        return Cut(
            lambda images: Made(*backbone.forward_intermediates(images, norm=False)), backbone.forward_head, name
        )
    return Cut(lambda images: Made(backbone.forward_features(images)), backbone.forward_head, name)


def _read_plain(network: nn.Module, cut: Cut, made: Made, names: Sequence[str]) -> dict[str, torch.Tensor]:
    signals: dict[str, torch.Tensor] = {"maps": made.maps}
    if "predicted_loss" in names:
        signals["predicted_loss"] = _loss_head(network)(made.stages)
    if "stages" in names:
        signals["stages"] = torch.cat([stage.float().mean(dim=(2, 3)) for stage in made.stages], dim=1)
    if {"features", "projection"} & set(names):
        signals["features"] = cut.head(made.maps, pre_logits=True)
    if "projection" in names:
        signals["projection"] = _contrastive(network).forward_projection(signals["features"])
    if "binary_logits" in names:
        signals["binary_logits"] = network.forward_binary(made.maps)  # type: ignore[operator]
    if {"logits", "probs"} & set(names):
        signals["logits"] = cut.head(made.maps)
    for answer in sorted({"yes", "no"} & set(names)):
        signals[answer] = _texts(network)(made.maps, answer)
    signals = {name: signal.float() for name, signal in signals.items()}
    if "probs" in names:
        signals["probs"] = signals["logits"].softmax(1)
    return signals


def _loss_head(network: Any) -> Any:
    if not hasattr(network, "forward_loss"):
        raise ConfigError(
            f"{type(network).__name__} predicts no loss of its own: train the network that learning_loss makes"
        )
    return network.forward_loss


def _contrastive(network: Any) -> Any:
    if not hasattr(network, "forward_projection"):
        raise ConfigError(
            f"{type(network).__name__} has no projection: take an encoder that `openal-ray pretrain` has trained"
        )
    return network


def _texts(network: Any) -> Any:
    if not hasattr(network, "forward_cosines"):
        raise ConfigError(f"{type(network).__name__} knows no texts: yes and no are signals of clip, as in clip.yes")
    return network.forward_cosines


def _backbone(network: nn.Module, stages: bool) -> Any:
    """The network, once it is known to follow timm's contract."""
    methods = ("forward_features", "forward_head") + (("forward_intermediates",) if stages else ())
    missing = [method for method in methods if not hasattr(network, method)]
    if missing:
        raise ConfigError(
            f"the strategy needs signals that {type(network).__name__} cannot give: "
            f"it has no {' and no '.join(missing)}. "
            "Write forward_features(images) and forward_head(maps, pre_logits=False), as timm's models do, "
            "or choose a strategy that needs probs alone."
        )
    return network
