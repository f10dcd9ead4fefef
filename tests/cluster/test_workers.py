"""Ray's workers, without a Ray: what they hold is given back whatever fails on the way."""

from pathlib import Path
from threading import Barrier
from types import SimpleNamespace

import pytest

from openal_ray import config
from openal_ray.cluster import workers as module
from openal_ray.cluster.trainers import GroupLost
from openal_ray.cluster.workers import RayWorkers
from openal_ray.errors import ResourceError


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


def bare(plan: config.Train) -> RayWorkers:
    workers = RayWorkers.__new__(RayWorkers)
    workers.plan, workers._sessions, workers._train_images, workers.storage = plan, {}, None, Path("unused")
    return workers


@pytest.mark.parametrize(("span", "expected"), [(2, {0, 1}), ([1, 2], {0})])
def test_trainings_whose_workers_follow_the_cluster_come_one_after_the_other(
    span: int | list[int], expected: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first would take all that there is, and the others wait for ever."""
    workers, both, used = bare(config.Train.model_validate({"workers": span, "at_once": 2})), Barrier(2, timeout=5), []

    def fit(number: int, job: object, listener: object) -> None:
        used.append(number)
        if span == 2:
            both.wait()  # side by side, or never

    monkeypatch.setattr(workers, "_fit_in_session", fit)
    workers._fit_in_sessions({"a": None, "b": None}, lambda name, epoch: None)  # type: ignore[dict-item]
    assert len(used) == 2 and set(used) == expected


def test_a_group_that_was_lost_starts_again_with_the_least_number_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray counts what nodes have, not what is free, and would try the same number again."""
    started: list[object] = []

    class Session:
        def __init__(self, images: object, plan: config.Train, storage: Path, number: int) -> None:
            started.append(plan.workers)

        def fit(self, job: object, listener: object) -> None:
            raise GroupLost("no room")

        def close(self, wait: bool) -> None: ...

    monkeypatch.setattr(module, "TrainSession", Session)
    workers = bare(config.Train.model_validate({"workers": [1, 4]}))
    with pytest.raises(ResourceError, match="round 1: the training workers were lost again and again. no room"):
        workers._fit_in_session(0, SimpleNamespace(name="round 1"), lambda epoch: None)  # type: ignore[arg-type]
    assert started == [(1, 4), 1]
