"""The price of a run: every number worked out by hand, and the counts against real runs."""

import pytest

from openal_ray.price import Rates, Read, Round, Shape, Training, largest_part, price


def test_steps_and_images_of_a_training_over_whole_passes() -> None:
    # 130 labels in batches of 64: 3 batches a pass; 2 epochs; pairs of batches make a step, the third stands alone.
    training = Training(images=130, epochs=2, batch_size=64, accumulate=2, validation=7)
    assert (training.steps, training.seen, training.checked) == (2 * 2, 2 * 130, 14)


def test_steps_and_images_of_a_training_with_steps_per_epoch() -> None:
    # 20 labels are one batch a pass: 10 epochs of 10 batches of 20 images.
    training = Training(images=20, epochs=10, batch_size=64, steps_per_epoch=10)
    assert (training.steps, training.seen) == (100, 2000)


def test_a_search_is_so_many_trainings_of_which_some_run_side_by_side() -> None:
    # 5 trials of 3 epochs of 2 batches of 10 images in all; 7 validation images each epoch.
    search = Training(images=10, epochs=3, batch_size=5, validation=7, weights=1000, trials=5, at_once=2)
    assert (search.steps, search.seen, search.checked) == (5 * 3 * 2, 5 * 30, 5 * 3 * 7)
    rows, _ = price(SHAPE, [Round(0, 10, 0, (), (search,))], Rates(query=1, evaluate=2, train={"": 3}))
    assert rows[0].train_minutes == pytest.approx((150 / 3 + 105 / 2) / 60)
    assert rows[0].wall_minutes == pytest.approx((150 / 3 + 105 / 2) / 60 / 2)
    assert rows[0].moved_bytes == 5 * 1000


def test_nothing_labelled_is_nothing_trained() -> None:
    training = Training(images=0, epochs=10, batch_size=64, steps_per_epoch=10, validation=5)
    assert (training.steps, training.seen, training.checked) == (0, 0, 0)


@pytest.mark.parametrize("shards", [1, 2, 3, 5])
@pytest.mark.parametrize("images", [0, 1, 9, 10, 11, 20, 21, 25, 99])
def test_the_fullest_part_is_the_largest_of_all_parts(images: int, shards: int) -> None:
    parts = [sum((i // 10) % shards == shard for i in range(images)) for shard in range(shards)]
    assert largest_part(images, shards, block=10) == max(parts)


SHAPE = Shape(shards=2, trainers=1, pool=100, test=20, picture=3, block=10, cache=0, batch=500, networks=1000)
ROUNDS = [
    Round(0, 10, 0, (Read(20, 1, 40, 20, "evaluate"),), (Training(10, 3, 5, weights=1000),), gathered=800, loaded=1000),
    Round(
        1, 16, 6, (Read(90, 4, 8, 90), Read(20, 1, 40, 20, "evaluate")), (Training(16, 3, 5, weights=1000),),
        gathered=800, loaded=1000,
    ),
]  # fmt: skip


def test_a_run_of_two_rounds_by_hand() -> None:
    rows, total = price(SHAPE, ROUNDS, Rates(query=1.5, evaluate=10, train={"": 0.5}))
    first, second = rows
    assert (first.images_read, first.forward_passes, first.training_steps, first.training_images) == (20, 20, 6, 30)
    assert (second.images_read, second.forward_passes) == (110, 90 * 4 + 20)
    assert (second.training_steps, second.training_images) == (3 * 4, 48)
    assert second.read_minutes == pytest.approx((90 / 1.5 + 20 / 10) / 60)
    assert second.train_minutes == pytest.approx(48 / 0.5 / 60)
    assert second.wall_minutes == pytest.approx((62 / 2 + 96) / 60)  # two shards, one trainer
    # weights to the driver, weights to two shards, test signals, and 6 picks there and back on both shards
    assert first.moved_bytes == 1000 + 2 * 1000 + 800
    assert second.moved_bytes == 1000 + 2 * 1000 + 800 + 2 * 2 * 6 * 16
    # Each shard has half the pool and of the test images. Round 0: 10 rows of 40 bytes, twice while joined. Round 1:
    # 45 rows of 8 twice is less. Two copies of the network and the batch come on top.
    assert first.shard_bytes == 2 * 10 * 40 + 2000 + 500
    assert second.shard_bytes == max(2 * 45 * 8, 2 * 10 * 40) + 2000 + 500
    assert (total.labelled, total.queried, total.images_read, total.forward_passes) == (16, 6, 130, 400)
    assert (total.training_steps, total.training_images) == (18, 78)
    assert total.read_minutes == pytest.approx((20 / 10 + 62) / 60)
    assert total.moved_bytes == first.moved_bytes + second.moved_bytes
    assert total.shard_bytes == max(first.shard_bytes, second.shard_bytes)


def test_an_unknown_rate_leaves_the_minutes_unknown_and_nothing_else() -> None:
    rows, total = price(SHAPE, ROUNDS, Rates(query=0, evaluate=10, train={"": 1}))
    assert rows[0].read_minutes == pytest.approx(20 / 10 / 60)  # nothing is queried in round 0
    assert rows[1].read_minutes is None and total.read_minutes is None and total.wall_minutes is None
    assert total.train_minutes == pytest.approx(78 / 60)


def test_signals_on_disk_cost_no_memory_and_pictures_fill_the_cache_half_and_half() -> None:
    shape = Shape(shards=2, trainers=1, pool=100, test=20, picture=3, block=10, cache=200, on_disk=True)
    rows, _ = price(shape, ROUNDS, Rates(1, 1, {"": 1}))
    # 50 pictures of 3 bytes do not fit half the cache; 10 of the test images do.
    assert rows[1].shard_bytes == 100 + 30


def test_a_helper_without_a_rate_of_its_own_has_the_classifiers() -> None:
    rates = Rates(1, 1, {"": 2.0, "detector": 4.0})
    assert [rates.of_training(name) for name in ("", "detector", "vae")] == [2.0, 4.0, 2.0]
