"""CLIP's towers from where their weights are: open_clip's published ones, a file of them, or a checkpoint of CLIPN."""

import difflib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from openal_ray.errors import ConfigError, unknown_name
from openal_ray.models import checkpoints, clipn

log = logging.getLogger(__name__)
Architecture = Mapping[str, Any]
"""A model as open_clip's configurations describe it: embed_dim, vision_cfg, text_cfg and more."""

NO_TEXTS = "nothing says no: set clip.checkpoint=FILE (CLIPN), or clip.negated=true (experimental)"


@dataclass(frozen=True, eq=False)
class Towers:
    """Modules of open_clip in eval mode: `image` pictures to [n, D], `yes` and `no` tokens to [n, D].

    no     None if nothing says no
    scale  what cosines are multiplied by for logits
    """

    image: nn.Module
    yes: nn.Module
    no: nn.Module | None
    scale: float


@dataclass(frozen=True)
class Source:
    """Where weights come from; the fields are the configuration's keys under clip."""

    model: str
    pretrained: str
    checkpoint: Path | None = None
    negated: bool = False

    @property
    def says_no(self) -> bool:
        return self.checkpoint is not None or self.negated

    @property
    def described(self) -> str:
        """In one line, for people."""
        own = f"{self.model}, {self.pretrained}"
        return f"{self.checkpoint} beside {own}" if self.checkpoint and not self._whole else str(self.checkpoint or own)

    @property
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and std per channel that the image tower expects, of pixels in 0 … 1."""
        import open_clip

        published = {} if self._whole else open_clip.get_pretrained_cfg(self.model, self.pretrained)
        mean, std = published.get("mean", open_clip.OPENAI_DATASET_MEAN), published.get("std")
        return tuple(mean), tuple(std or open_clip.OPENAI_DATASET_STD)

    def architecture(self) -> Architecture:
        """Of image and yes tower. Builds and fetches nothing, and refuses all that can be known by then.

        raises  ConfigError
        """
        found = self._clipn()
        if found and found.clip:
            return found.architecture
        described = _described(self.model)
        tag = _tag(self.model, self.pretrained)
        if tag:
            described["quick_gelu"] = described.get("quick_gelu", False) or tag.get("quick_gelu", False)
        elif not Path(self.pretrained).is_file():
            raise ConfigError(f"clip.pretrained: {unknown_name('tag', self.pretrained, ['FILE', *_tags(self.model)])}")
        if found and found.width != described["embed_dim"]:
            raise ConfigError(
                f"{clipn.KEY}: {found.file} holds the no tower alone, with embeddings of {found.width} numbers, but "
                f"clip.model={self.model} has {described['embed_dim']}: choose the model that it was trained beside"
            )
        return described

    def towers(self) -> Towers:
        """The towers with their weights.

        raises  ConfigError  if they cannot be had, or do not fit
        """
        import open_clip

        found, architecture = self._clipn(), self.architecture()
        clip = open_clip.CustomTextCLIP(**architecture)
        if found and found.clip:
            _load(clip, _beside_text(found.clip), f"{clipn.KEY}: {found.file}")
        elif _tag(self.model, self.pretrained):
            _fetch(clip, self.model, self.pretrained)
        else:
            state = checkpoints.read_file(Path(self.pretrained), "clip.pretrained")
            _load(clip, _beside_text(state), f"clip.pretrained: {self.pretrained}")
        clip = clip.eval().requires_grad_(False)
        return Towers(clip.visual, clip.text, self._no_tower(found, clip.text), float(clip.logit_scale.exp()))

    @property
    def _whole(self) -> bool:
        found = self._clipn()
        return bool(found and found.clip)

    def _clipn(self) -> clipn.Checkpoint | None:
        return clipn.read(self.checkpoint, hand_crafted=self.negated) if self.checkpoint else None

    def _no_tower(self, found: clipn.Checkpoint | None, yes: nn.Module) -> nn.Module | None:
        from open_clip.transformer import TextTransformer

        if found:
            tower = TextTransformer(**found.no_sizes, output_dim=found.width)
            _load(tower, found.no, f"{clipn.KEY}: {found.file}, the tower that says no")
            no: nn.Module = tower.eval().requires_grad_(False)
            return no
        if self.negated:
            log.warning(
                "clip.negated=true without clip.checkpoint is experimental: CLIP was never taught what no means, "
                "and its negated sentences are a weak stand-in for CLIPN"
            )
            return yes
        return None


def image_tower(architecture: Architecture) -> nn.Module:
    """An image tower without weights, for those that are on their way."""
    import open_clip

    tower: nn.Module = open_clip.CustomTextCLIP(**architecture).visual
    return tower


def _described(model: str) -> dict[str, Any]:
    """open_clip's configuration of a model; raises ConfigError for one that is not there, or has other texts."""
    import open_clip

    found: dict[str, Any] | None = open_clip.get_model_config(model) if ":" not in model else None
    if found is None:
        near = difflib.get_close_matches(model, open_clip.list_models(), n=5, cutoff=0.4)
        raise ConfigError(f"clip.model: {unknown_name('model', model, near or ['ViT-B-16', 'ViT-B-32'])}")
    text = found["text_cfg"]
    if "hf_model_name" in text or "hf_tokenizer_name" in text or "multimodal_cfg" in found:
        raise ConfigError(
            f"clip.model: {model} does not read texts with CLIP's own tokenizer; choose one that does, such as ViT-B-16"
        )
    found.pop("custom_text", None)
    return found


def _tags(model: str) -> list[str]:
    from open_clip import list_pretrained_tags_by_model

    return list(list_pretrained_tags_by_model(model))


def _tag(model: str, pretrained: str) -> dict[str, Any]:
    import open_clip

    return dict(open_clip.get_pretrained_cfg(model, pretrained) or {})


def _fetch(clip: nn.Module, model: str, tag: str) -> None:
    import open_clip

    try:
        file = open_clip.download_pretrained(_tag(model, tag))
    except Exception as error:  # every way to fetch a file fails in its own
        raise ConfigError(
            f"clip.pretrained: the weights {tag} of {model} cannot be had: {error} "
            "Without a connection, give them as a file: clip.pretrained=FILE"
        ) from error
    open_clip.load_checkpoint(clip, file)


def _beside_text(state: clipn.State) -> dict[str, torch.Tensor]:
    """CLIP's state with the text tower's tensors under `text.`, where CustomTextCLIP has them."""
    from open_clip.model import convert_to_custom_text_state_dict

    return dict(convert_to_custom_text_state_dict(dict(state)))


def _load(module: nn.Module, state: clipn.State, source: str) -> None:
    """All tensors of a module and no others; raises ConfigError that begins with `source`."""
    own = module.state_dict()
    wrong = {
        "missing": sorted(own.keys() - state.keys()),
        "not of it": sorted(state.keys() - own.keys()),
        "of another shape": [key for key in own if key in state and own[key].shape != state[key].shape],
    }
    problems = [f"{len(keys)} {what}, first {keys[0]}" for what, keys in wrong.items() if keys]
    if problems:
        hint = f" A checkpoint of CLIPN goes to {clipn.KEY}." if any("_no" in key for key in wrong["not of it"]) else ""
        raise ConfigError(f"{source}: of the {len(own)} tensors needed: {'; '.join(problems)}.{hint}")
    module.load_state_dict(dict(state))
