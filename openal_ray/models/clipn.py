"""CLIPN's published checkpoints: CLIP, and a second text tower that has learnt to say no (Wang et al. 2023, ICCV).

Under the keys of open_clip with `_no` in them stands the second tower, beside it `prompt_no` [P, context, width]: at
evaluation the mean of the P prompts is added to the tokens at every position, just as the positional embedding is. Both
are plain sums before the transformer, so their sum as positional embedding makes it an ordinary tower of open_clip.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from openal_ray.errors import ConfigError
from openal_ray.models import checkpoints

KEY = "clip.checkpoint"
HEAD_WIDTH = 64  # of every attention head in CLIP
State = Mapping[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """One file, in open_clip's names.

    no    the text tower that says no, prompts folded in
    clip  image tower, text tower and scale; empty in a file of the no tower alone
    """

    file: Path
    no: State
    clip: State

    @property
    def no_sizes(self) -> dict[str, int | float]:
        """Of the no tower, as open_clip's TextTransformer calls them, but for output_dim."""
        return _text_sizes(self.no, self.file)

    @property
    def width(self) -> int:
        """Numbers an embedding."""
        return int(_tensor(self.no, "text_projection", self.file).shape[1])

    @property
    def architecture(self) -> dict[str, Any]:
        """Of image and text tower, as open_clip's model configurations say it; the activation is the plain GELU."""
        kernel = _tensor(self.clip, "visual.conv1.weight", self.file)
        patches = len(_tensor(self.clip, "visual.positional_embedding", self.file)) - 1
        return {
            "embed_dim": int(_tensor(self.clip, "text_projection", self.file).shape[1]),
            "vision_cfg": {
                "image_size": round(patches**0.5) * kernel.shape[-1], "patch_size": kernel.shape[-1],
                "width": len(kernel), "head_width": min(HEAD_WIDTH, len(kernel)),
                **_block_sizes(self.clip, "visual.transformer", self.file),
            },
            "text_cfg": _text_sizes(self.clip, self.file),
        }  # fmt: skip


def read(file: Path, hand_crafted: bool = False) -> Checkpoint:
    """A checkpoint as CLIPN's training writes it, a bare state dict of it, or one of the no tower alone.

    hand_crafted  of the kind without prompts, whose second tower is given sentences that say no
    raises        ConfigError  if it is no such file
    """
    state = checkpoints.read_file(file, KEY)
    no = {plain: tensor for key, tensor in state.items() if (plain := _without_no(key)) != key}
    prompts = no.pop("prompt", None)
    if "positional_embedding" not in no:
        raise ConfigError(
            f"{KEY}: {file} is no checkpoint of CLIPN: it has no positional_embedding_no, and so no text tower that "
            "says no. Weights of CLIP itself go to clip.pretrained."
        )
    if (prompts is None) != hand_crafted:
        kind = "has learnt prompts (prompt_no)" if hand_crafted else "has no prompt_no, so it is the hand-crafted kind"
        raise ConfigError(f"{KEY}: {file} {kind}: set clip.negated={str(not hand_crafted).lower()}")
    if prompts is not None:
        no["positional_embedding"] = _folded(no["positional_embedding"], prompts, file)
    clip = {key: tensor for key, tensor in state.items() if _without_no(key) == key}
    return Checkpoint(file, no, clip if any(key.startswith("visual.") for key in clip) else {})


def _without_no(key: str) -> str:
    """transformer.resblocks.0.… of transformer_no.resblocks.0.…"""
    first, dot, rest = key.partition(".")
    return first.removesuffix("_no") + dot + rest


def _folded(positions: torch.Tensor, prompts: torch.Tensor, file: Path) -> torch.Tensor:
    if prompts.shape[1:] != positions.shape:
        raise ConfigError(
            f"{KEY}: {file}: prompt_no must be [prompts, {', '.join(map(str, positions.shape))}] as "
            f"positional_embedding_no is, got {list(prompts.shape)}"
        )
    return positions.float() + prompts.float().mean(dim=0)


def _text_sizes(state: State, file: Path) -> dict[str, int | float]:
    vocabulary, width = _tensor(state, "token_embedding.weight", file).shape
    return {
        "context_length": len(_tensor(state, "positional_embedding", file)), "vocab_size": vocabulary, "width": width,
        "heads": max(1, width // HEAD_WIDTH), **_block_sizes(state, "transformer", file),
    }  # fmt: skip


def _block_sizes(state: State, transformer: str, file: Path) -> dict[str, int | float]:
    hidden, width = _tensor(state, f"{transformer}.resblocks.0.mlp.c_fc.weight", file).shape
    prefix = f"{transformer}.resblocks."
    numbers = {key.removeprefix(prefix).partition(".")[0] for key in state if key.startswith(prefix)}
    return {"layers": len(numbers), "mlp_ratio": hidden / width}


def _tensor(state: State, key: str, file: Path) -> torch.Tensor:
    if key not in state:
        raise ConfigError(
            f"{KEY}: {file} is incomplete: it has no {key} (or, of the tower that says no, {key} with _no)"
        )
    return state[key]
