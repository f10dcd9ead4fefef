"""One shard: what it reads, keeps and forgets."""

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from openal_ray.data.images import ArrayImages, FileImages
from openal_ray.errors import BadImages
from openal_ray.models.learners import Classifier
from openal_ray.models.signals import CLASSIFIER
from openal_ray.pool import AllBut, Listed
from openal_ray.shard import Part, ReadOrder, Rows, Shard
from tests.reading import (
    IMAGES,
    LEARNER,
    N_CLASSES,
    PIXELS,
    SIGNALS,
    Counted,
    assert_close,
    network,
    plain_pass,
    settings,
)

ALL = AllBut(len(PIXELS), np.empty(0, np.int64))


def shard(images: object = IMAGES, seed: int = 0, **options: object) -> Shard:
    made = Shard({"train": images}, settings(**options))
    made.load(LEARNER, network(seed).state_dict())
    return made


def read(one: Shard, members: object = ALL, blocks: tuple[int, ...] = (0, 1, 2), needs: tuple = SIGNALS) -> list:
    return [one.read(ReadOrder("pool", "train", members, needs), block) for block in blocks]


@pytest.mark.parametrize("batch_size", [1, 7, 100, 1024, 5000])
def test_a_block_is_a_plain_pass_whatever_the_batch_size(batch_size: int) -> None:
    one = shard(batch_size=batch_size)
    members = Listed(np.arange(1000, 1050))
    assert [report.count for report in read(one, members, (0, 1))] == [24, 26]
    assert_close(one.gather("pool"), np.arange(1000, 1050))


@pytest.mark.parametrize("fold", [True, False])
def test_folding_batchnorm_changes_no_signal(fold: bool) -> None:
    one = shard(fold_batchnorm=fold)
    read(one)
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in one.networks[CLASSIFIER].modules()) is not fold
    assert_close(one.gather("pool"), np.arange(2600))


def test_members_are_read_in_ascending_order_whatever_the_order_of_blocks() -> None:
    one, taken = shard(), np.array([0, 5, 1030, 2599])
    reports = read(one, AllBut(2600, taken), (2, 0, 1))
    assert [report.count for report in reports] == [551, 1022, 1023]
    assert_close(one.gather("pool"), np.setdiff1d(np.arange(2600), taken))
    assert one.gather("pool") is one.gather("pool")  # joined once


def test_a_block_without_members_is_nothing() -> None:
    one = shard()
    assert one.read(ReadOrder("pool", "train", Listed([3]), SIGNALS), 1).count == 0
    assert one.gather("pool") is None and one.gather("other") is None


def test_mixed_precision_is_close_but_not_equal() -> None:
    one, exact = shard(precision="bfloat16"), shard()
    for each in (one, exact):
        read(each, blocks=(2,))
    assert_close(one.gather("pool"), np.arange(2048, 2600), rtol=0.05, atol=0.05)
    assert not np.array_equal(one.gather("pool").signals["logits"], exact.gather("pool").signals["logits"])
    assert one.gather("pool").signals["logits"].dtype == np.float32


def test_a_compiled_read_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced as for the real compiler, but run by PyTorch itself, which needs no C++ compiler."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    one = shard(compile=True)
    read(one, blocks=(2,))
    assert_close(one.gather("pool"), np.arange(2048, 2600))


def test_reading_changes_neither_network_nor_weights_nor_pictures_nor_the_global_generator() -> None:
    weights = network().state_dict()
    given, pixels, generator = {k: v.clone() for k, v in weights.items()}, PIXELS.copy(), torch.get_rng_state()
    one = Shard({"train": IMAGES}, settings(fold_batchnorm=False))
    one.load(Classifier(N_CLASSES, params={"drop_rate": 0.9}), weights)
    read(one)
    for state in (weights, one.networks[CLASSIFIER].state_dict()):
        assert all(torch.equal(state[name], tensor) for name, tensor in given.items())
    assert not one.networks[CLASSIFIER].training
    assert np.array_equal(PIXELS, pixels) and torch.equal(torch.get_rng_state(), generator)
    assert_close(one.gather("pool"), np.arange(2600))  # no dropout either


