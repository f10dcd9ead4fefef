"""One driver a folder: a file lock on a disk, a lease in a store.

A store has no locks, and pyarrow knows no conditional write. A driver therefore keeps a small object there, its lease,
and writes it anew every RENEW_SECONDS. One that finds the lease of another watches it for WATCH_SECONDS: if it changes,
its owner is alive, and the folder is refused; if not, the owner is gone, and the lease is taken over. No two clocks are
compared for that, except to skip the watching of a lease that has been silent for STALE_SECONDS. Only `held`, which
tells people and does not wait, goes by the clocks, and may be wrong by as much as they differ.

Two drivers that start in the same second may both believe for a moment to have it; a driver that was asleep may have
lost it. So it is looked at again before each write to the record (`check`), and the record itself is compared there
(`files.append`): whoever is no longer the owner stops before it writes anything. A lease that is gone without another
in its place, as a bucket's own rules may remove it, was taken by nobody: it is written anew.
"""

import json
import logging
import os
import platform
import secrets
import threading
import time
from contextlib import suppress
from typing import Any, Protocol

from filelock import FileLock, Timeout

from openal_ray.errors import RunError
from openal_ray.storage.url import Place, Url

log = logging.getLogger(__name__)
LOCK_SECONDS = 1  # `status` looks at a file lock for a moment
RENEW_SECONDS = 10.0
WATCH_SECONDS = 40.0  # a driver whose store failed once, or that computed without a pause, is not taken for dead
STALE_SECONDS = 600.0  # longer than the clocks of two machines differ
POLL_SECONDS = 1.0
_silent: set[tuple[Any, ...]] = set()  # leases that this process has watched in vain


class Busy(Exception):
    """Another process holds the folder; the text says which, as far as it is known."""


class Hold(Protocol):
    """A folder that this process works in alone."""

    def check(self) -> None:
        """Raises RunError if another process has taken it over."""
        ...

    def release(self) -> None: ...


def hold(file: Place) -> Hold:
    """Holds the folder in which `file`, the lock or lease, lies until `release`.

    raises  Busy      if another process holds it
            OSError   if the disk does not let it
            RunError  if the store does not
    """
    return Lease(file) if isinstance(file, Url) else Lock(FileLock(file))


def wait(file: Place, seconds: float) -> None:
    """Until no other process holds the folder; raises Busy after so many seconds."""
    if not file.exists():
        return
    if isinstance(file, Url):
        end = time.monotonic() + seconds
        while (found := _read(file)) and _alive(file, found):
            if time.monotonic() > end:
                raise Busy(_who(found))
        return
    try:
        with FileLock(file).acquire(timeout=seconds):
            pass
    except Timeout:
        raise Busy("") from None


def held(file: Place) -> bool | None:
    """Whether another process seems to hold the folder; writes nothing, and does not wait.

    returns  None if that cannot be known: the lock is another user's
    """
    if isinstance(file, Url):
        return time.time() - _read(file).get("time", -STALE_SECONDS) < WATCH_SECONDS
    if not file.exists():  # it would be made, where only reading was asked
        return False
    try:
        with FileLock(file).acquire(blocking=False):
            return False
    except Timeout:
        return True
    except PermissionError:
        return None


class Lock:
    """The lock of a folder on a disk; it is gone with its process."""

    def __init__(self, lock: FileLock) -> None:
        self._lock = lock
        try:
            lock.acquire(timeout=LOCK_SECONDS)
        except Timeout:
            raise Busy("") from None

    def check(self) -> None:
        """Nobody can take it over."""

    def release(self) -> None:
        self._lock.release()


class Lease:
    """The lease of a folder in a store, written anew by a thread until it is released."""

    def __init__(self, file: Url) -> None:
        self._file, self._owner = file, secrets.token_hex(8)
        found = _read(file)
        if found and _alive(file, found):
            raise Busy(_who(found))
        self._renew()
        found = _read(file)
        if found.get("owner") != self._owner:
            raise Busy(_who(found))
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True, name="lease")
        self._thread.start()

    def check(self) -> None:
        found = _read(self._file)
        if not found:
            self._renew()
        elif found.get("owner") != self._owner:
            raise RunError(
                f"{self._file.parent}: another openal-ray process{_who(found)} has taken this folder over, since this "
                "one was silent for too long. This one stops and has written nothing; the other goes on."
            )

    def release(self) -> None:
        if self._released.is_set():
            return
        self._released.set()
        self._thread.join()
        with suppress(RunError, OSError):  # without it, the lease ends by itself
            if _read(self._file).get("owner") == self._owner:
                self._file.unlink()

    def _keep(self) -> None:
        while not self._released.wait(RENEW_SECONDS):
            try:
                if _read(self._file).get("owner", self._owner) != self._owner:
                    return  # the next write to the record finds it too, and stops the run
                self._renew()
            except (RunError, OSError) as error:
                log.warning("%s", error)

    def _renew(self) -> None:
        told = {"owner": self._owner, "host": platform.node(), "pid": os.getpid(), "time": time.time()}
        self._file.write_bytes(json.dumps(told).encode())


def _read(file: Url) -> dict[str, Any]:
    """What the lease says; nothing if there is none."""
    try:
        found = json.loads(file.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _alive(file: Url, found: dict[str, Any]) -> bool:
    """Whether the owner of a lease writes it anew within WATCH_SECONDS."""
    written = (str(file), found.get("owner"), found.get("time", 0))
    if written in _silent or time.time() - found.get("time", 0) > STALE_SECONDS:
        return False
    log.info("%s: held by a process%s; looking for %g s whether it is alive", file.parent, _who(found), WATCH_SECONDS)
    end = time.monotonic() + WATCH_SECONDS
    while time.monotonic() < end:
        time.sleep(POLL_SECONDS)
        now = _read(file)
        if now != found:
            return bool(now)
    _silent.add(written)
    return False


def _who(found: dict[str, Any]) -> str:
    return f" (process {found.get('pid')} on {found.get('host')})" if found else ""
