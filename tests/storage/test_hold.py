"""One driver a folder: the living are left alone, the dead are not waited for, and who was taken over stops."""

import json
import time
from pathlib import Path

import pytest

from openal_ray.errors import RunError
from openal_ray.storage import hold
from openal_ray.storage.url import Url
from tests.storage.conftest import Faulty

pytestmark = pytest.mark.usefixtures("brisk")


def lease(store: Url, owner: str = "other", age: float = 0.0) -> Url:
    """The lease that a driver left that was killed so many seconds ago."""
    file = store / ".lock"
    file.write_bytes(json.dumps({"owner": owner, "host": "head", "pid": 7, "time": time.time() - age}).encode())
    return file


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dead are watched for a moment."""
    monkeypatch.setattr(hold, "WATCH_SECONDS", 0.3)


def test_a_folder_is_held_until_it_is_released(store: Url) -> None:
    file = store / ".lock"
    assert not hold.held(file)
    first = hold.hold(file)
    assert hold.held(file)
    with pytest.raises(hold.Busy, match=r"\(process \d+ on .+\)"):
        hold.hold(file)
    first.check()
    first.release()
    first.release()
    assert not file.exists() and not hold.held(file)
    hold.hold(file).release()


@pytest.mark.usefixtures("hurried")
def test_a_dead_drivers_lease_is_taken_once_it_was_watched(store: Url) -> None:
    file = lease(store)
    begin = time.monotonic()
    taken = hold.hold(file)
    assert time.monotonic() - begin >= 0.3
    taken.check()
    taken.release()


def test_one_that_is_silent_for_long_is_not_watched(store: Url, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold, "WATCH_SECONDS", 1000.0)
    hold.hold(lease(store, age=601)).release()


@pytest.mark.usefixtures("hurried")
def test_one_from_the_future_is_watched_like_any_other(store: Url) -> None:
    hold.hold(lease(store, age=-3600)).release()


@pytest.mark.parametrize("content", [b"", b"half of", b"[1]"])
def test_a_damaged_lease_is_none(content: bytes, store: Url) -> None:
    (store / ".lock").write_bytes(content)
    hold.hold(store / ".lock").release()


def test_who_was_taken_over_stops_and_leaves_the_lease_to_the_other(store: Url) -> None:
    mine = hold.hold(store / ".lock")
    file = lease(store)
    with pytest.raises(RunError) as caught:
        mine.check()
    assert str(caught.value) == (
        "s3://store: another openal-ray process (process 7 on head) has taken this folder over, since this one was "
        "silent for too long. This one stops and has written nothing; the other goes on."
    )
    time.sleep(0.2)  # its thread must not take it back
    mine.release()
    assert json.loads(file.read_bytes())["owner"] == "other"


def test_a_lease_that_somebody_removed_was_taken_by_nobody(store: Url, monkeypatch: pytest.MonkeyPatch) -> None:
    file = store / ".lock"
    mine = hold.hold(file)
    file.unlink()
    end = time.monotonic() + 20
    while not file.exists() and time.monotonic() < end:
        time.sleep(0.02)
    owner = json.loads(file.read_bytes())["owner"]  # the thread has written it anew
    monkeypatch.setattr(hold, "RENEW_SECONDS", 1000.0)
    time.sleep(0.2)
    file.unlink()
    mine.check()
    assert json.loads(file.read_bytes())["owner"] == owner
    mine.release()
    assert not file.exists()


def test_whatever_renewing_meets_the_next_time_goes_on(store: Url, monkeypatch: pytest.MonkeyPatch) -> None:
    renew, called = hold.Lease._renew, []

    def absent(self: hold.Lease) -> None:
        called.append(None)
        if len(called) == 2:
            raise FileNotFoundError("the bucket's folder")
        renew(self)

    monkeypatch.setattr(hold.Lease, "_renew", absent)
    mine = hold.hold(store / ".lock")
    end = time.monotonic() + 20
    while len(called) < 3 and time.monotonic() < end:
        time.sleep(0.02)
    assert len(called) >= 3
    mine.release()


def test_the_lock_of_another_user_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / ".lock").touch()
    assert hold.held(tmp_path / ".lock") is False
    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    assert hold.held(tmp_path / ".lock") is None


def test_of_two_that_start_at_once_one_has_it(store: Url, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Url.write_bytes

    def both(self: Url, content: bytes) -> None:
        write(self, content)
        write(self, content.replace(b'"owner": "', b'"owner": "z'))  # the other's, a moment later

    monkeypatch.setattr(Url, "write_bytes", both)
    with pytest.raises(hold.Busy):
        hold.hold(store / ".lock")


def test_a_store_that_is_away_for_a_moment_costs_no_lease(faulty: Faulty, store: Url) -> None:
    mine = hold.hold(store / ".lock")

    def fail(kind: str, path: str) -> None:
        raise OSError("away")

    faulty.failing = fail
    time.sleep(0.2)
    faulty.failing = lambda kind, path: None
    mine.check()
    before, end = (store / ".lock").read_bytes(), time.monotonic() + 20
    while (store / ".lock").read_bytes() == before and time.monotonic() < end:
        time.sleep(0.05)
    assert (store / ".lock").read_bytes() != before  # renewed again
    mine.release()


def test_waiting_for_another_to_end(store: Url, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hold.wait(store / ".lock", 0.0)
    monkeypatch.setattr(hold, "WATCH_SECONDS", 0.3)
    hold.wait(lease(store), 5.0)  # a dead one
    monkeypatch.setattr(hold, "WATCH_SECONDS", 30.0)
    begin = time.monotonic()
    mine = hold.hold(store / ".lock")
    assert time.monotonic() - begin < 15  # it is not watched again
    with pytest.raises(hold.Busy):
        hold.wait(store / ".lock", 0.0)
    mine.release()
    on_disk = hold.hold(tmp_path / ".lock")
    with pytest.raises(hold.Busy):
        hold.wait(tmp_path / ".lock", 0.01)
    assert hold.held(tmp_path / ".lock")
    on_disk.release()
    hold.wait(tmp_path / ".lock", 0.01)