def test_a_new_network_drops_what_the_last_one_read() -> None:
    one = shard()
    read(one, blocks=(0,))
    assert one.open("pool/1", Rows("pool"), Half, (1,))
    one.load(LEARNER, network(seed=5).state_dict())
    assert one.gather("pool") is None
    with pytest.raises(KeyError):
        one.ask("pool/1", "total", (0,))
    read(one, blocks=(0,))
    expected = plain_pass(np.arange(1024), seed=5)["probs"]
    np.testing.assert_allclose(one.gather("pool").signals["probs"], expected, rtol=1e-3)
    assert np.abs(expected - plain_pass(np.arange(1024))["probs"]).max() > 0.01


class Half:
    """A shard half that knows its rows."""

    def __init__(self, reading: Part, factor: int) -> None:
        self.reading, self.factor = reading, factor

    def total(self, more: int) -> int:
        return int(self.reading.indices.sum()) * self.factor + more


def test_halves_are_opened_on_a_reading_asked_and_forgotten() -> None:
    one = shard()
    one.read(ReadOrder("a", "train", Listed([1, 2, 4]), ("probs",)), 0)
    one.read(ReadOrder("b", "train", Listed([10]), ("probs",)), 0)
    assert (
        one.open("a/1", Rows("a"), Half, (10,))
        and one.open("a/2", Rows("a"), Half, (1,))
        and one.open("b/3", Rows("b"), Half, (1,))
    )
    assert not one.open("c/4", Rows("c"), Half, (1,))
    assert one.ask("a/1", "total", (3,)) == 73 and one.ask("a/2", "total", (0,)) == 7
    one.forget("a")
    assert one.gather("a") is None
    with pytest.raises(KeyError):
        one.ask("a/1", "total", (3,))
    assert one.ask("b/3", "total", (0,)) == 10 and len(one.gather("b").indices) == 1


@pytest.fixture
def some_damaged(tmp_path: Path) -> FileImages:
    """Twelve PNG files, of which 0, 5 and 6 are damaged."""
    for number in range(12):
        Image.fromarray(PIXELS[number, :, :, 0]).save(tmp_path / f"{number}.png")
    for number in (0, 5, 6):
        (tmp_path / f"{number}.png").write_bytes(b"not a picture")
    names = [f"{number}.png" for number in range(12)]
    return FileImages(names, names, 8, 8, 1, root=str(tmp_path))


@pytest.mark.parametrize("batch_size", [1, 2, 256])
def test_bad_images_are_left_out_with_their_reasons(some_damaged: FileImages, batch_size: int) -> None:
    one = shard(some_damaged, skip_bad_images=True, batch_size=batch_size)
    report = one.read(ReadOrder("pool", "train", Listed(np.arange(1, 12)), SIGNALS), 0)
    assert report.count == 9 and sorted(report.bad) == [5, 6]
    assert "5.png is damaged or not a picture" in report.bad[5]
    assert_close(one.gather("pool"), np.array([1, 2, 3, 4, 7, 8, 9, 10, 11]))


def test_only_bad_images_are_no_reading(some_damaged: FileImages) -> None:
    one = shard(some_damaged, skip_bad_images=True, batch_size=1)
    report = one.read(ReadOrder("pool", "train", Listed([5, 6]), SIGNALS), 0)
    assert (report.count, sorted(report.bad)) == (0, [5, 6]) and one.gather("pool") is None


def test_bad_images_are_refused_unless_they_may_be_skipped(some_damaged: FileImages) -> None:
    with pytest.raises(BadImages, match="2 image.s. cannot be used:\n.*5.png .*\n.*6.png .*\nRepair") as caught:
        shard(some_damaged).read(ReadOrder("pool", "train", Listed(np.arange(1, 12)), SIGNALS), 0)
    assert caught.value.indices == [5, 6]


