"""Signals of frozen networks on disk: never read twice, never the wrong ones."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openal_ray.data.images import ArrayImages
from openal_ray.models.encoders import Encoder
from openal_ray.pool import AllBut, Listed
from openal_ray.shard import ReadOrder, Shard
from tests.reading import IMAGES, LEARNER, PIXELS, SIGNALS, assert_close, network, settings

BLOCKS = range(3)


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
