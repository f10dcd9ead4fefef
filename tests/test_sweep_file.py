"""A sweep's file and its overrides."""

from pathlib import Path

import pytest

from openal_ray import config, sweep_file
from openal_ray.errors import ConfigError

SHIPPED = Path(__file__).parent.parent / "configs" / "sweeps" / "digits.yaml"


def labels(path: Path, *overrides: str) -> list[str]:
    return [one.folder.name for one in sweep_file.read(path, overrides).runs()]


def written(folder: Path, text: str) -> Path:
    path = folder / "one.yaml"
    path.write_text(text)
    return path


def test_the_shipped_sweep_is_what_its_head_says() -> None:
    assert labels(SHIPPED) == ["random-0", "random-1", "margin-0", "margin-1", "badge-0", "badge-1"]
    plan = sweep_file.read(SHIPPED)
    assert plan.out == Path("runs/digits").absolute() and plan.asha is None and plan.retries == 1
    assert plan.runs()[0].budget.n_end == 200  # of configs/digits.yaml
    command = next(line for line in SHIPPED.read_text().splitlines() if "openal-ray sweep" in line)
    assert len(labels(SHIPPED, *command.split()[4:])) == 6


def test_overrides_reach_the_grid_the_base_and_the_sweep_itself() -> None:
    overrides = ["seed=5,6", "strategy=margin", "budget.n_end=40", "grid.shards=1,2", "concurrency=3", "asha.grace=4"]
    plan = sweep_file.read(SHIPPED, [*overrides, "out=/x"])
    assert [one.folder for one in plan.runs()] == [
        Path("/x") / name for name in ("shards=1-margin-5", "shards=2-margin-5", "shards=1-margin-6",
                                       "shards=2-margin-6")
    ]  # fmt: skip
    assert {one.budget.n_end for one in plan.runs()} == {40}
    assert plan.concurrency == 3 and plan.asha and plan.asha.grace == 4


def test_the_copy_in_the_sweeps_folder_is_the_same_sweep_wherever_it_lies(tmp_path: Path) -> None:
    plan = sweep_file.read(SHIPPED, ["train.optimizer.lr=5e-4", "out=/gone"])
    (tmp_path / sweep_file.KEPT).write_text(config.dump(plan))
    again = sweep_file.read(tmp_path)
    assert again.out == tmp_path
    assert again.model_copy(update={"out": plan.out}) == plan


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grid: {}", "grid: holds no value"),
        ("grid: {seed: []}", "grid.seed: holds no value"),
        ("grid: [1]", r"grid: must hold keys and values, got \[1\]"),
        ("base: 3\ngrid: {seed: 1}", "base: must hold keys and values, got 3"),
        ("base: nowhere.yaml\ngrid: {seed: 1}", "nowhere.yaml: no such configuration file"),
        ("gird: {seed: 1}", "gird: unknown key 'gird'. Did you mean 'grid'"),
        ("grid: {sede: [1]}", "sede: unknown key 'sede'. Did you mean 'seed'"),
        ("grid: {out: [a, b]}", "grid.out: all runs of a sweep share one folder"),
        ("concurrency: 0\ngrid: {seed: 1}", "concurrency: must be greater than or equal to 1"),
    ],
)
def test_what_is_wrong_is_told(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        sweep_file.read(written(tmp_path, text)).runs()


def test_a_folder_without_a_sweep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no sweep was begun here"):
        sweep_file.read(tmp_path)