def test_without_needs_pictures_are_only_tried(some_damaged: FileImages) -> None:
    one = Shard({"train": some_damaged}, settings(skip_bad_images=True))
    report = one.read(ReadOrder("check", "train", Listed(np.arange(12)), ()), 0)
    assert report.count == 9 and sorted(report.bad) == [0, 5, 6]
    assert one.gather("check").signals == {}


def test_signals_need_a_network() -> None:
    with pytest.raises(RuntimeError, match=r"load\(\) the network '' before reading its signals"):
        Shard({"train": IMAGES}, settings()).read(ReadOrder("pool", "train", ALL, ("probs",)), 0)


@pytest.mark.parametrize(("cached", "loads"), [(0, 200), (30, 170), (1000, 100)])
def test_pictures_are_decoded_once_as_far_as_the_cache_reaches(cached: int, loads: int) -> None:
    """The memory is shared out over the two sets of pictures; a picture takes 64 bytes."""
    images = Counted(100)
    one = Shard({"train": images, "test": ArrayImages(PIXELS)}, settings(cache_bytes=2 * 64 * cached))
    one.load(LEARNER, network().state_dict())
    for _ in range(2):
        one.read(ReadOrder("pool", "train", Listed(np.arange(100)), ("probs",)), 0)
    assert images.loads.sum() == loads


def test_networks_of_several_names_are_read_from_one_decoding() -> None:
    images = Counted(100)
    one = Shard({"train": images}, settings())
    for name, seed in ((CLASSIFIER, 0), ("detector", 5)):
        one.load(LEARNER, network(seed).state_dict(), name)
    one.read(ReadOrder("pool", "train", Listed(np.arange(100)), ("probs", "detector.logits", "detector.probs")), 0)
    found = one.gather("pool").signals
    assert list(found) == ["probs", "detector.logits", "detector.probs"] and images.loads.sum() == 100
    for name, seed in (("probs", 0), ("detector.logits", 5), ("detector.probs", 5)):
        expected = plain_pass(np.arange(100), seed)[name.rpartition(".")[2]]
        np.testing.assert_allclose(found[name], expected, rtol=1e-3, atol=1e-4)


def test_only_what_came_from_a_replaced_network_is_dropped() -> None:
    one = shard()
    one.load(LEARNER, network(5).state_dict(), "encoder")
    for reading, need in (("round", "probs"), ("lasting", "encoder.features"), ("both", "encoder.probs")):
        needs = (need, "probs") if reading == "both" else (need,)
        one.read(ReadOrder(reading, "train", Listed([1, 2]), needs), 0)
    one.load(LEARNER, network(1).state_dict())
    assert [one.gather(reading) is None for reading in ("round", "lasting", "both")] == [True, False, True]


class Whole:
    """A shard half that shows what it was made from."""

    def __init__(self, part: Part) -> None:
        self.part = part


def test_a_half_is_made_of_some_rows_with_signals_of_other_readings_beside() -> None:
    one = shard()
    one.read(ReadOrder("all", "train", Listed(np.arange(50)), ("features",)), 0)
    one.read(ReadOrder("some", "train", Listed([3, 7, 40]), ("probs",)), 0)
    assert one.open("h/1", Rows("some", among=Listed([7, 40, 49]), beside=("all",)), Whole, ())
    part = one.halves["h/1"].part
    assert part.indices.tolist() == [7, 40] and set(part.signals) == {"probs", "features"}
    for name in part.signals:
        np.testing.assert_allclose(part.signals[name], plain_pass(part.indices)[name], rtol=1e-3, atol=1e-4)
    assert part.networks is one.networks
    assert not one.open("h/2", Rows("some", among=Listed([8])), Whole, ())
