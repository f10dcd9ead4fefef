"""What travels with a job: the configuration and the user's own functions, never data; what is refused, and why."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from openal_ray import config, runs
from openal_ray.cluster.parcel import pack
from openal_ray.errors import ConfigError

BASE = {"strategy": "margin", "seed": 3, "out": "/shared/runs/x"}


def packed(values: dict[str, Any]) -> dict[str, bytes]:
    return pack(values, runs.expand(values)[0])


def test_the_configuration_alone_travels_as_it_was_written() -> None:
    values = BASE | {"train": {"optimizer": {"lr": 5e-4}}, "data": {"root": "~/data"}}
    files = packed(values)
    assert list(files) == ["config.yaml"]
    assert yaml.safe_load(files["config.yaml"]) == values


def test_the_users_own_functions_travel_and_are_found_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, text in (("a", "one = 1"), ("b", "two = 2")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(text)
    (tmp_path / "images.npy").write_bytes(b"data")
    values = BASE | {"strategy": {"name": "a/mine.py:one"}, "model": {"name": str(tmp_path / "b/mine.py") + ":two"}}
    files = packed(values)
    assert files == {
        "config.yaml": files["config.yaml"],
        "mine.py": b"one = 1",
        "mine_2.py": b"two = 2",
    }
    there = yaml.safe_load(files["config.yaml"])
    assert (there["strategy"]["name"], there["model"]["name"]) == ("mine.py:one", "mine_2.py:two")


def test_several_strategies_of_one_file_send_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("")
    files = packed(BASE | {"strategy": "random,mine.py:a,./mine.py:b"})
    assert yaml.safe_load(files["config.yaml"])["strategy"] == "random,mine.py:a,mine.py:b"
    assert set(files) == {"config.yaml", "mine.py"}


def test_a_function_on_the_clusters_disk_stays_there() -> None:
    files = packed(BASE | {"strategy": "/shared/mine.py:rule"})
    assert yaml.safe_load(files["config.yaml"])["strategy"] == "/shared/mine.py:rule"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"out": None}, "out: a job's own folder is a copy that is thrown away"),
        ({"out": "runs/x"}, "out: runs/x is relative"),
        ({"data": {"name": "folder:photos"}}, "data.name: photos is relative to this machine"),
        ({"data": {"name": "manifest:images.csv"}}, "data.name: images.csv is relative"),
        ({"open_set": {"other": "folder:others"}}, "open_set.other: others is relative"),
        ({"clip": {"templates": "said.txt"}}, "clip.templates: said.txt is relative"),
        ({"data": {"root": "data"}}, "data.root: data is relative"),
        ({"model": {"checkpoint": "weights.pt"}}, "model.checkpoint: weights.pt is relative"),
        ({"budget": {"start": "start.txt"}}, "budget.start: start.txt is relative"),
        ({"strategy": "mine.py:rule"}, "strategy: 'mine.py:rule' names a function in 'mine.py', but"),
        ({"strategy": {"name": "typiclust", "encoder_weights": "here.pt"}}, "strategy.encoder_weights: here.pt is a"),
        ({"strategy": {"name": "typiclust", "encoder": "runs/enc"}}, "strategy.encoder: runs/enc is a folder of this"),
        ({"read": {"cache": "signals"}}, "read.cache: signals is relative to this machine"),
        ({"tune": {"reuse_from": "runs/other"}}, "tune.reuse_from: runs/other is relative to this machine"),
    ],
)  # fmt: skip
def test_what_only_this_machine_can_see_is_refused_with_words(
    changed: dict, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("here.pt").write_bytes(b"")
    Path("runs/enc").mkdir(parents=True)
    values = BASE | changed
    configuration = config.Config(out="/shared/runs/x")
    with pytest.raises(ConfigError) as refused:
        pack(values, configuration)
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    "changed",
    [
        {"data": {"name": "manifest:s3://bucket/images.csv", "root": "/data"}},
        {"data": {"name": "folder:/shared/photos"}},
        {
            "tune": {"reuse_from": "s3://bucket/runs/other"},
            "read": {"cache": "/shared/signals"},
            "data": {"validation": 0.1},
        },
        {"model": {"checkpoint": "packaged"}, "budget": {"start": "random"}},
        {"model": {"checkpoint": "/shared/weights.pt"}, "budget": {"start": "/shared/start.txt"}},
    ],
)
def test_what_every_node_can_see_is_let_through(changed: dict) -> None:
    assert list(packed(BASE | changed)) == ["config.yaml"]
