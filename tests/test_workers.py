"""Local shards and workers: the same signals for any number of shards, and one training."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from openal_ray import config
from openal_ray.data.images import ArrayImages
from openal_ray.pool import AllBut, Listed
from openal_ray.selection.halves import BLOCK
from openal_ray.shard import BlockRead, Part, ReadOrder, Rows
from openal_ray.signal_store import Reading
from openal_ray.training.job import Job
from openal_ray.training.loop import NoKeeper, train
from openal_ray.training.team import Team
from openal_ray.workers import LocalShards, LocalWorkers, ReadReport, join_readings
from tests.reading import IMAGES, LEARNER, N_CLASSES, PIXELS, SIGNALS, Counted, assert_close, network, settings

TAKEN = np.array([0, 5, 1030, 2599])
MEMBERS = AllBut(2600, TAKEN)


def shards(count: int, **options: object) -> LocalShards:
    made = LocalShards({"train": IMAGES, "test": ArrayImages(PIXELS[:10])}, settings(**options), count)
    made.load(LEARNER, network().state_dict())
    return made


def gathered(count: int, **options: object) -> Reading:
    made = shards(count, **options)
    made.read(ReadOrder("pool", "train", MEMBERS, SIGNALS))
    return made.gather("pool")


@pytest.mark.parametrize("batch_size", [100, 256])
def test_any_number_of_shards_reads_the_same_bits(batch_size: int) -> None:
    alone = gathered(1, batch_size=batch_size)
    assert_close(alone, np.setdiff1d(np.arange(2600), TAKEN))
    for count in (2, 3, 5):  # five shards for three blocks: two have nothing
        other = gathered(count, batch_size=batch_size)
        assert np.array_equal(other.indices, alone.indices)
        for name in SIGNALS:
            assert np.array_equal(other.signals[name], alone.signals[name])


def test_every_block_is_told_of_and_counted() -> None:
    told: list[int] = []
    report = shards(2).read(ReadOrder("pool", "train", MEMBERS, ("probs",)), told.append)
    assert told == [1022, 1023, 551] and report.count == 2596 and report.bad == {}


def test_readings_of_different_images_lie_side_by_side_until_forgotten() -> None:
    made = shards(2)
    made.read(ReadOrder("pool", "train", Listed([2000, 3, 7]), ("probs",)))
    made.read(ReadOrder("test", "test", AllBut(10, np.empty(0, np.int64)), ("features",)))
    assert_close(made.gather("pool"), np.array([3, 7, 2000]), ("probs",))
    assert_close(made.gather("test"), np.arange(10), ("features",))
    made.forget("test")
    assert len(made.gather("test").indices) == 0 and len(made.gather("pool").indices) == 3


def test_blocks_of_a_part_lie_on_one_shard_and_all_readings_of_them_too() -> None:
    made = shards(3)
    parts = ReadOrder("pool", "train", MEMBERS, ("probs",), parts=2)
    made.read(parts)
    assert [len(half) for half in made.open(Rows("pool"), Blocks).ask("blocks")] == [2, 1]  # 0 and 2, and 1
    with pytest.raises(ValueError, match="more signals lie in 0 parts, and those of pool, .* in 2: forget"):
        made.read(ReadOrder("more", "train", MEMBERS, ("probs",)))
    made.read(ReadOrder("check", "train", MEMBERS))  # nothing is kept of it that could lie beside
    made.read(replace(parts, parts=0))
    assert len(made.open(Rows("pool"), Blocks).ask("blocks")) == 3


class Blocks:
    """A shard half that tells of which blocks it has rows."""

    def __init__(self, reading: Part) -> None:
        self.indices = reading.indices

    def blocks(self) -> np.ndarray:
        return np.unique(self.indices // BLOCK)


def test_a_second_read_of_a_name_replaces_the_first() -> None:
    made = shards(2)
    made.read(ReadOrder("pool", "train", MEMBERS, ("probs",)))
    made.read(ReadOrder("pool", "train", Listed([1100]), ("logits",)))
    assert_close(made.gather("pool"), np.array([1100]), ("logits",))


def test_halves_are_opened_where_there_are_rows() -> None:
    made = shards(5)
    made.read(ReadOrder("pool", "train", MEMBERS, ("probs",)))
    halves = made.open(Rows("pool"), Count, 3)
    assert halves.ask("scaled", 2) == [(3, 2, 1022), (3, 2, 1023), (3, 2, 551)]


class Count:
    """A shard half that answers with its arguments and its number of rows."""

    def __init__(self, reading: Part, given: int) -> None:
        self.given, self.rows = given, len(reading.indices)

    def scaled(self, asked: int) -> tuple[int, int, int]:
        return self.given, asked, self.rows


def test_reports_add_up() -> None:
    report = ReadReport()
    report.add(BlockRead(5, {1: "a"}))
    report.add(BlockRead(2, {9: "b"}))
    assert report == ReadReport(7, {1: "a", 9: "b"})


def test_joined_readings_ascend_with_their_rows() -> None:
    parts = [
        Reading(np.array([4, 9]), {"x": np.array([[4.0], [9.0]])}),
        None,
        Reading(np.array([1, 6]), {"x": np.array([[1.0], [6.0]])}),
    ]
    joined = join_readings(parts)
    assert joined.indices.tolist() == [1, 4, 6, 9] and joined.signals["x"].tolist() == [[1.0], [4.0], [6.0], [9.0]]
    nothing = join_readings([None, None])
    assert len(nothing.indices) == 0 and nothing.indices.dtype == np.int64 and nothing.signals == {}


def job(count: int) -> Job:
    indices = np.arange(count)
    return Job("round 0", LEARNER, indices, indices % N_CLASSES, config.Train(epochs=2), (0.4,), (0.3,), 1, 2)


def test_fit_is_one_training_and_its_weights_can_be_read_with() -> None:
    workers = LocalWorkers({"train": IMAGES, "test": IMAGES}, settings(), shards=2)
    told: list[tuple[str, int]] = []
    trained = workers.fit({"a": job(20)}, lambda name, epoch: told.append((name, epoch.epoch)))["a"]
    expected = train(job(20), IMAGES, Team(), NoKeeper()).weights
    assert told == [("a", 0), ("a", 1)] and all(torch.equal(trained.weights[name], expected[name]) for name in expected)
    workers.shards.load(LEARNER, trained.weights)
    assert (
        workers.shards.count == 2 and workers.shards.read(ReadOrder("pool", "train", MEMBERS, ("probs",))).count == 2596
    )
    workers.close()
    workers.close()


def test_a_picture_is_decoded_once_for_training_and_for_all_shards() -> None:
    images = Counted(1500)
    chosen = replace(settings(), cache_bytes=2 * 1500 * 64)
    workers = LocalWorkers({"train": images, "test": ArrayImages(PIXELS)}, chosen, shards=2)
    workers.shards.load(LEARNER, network().state_dict())
    for _ in range(2):
        workers.fit({"": job(1500)})
        workers.shards.read(ReadOrder("pool", "train", Listed(np.arange(1500)), ("probs",)))
    assert images.loads.tolist() == [1] * 1500
    for shard in workers.shards.shards:
        assert shard.images["train"] is workers.images["train"]  # one memory for all


def test_what_is_there_already_is_not_read_again() -> None:
    images, told = Counted(1500), []
    made = LocalShards({"train": images}, settings(), 2)
    made.load(LEARNER, network().state_dict())
    made.load(LEARNER, network(1).state_dict(), "encoder")
    lasting = ReadOrder("pool", "train", AllBut(1500, np.array([3])), ("encoder.features",))
    first = made.read(lasting)
    made.load(LEARNER, network(2).state_dict())  # a new round's classifier
    again = made.read(ReadOrder("pool", "train", AllBut(1500, np.array([3])), ("encoder.features",)), told.append)
    assert again == first and told == [1499] and images.loads.sum() == 1499
    made.read(replace(lasting, members=Listed([5])))
    assert made.gather("pool").indices.tolist() == [5]
    made.load(LEARNER, network(3).state_dict(), "encoder")
    made.read(replace(lasting, members=Listed([5])))
    assert images.loads[5] == 3
