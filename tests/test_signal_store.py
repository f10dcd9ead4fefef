"""Readings: joined in order, in memory or on disk, and really gone when dropped."""

from pathlib import Path

import numpy as np
import pytest

from openal_ray.signal_store import Reading, SignalStore, disk_array

STORES = pytest.mark.parametrize("allocate", [np.empty, disk_array], ids=["memory", "disk"])


def part(first: int, rows: int) -> Reading:
    indices = np.arange(first, first + rows)
    return Reading(
        indices, {"features": np.repeat(indices[:, None].astype(np.float32), 3, axis=1), "probs": indices / 7}
    )


@STORES
def test_blocks_are_joined_by_number_whatever_their_order(allocate) -> None:
    store = SignalStore(allocate)
    for block, first, rows in [(2, 20, 5), (0, 0, 3), (1, 10, 0)]:
        store.add("pool", block, part(first, rows))
    found = store.get("pool")
    np.testing.assert_array_equal(found.indices, [0, 1, 2, 20, 21, 22, 23, 24])
    np.testing.assert_array_equal(found.signals["features"][:, 1], found.indices)
    np.testing.assert_array_equal(found.signals["probs"], found.indices / 7)
    assert found.signals["features"].dtype == np.float32
    assert store.get("pool") is found  # joined once


@STORES
def test_what_is_kept_is_a_copy(allocate) -> None:
    store, given = SignalStore(allocate), part(0, 4)
    store.add("pool", 0, given)
    given.signals["probs"][:] = -1
    np.testing.assert_array_equal(store.get("pool").signals["probs"], np.arange(4) / 7)


@STORES
def test_dropped_and_cleared_readings_are_gone(allocate) -> None:
    store = SignalStore(allocate)
    for name in ("a", "b", "c"):
        store.add(name, 0, part(0, 2))
    assert store.get("a") is not None
    store.drop("a")
    assert store.get("a") is None and store.get("b") is not None
    store.clear()
    assert store.get("b") is None and store.get("c") is None


def test_on_disk_means_in_a_file_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    array = disk_array((1000, 8), np.dtype(np.float32))
    array[:] = 3
    assert isinstance(array, np.memmap) and not list(tmp_path.iterdir())
    maps = Path("/proc/self/maps").read_text()
    assert str(tmp_path) in maps  # the pages belong to that file system
    del array
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()


def test_only_the_rows_of_some_members() -> None:
    whole = part(10, 5)
    some = whole.only(np.array([3, 11, 14, 99]))
    assert some.indices.tolist() == [11, 14] and some.signals["features"][:, 0].tolist() == [11, 14]
    assert whole.only(np.arange(10, 15)) is whole
