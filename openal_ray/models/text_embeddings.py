"""Embeddings of classes from sentences on them, by a text tower of open_clip; kept on disk, since they never change."""

import hashlib
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from openal_ray.errors import ConfigError

log = logging.getLogger(__name__)
BATCH = 256  # sentences a pass


def class_embeddings(tower: Any, sentences: Sequence[str], n_classes: int, cache: Path) -> torch.Tensor:
    """Unit embeddings [n_classes, D] float32 on the CPU: of each sentence a unit one, and of each class their sum.

    tower      an open_clip TextTransformer in eval mode; its mask is cut to the longest sentence
    sentences  as many for each class, those of the first class first
    cache      a folder
    raises     ConfigError  for a sentence that is longer than the tower's context
    """
    tokens = _tokens(sentences, tower.context_length)
    file = cache / f"{_digest(tower, tokens, n_classes)}.npy"
    found = _load(file, (n_classes, tower.output_dim))
    if found is None:
        log.info("embedding %d sentences on %d classes; kept in %s", len(sentences), n_classes, cache)
        found = _embed(tower, tokens, n_classes)
        _save(file, found)
    return torch.from_numpy(found)


def _tokens(sentences: Sequence[str], context: int) -> torch.Tensor:
    """[n, context] int64, 0 after the end."""
    import open_clip

    tokens: torch.Tensor = open_clip.tokenize(list(sentences), context_length=context + 1)
    too_long = tokens[:, context].nonzero()
    if len(too_long):
        raise ConfigError(
            f"clip.templates, clip.class_names: the model takes {context} tokens, and this sentence has more: "
            f"{sentences[int(too_long[0])]!r}"
        )
    return tokens[:, :context]


def _embed(tower: Any, tokens: torch.Tensor, n_classes: int) -> np.ndarray:
    if tower.pool_type == "argmax" and tower.attn_mask is not None:
        # Nothing behind the end token is looked at, so the padding that all sentences have may go.
        tokens = tokens[:, : int((tokens != 0).sum(dim=1).max())]
        tower.attn_mask = tower.attn_mask[: tokens.shape[1], : tokens.shape[1]]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tower.to(device)
    with torch.inference_mode():
        rows = [functional.normalize(tower(part.to(device)).float(), dim=1) for part in tokens.split(BATCH)]
    sums = torch.cat(rows).reshape(n_classes, -1, rows[0].shape[1]).sum(dim=1)
    return functional.normalize(sums, dim=1).cpu().numpy()


def _digest(tower: nn.Module, tokens: torch.Tensor, n_classes: int) -> str:
    """Tells the weights and the sentences from any others."""
    digest = hashlib.blake2b(f"{type(tower).__name__} {tower} {n_classes}".encode(), digest_size=16)
    for tensor in (*tower.state_dict().values(), tokens):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _load(file: Path, shape: tuple[int, int]) -> np.ndarray | None:
    try:
        found: np.ndarray = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None  # not there, or cut short: it is made anew
    return found if found.shape == shape and found.dtype == np.float32 else None


def _save(file: Path, embeddings: np.ndarray) -> None:
    """Whole or not at all; a folder that cannot be written to costs time, not the run."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".part", delete=False) as part:
            np.save(part, embeddings)
        Path(part.name).replace(file)
    except OSError as error:
        log.warning("clip.cache: embedded texts cannot be kept: %s", error)
