"""What a configuration, a manifest or a checkpoint of somebody else's can do: nothing beyond the run folder."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from openal_ray import runs
from openal_ray.config import Config
from openal_ray.config_file import read_file
from openal_ray.errors import ConfigError, RunError, UserError
from openal_ray.pool import AnswersPending
from openal_ray.run_folder import RunFolder, read_config
from tests.experiments import SMALL

EVIL = ("../../evil", "/evil", "..", "a/../../evil", "evil\0x", "$(touch evil)", "~/evil")


class Trap:
    """Whoever unpickles it runs its command."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def __reduce__(self):
        return os.mkdir, (str(self.sign),)


@pytest.mark.parametrize(
    "text",
    [
        "seed: !!python/object/apply:os.mkdir [SIGN]",
        "strategy: !!python/name:os.system",
        "data: {params: {x: !!python/object/new:os.mkdir [SIGN]}}",
        "!!python/module:os",
    ],
)
def test_a_configuration_runs_no_code(text: str, tmp_path: Path) -> None:
    sign, file = tmp_path / "sign", tmp_path / "config.yaml"
    file.write_text(text.replace("SIGN", str(sign)))
    with pytest.raises(ConfigError, match="not a YAML file"):
        read_file(file)
    with pytest.raises(UserError):
        read_config(tmp_path)  # the same file as that of a run folder
    with pytest.raises(ConfigError, match="is not a YAML value"):
        runs.as_config(SMALL, [f"seed=!!python/object/apply:os.mkdir [{sign}]"])
    assert not sign.exists()


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    sign = tmp_path / "sign"
    folder = RunFolder.create(Config(out=tmp_path / "run"))
    (folder.path / "checkpoints").mkdir()
    for name in ("round-000", "helper-x"):
        torch.save({"weight": Trap(sign)}, folder.path / "checkpoints" / f"{name}.pt")
    with pytest.raises(RunError, match="damaged weights"):
        folder.load_weights(0)
    with pytest.raises(RunError, match="damaged weights"):
        folder.load_helper("x")
    folder.close()
    configuration = runs.as_config(
        SMALL | {"out": str(tmp_path / "other")}, [f"model.checkpoint={folder.path / 'checkpoints' / 'round-000.pt'}"]
    )
    with pytest.raises(UserError):
        runs.run(configuration)
    assert not sign.exists()


@given(
    name=st.one_of(st.sampled_from(EVIL), st.text(min_size=1, max_size=20)),
    value=st.one_of(st.sampled_from(EVIL), st.text(max_size=20)),
)
def test_names_of_folders_never_leave_the_folder_around_them(name: str, value: str) -> None:
    try:
        configuration = Config(strategy={"name": name, "parameter": value}, data={"name": f"folder:{name}"})
    except ValidationError:  # ~ and a user that there is not
        return
    assert Path(configuration.label).parts == (configuration.label,) and configuration.label not in (".", "..")
    assert configuration.folder.parts[0] == "runs" and len(configuration.folder.parts) == 2


def test_a_manifest_writes_nothing_outside_the_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ids and labels are text of somebody else's. Its paths are only read, and only as pictures."""
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    lines = ["id,path,label,split"]
    for number in range(20):
        Image.new("L", (8, 8), number * 12).save(inside / f"{number}.png")
        evil = EVIL[number % 4] if number < 8 else "x"
        label = "" if number >= 16 else ("../../evil", "<script>alert(1)</script>")[number % 2]
        lines.append(f"{evil}{number},{number}.png,{label},{'test' if number < 4 else 'train'}")
    (inside / "images.csv").write_text("\n".join(lines))
    before = _files(tmp_path)
    values = SMALL | {
        "data": {"name": "manifest:images.csv", "image_size": 8}, "out": str(inside / "run"),
        "budget": {"start": "given", "n_query": 4, "n_end": 20}, "strategy": "margin",
    }  # fmt: skip
    with pytest.raises(AnswersPending):
        runs.run(values)
    run = inside / "run"
    assert all(run in path.parents or path == run for path in _files(tmp_path) - before)
    assert "../../evil" in (run / "labels.csv").read_text()
    assert "<script>alert(1)" not in (run / "report.html").read_text()


def test_a_manifests_path_to_what_is_no_picture_gives_none_of_it_away(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("the-content")
    rows = ["a,secret,x,train", "b,secret,y,train", "c,secret,x,test"]
    (tmp_path / "images.csv").write_text("\n".join(["id,path,label,split", *rows]))
    values = SMALL | {"data": {"name": f"manifest:{tmp_path / 'images.csv'}", "image_size": 8}, "strategy": None}
    with pytest.raises(UserError) as refused:
        runs.run(values | {"out": str(tmp_path / "run")})
    assert "the-content" not in str(refused.value)


def _files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))
