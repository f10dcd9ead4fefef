"""Ray's workers, without a Ray: what they hold is given back whatever fails on the way."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from openal_ray.cluster import workers as module
from openal_ray.cluster.workers import RayWorkers


def test_all_is_given_back_though_a_step_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done: list[str] = []

    def close(number: int) -> None:
        done.append(f"session {number}")
        raise RuntimeError(f"session {number} does not end")

    monkeypatch.setattr(module, "meters", lambda: SimpleNamespace(end=lambda: done.append("meters")))
    workers = RayWorkers.__new__(RayWorkers)
    workers.storage = tmp_path
    workers.shards = SimpleNamespace(release=lambda: done.append("shards"))  # type: ignore[assignment]
    workers.share = SimpleNamespace(withdraw=lambda: done.append("request"))  # type: ignore[assignment]
    workers._sessions = {
        number: SimpleNamespace(close=lambda wait, number=number: close(number))  # type: ignore[misc]
        for number in (0, 1)
    }
    with pytest.raises(RuntimeError, match="session 0 does not end"):
        workers.close()
    assert done == ["session 1", "session 0", "shards", "request", "meters"]
