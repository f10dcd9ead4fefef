"""A tiny CLIP of open_clip's classes, and checkpoints of it under exactly the keys that CLIPN publishes."""

import json
from pathlib import Path
from typing import Any

import open_clip
import torch

NAME = "tiny-clip"
ARCHITECTURE = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 2},
}
BLOCK = [
    f"{part}.{kind}" for part in ("ln_1", "ln_2", "attn.out_proj", "mlp.c_fc", "mlp.c_proj")
    for kind in ("weight", "bias")
] + ["attn.in_proj_weight", "attn.in_proj_bias"]  # fmt: skip
TEXT = ["token_embedding.weight", "positional_embedding", "ln_final.weight", "ln_final.bias", "text_projection"]
TEXT += [f"transformer.resblocks.{number}.{name}" for number in range(2) for name in BLOCK]
VISUAL = [f"visual.{name}" for name in ("class_embedding", "positional_embedding", "proj", "conv1.weight")]
VISUAL += [f"visual.{name}.{kind}" for name in ("ln_pre", "ln_post") for kind in ("weight", "bias")]
VISUAL += [f"visual.transformer.resblocks.{number}.{name}" for number in range(2) for name in BLOCK]


def clip(seed: int) -> Any:
    """A CLIP with random weights, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = open_clip.CLIP(**ARCHITECTURE)
        for parameter in model.parameters():  # so that no tensor is 0 or 1, and none goes unnoticed
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    model.logit_scale.data.fill_(1.5)
    return model.eval().requires_grad_(False)


def register(folder: Path) -> None:
    """Makes the tiny model known to open_clip as `NAME`."""
    file = folder / f"{NAME}.json"
    file.write_text(json.dumps(ARCHITECTURE))
    open_clip.add_model_config(file)


def prompts(seed: int = 7) -> torch.Tensor:
    """[16, 77, width]"""
    return 0.5 * torch.randn(16, 77, 16, generator=torch.Generator().manual_seed(seed))


def no_state(no: Any, prompt: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """The second text tower under CLIPN's keys: _no behind the first part of each."""
    state = no.state_dict()
    found = {}
    for key in TEXT:
        first, dot, rest = key.partition(".")
        found[f"{first}_no{dot}{rest}"] = state[key]
    return found if prompt is None else found | {"prompt_no": prompt}


def clipn_state(yes: Any, no: Any, prompt: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """All that CLIPN publishes."""
    state = yes.state_dict()
    assert set(VISUAL + TEXT + ["logit_scale"]) == set(state)  # open_clip's keys are those of the specification
    return {key: state[key] for key in VISUAL + TEXT} | no_state(no, prompt) | {"logit_scale": state["logit_scale"]}


def save(file: Path, state: dict[str, torch.Tensor], prefix: str = "module.") -> Path:
    """As CLIPN's training saves it."""
    weights = {f"{prefix}{key}": tensor for key, tensor in state.items()}
    optimizer = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.98)}]}
    torch.save(
        {"epoch": 10, "name": "clipn", "state_dict": weights, "optimizer": optimizer, "scaler": {"scale": 65536.0}},
        file,
    )
    return file


def said_no(no: Any, prompt: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """The published formula, step by step: the mean of the prompts is added at every position."""
    x = no.token_embedding(tokens) + no.positional_embedding + prompt.mean(0)
    x = no.ln_final(no.transformer(x, attn_mask=no.attn_mask))
    return x[torch.arange(len(tokens)), tokens.argmax(dim=1)] @ no.text_projection
