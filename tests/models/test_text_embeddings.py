"""Embeddings of classes: the published mean over sentences, exact also where padding is cut, and kept on disk."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch

from openal_ray.errors import ConfigError
from openal_ray.models.text_embeddings import class_embeddings
from tests.models import clips

SENTENCES = ["a cat.", "a photo of a small cat.", "a dog.", "a photo of a rather large dog."]


def tower(seed: int = 1) -> Any:
    model = open_clip.CustomTextCLIP(**clips.ARCHITECTURE)
    model.load_state_dict(open_clip.model.convert_to_custom_text_state_dict(clips.clip(seed).state_dict()))
    return model.text.eval().requires_grad_(False)


def expected(seed: int = 1) -> np.ndarray:
    """In float64, one sentence at a time with all its padding."""
    rows = [clips.clip(seed).encode_text(open_clip.tokenize([text]))[0].double().numpy() for text in SENTENCES]
    rows = [row / np.linalg.norm(row) for row in rows]
    sums = np.stack([rows[0] + rows[1], rows[2] + rows[3]])
    return sums / np.linalg.norm(sums, axis=1, keepdims=True)


def test_a_class_is_the_unit_sum_of_its_unit_sentences(tmp_path: Path) -> None:
    found = class_embeddings(tower(), SENTENCES, 2, tmp_path)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, expected(), atol=1e-6)


def test_they_are_computed_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="openal_ray"):
        first = class_embeddings(tower(), SENTENCES, 2, tmp_path)
        again = class_embeddings(tower(), SENTENCES, 2, tmp_path)
    assert torch.equal(first, again) and caplog.text.count("embedding 4 sentences") == 1
    assert [file.suffix for file in tmp_path.iterdir()] == [".npy"]


def test_other_weights_sentences_or_classes_are_not_taken_for_the_same(tmp_path: Path) -> None:
    class_embeddings(tower(), SENTENCES, 2, tmp_path)
    np.testing.assert_allclose(class_embeddings(tower(2), SENTENCES, 2, tmp_path), expected(2), atol=1e-6)
    class_embeddings(tower(), [*SENTENCES[:3], "a hound."], 2, tmp_path)
    assert class_embeddings(tower(), SENTENCES, 4, tmp_path).shape == (4, 24)
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"junk"])
def test_a_damaged_file_is_made_anew(damage: bytes, tmp_path: Path) -> None:
    class_embeddings(tower(), SENTENCES, 2, tmp_path)
    file = next(tmp_path.iterdir())
    file.write_bytes(damage)
    np.testing.assert_allclose(class_embeddings(tower(), SENTENCES, 2, tmp_path), expected(), atol=1e-6)
    assert np.load(file).shape == (2, 24)


def test_a_folder_that_cannot_be_written_costs_no_result(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    found = class_embeddings(tower(), SENTENCES, 2, tmp_path / "file")
    np.testing.assert_allclose(found, expected(), atol=1e-6)
    assert "clip.cache: embedded texts cannot be kept" in caplog.text


def test_a_sentence_longer_than_the_context_is_refused_not_cut(tmp_path: Path) -> None:
    fits = " ".join(["cat"] * 75)
    class_embeddings(tower(), [fits], 1, tmp_path)
    with pytest.raises(ConfigError, match="the model takes 77 tokens, and this sentence has more: 'cat cat"):
        class_embeddings(tower(), ["a cat", f"{fits} cat"], 2, tmp_path)
