"""Pictures decoded before a shard sees them: the batches, signals and gaps that it would have made itself."""

import numpy as np
import pytest

from openal_ray import config
from openal_ray.data.decoded import decode_all
from openal_ray.errors import BadImages
from openal_ray.pool import Listed
from openal_ray.shard import ReadOrder, Settings, Shard
from openal_ray.testing.pools import LEARNER, digits
from tests.test_experiment import Holes

SETTINGS = Settings(config.Read(batch_size=100), (0.5,), (0.5,), skip_bad_images=True)
CASE = digits()
IMAGES = Holes(CASE.images.load(np.arange(1797)), {3, 250, 251, 1100})
ORDER = ReadOrder("all", "train", Listed(np.arange(0, 1797, 2)), ("probs",))


@pytest.mark.parametrize("block", [0, 1])
def test_a_shard_reads_the_same_from_what_was_decoded_before(block: int) -> None:
    own, given = (Shard({"train": IMAGES}, SETTINGS) for _ in range(2))
    for shard in (own, given):
        shard.load(LEARNER, CASE.weights())
    decoded = decode_all(IMAGES, ORDER.block(block), 100, skip=True)
    for _, pixels in decoded.batches:
        pixels.setflags(write=False)  # as they come from the object store
    assert given.read(ORDER, block, decoded) == own.read(ORDER, block)
    expected, found = own.gather("all"), given.gather("all")
    assert expected is not None and found is not None
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.signals["probs"], expected.signals["probs"])


def test_batches_are_cut_before_bad_pictures_leave_them() -> None:
    decoded = decode_all(IMAGES, np.arange(240, 460), 100, skip=True)
    assert [len(indices) for indices, _ in decoded.batches] == [98, 100, 20]
    assert set(decoded.bad) == {250, 251}
    np.testing.assert_array_equal(decoded.batches[1][1], CASE.images.load(np.arange(340, 440)))


def test_bad_pictures_are_refused_unless_they_may_be_skipped() -> None:
    assert decode_all(IMAGES, np.arange(100, 150), 100, skip=False).bad == {}
    with pytest.raises(BadImages, match="250"):
        decode_all(IMAGES, np.arange(240, 460), 100, skip=False)
