"""Signals of frozen networks on disk: never read twice, never the wrong ones."""

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from openal_ray.data.images import ArrayImages
from openal_ray.models.contrastive import Contrastive
from openal_ray.models.encoders import Encoder, SavedEncoder
from openal_ray.models.learners import Classifier
from openal_ray.pool import AllBut, Listed
from openal_ray.shard import ReadOrder, Shard
from openal_ray.signal_cache import SignalCache
from openal_ray.user_code import user_function
from tests.reading import IMAGES, LEARNER, PIXELS, SIGNALS, assert_close, network, settings

BLOCKS = range(3)
OWN = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 4)

    def forward_features(self, images):
        return self.fc(images.flatten(1)) + 1

    def forward_head(self, maps, pre_logits=False):
        return maps

def build(n_classes, shape):
    return Net()
"""
OWN_LEARNER = """
from dataclasses import dataclass
from openal_ray.models.learners import Classifier

@dataclass(frozen=True)
class Own(Classifier):
    pass
"""


class Reader(Shard):
    """A shard that counts the images it puts through a network."""

    seen = 0

    def _compute(self, pixels: np.ndarray, order: ReadOrder) -> dict[str, np.ndarray]:
        self.seen += len(pixels)
        return super()._compute(pixels, order)


def reader(cache: Path | None, seed: int = 0, images: Any = IMAGES, lasting: bool = True, **options: Any) -> Reader:
    """A shard that has read all images."""
    made = Reader({"train": images}, settings(cache=cache, **options))
    made.load(LEARNER, network(seed).state_dict())
    order = ReadOrder("pool", "train", AllBut(len(images), np.empty(0, np.int64)), SIGNALS, lasting=lasting)
    assert sum(made.read(order, block).count for block in BLOCKS) == len(images)
    return made


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A cache that an earlier run has filled."""
    assert reader(tmp_path).seen == len(PIXELS)
    return tmp_path


def test_another_run_reads_nothing_and_has_the_same_signals(kept: Path) -> None:
    again = reader(kept)
    assert again.seen == 0
    assert_close(again.gather("pool"), np.arange(len(PIXELS)))
    plain = reader(None).gather("pool").signals
    assert all(np.array_equal(plain[name], signal) for name, signal in again.gather("pool").signals.items())


def test_a_changed_picture_is_read_again_with_its_block(kept: Path) -> None:
    changed = PIXELS.copy()
    changed[1500, 3, 3] ^= 1
    assert reader(kept, images=ArrayImages(changed)).seen == 1024


@pytest.mark.parametrize(
    "options", [{"seed": 1}, {"precision": "bfloat16"}, {"half": True}, {"batch_size": 100}], ids=str
)
def test_whatever_a_signal_depends_on_makes_another_key(kept: Path, options: dict[str, Any]) -> None:
    assert reader(kept, **options).seen == len(PIXELS)


@pytest.mark.parametrize("what", ["threads", "capability"])
def test_what_computes_makes_another_key(kept: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if what == "threads":
        count = torch.get_num_threads() + 1
        monkeypatch.setattr(torch, "get_num_threads", lambda: count)
    else:
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "another")
    assert reader(kept).seen == len(PIXELS)


def test_the_users_own_code_is_part_of_the_key(tmp_path: Path) -> None:
    """Whose operations have neither weights nor a name that is printed."""
    file, seen = tmp_path / "mine.py", []
    for text in (OWN, OWN, OWN.replace("+ 1", "+ 2")):
        file.write_text(text)
        made = Contrastive(Classifier(2, f"{file}:build"), (0.4,), (0.3,))
        encoder = SavedEncoder(made, (8, 8, 1), (0.4,), (0.3,))
        one = Reader({"train": IMAGES}, settings(cache=tmp_path / "kept"))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            weights = encoder.build((8, 8, 1)).state_dict()
        one.load(encoder, weights, "encoder")
        one.read(ReadOrder("pool", "train", Listed(np.arange(8)), ("encoder.features",), lasting=True), 0)
        seen.append(one.seen)
    assert seen == [8, 0, 8]


def test_signals_of_code_without_a_file_are_not_kept(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(OWN_LEARNER)
    learner = user_function(f"{file}:Own", "strategy.name")(4)  # its module can be found nowhere
    one = Reader({"train": IMAGES}, settings(cache=tmp_path / "kept"))
    one.load(learner, network().state_dict())
    one.read(ReadOrder("pool", "train", Listed(np.arange(8)), ("features",), lasting=True), 0)
    assert one.seen == 8 and not (tmp_path / "kept").exists()


def test_other_users_may_read_what_the_umask_lets_them(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        SignalCache(tmp_path).put("key", {"features": np.ones(2)})
    finally:
        os.umask(before)
    (file,) = tmp_path.iterdir()
    assert (file.name, file.stat().st_mode & 0o777) == ("key.npz", 0o644)


def test_a_network_that_is_replaced_is_another(kept: Path) -> None:
    one = reader(kept)
    one.load(LEARNER, network(1).state_dict())
    order = ReadOrder("pool", "train", AllBut(len(PIXELS), np.empty(0, np.int64)), SIGNALS, lasting=True)
    one.read(order, 0)
    assert one.seen == 1024


def test_encoders_of_equal_weights_that_see_pictures_otherwise_differ(tmp_path: Path) -> None:
    seen = []
    for size in (32, 32, 64):
        one = Reader({"train": IMAGES}, settings(cache=tmp_path))
        encoder = Encoder("tf_efficientnet_lite0", "packaged", (0.4,), (0.3,), size)
        one.load(encoder, encoder.build((8, 8, 1)).state_dict(), "encoder")
        one.read(ReadOrder("pool", "train", Listed(np.arange(8)), ("encoder.features",), lasting=True), 0)
        seen.append(one.seen)
    assert seen == [8, 0, 8]


def test_what_is_not_lasting_is_not_kept(tmp_path: Path) -> None:
    reader(tmp_path, lasting=False)
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_counts_as_absent_and_is_written_anew(kept: Path) -> None:
    files = sorted(kept.iterdir())
    assert len(files) == 3
    files[0].write_bytes(files[0].read_bytes()[:100])
    assert 0 < reader(kept).seen <= 1024
    assert reader(kept).seen == 0


def test_a_folder_that_cannot_be_written_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("no folder")
    with caplog.at_level(logging.WARNING):
        assert reader(tmp_path / "file").seen == len(PIXELS)
    assert [record.message.partition(":")[0] for record in caplog.records] == ["read.cache"]
