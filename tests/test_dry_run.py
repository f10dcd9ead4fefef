"""The price of a run against what a run does: reads, steps and bytes counted while it works."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from openal_ray import cli, runs
from openal_ray.dry_run import quote
from openal_ray.models import signals
from openal_ray.reports import prices
from openal_ray.shard import Shard
from openal_ray.training import loop
from tests.experiments import SMALL, experiment, small

POOL, TESTS = 1397, 400  # images of digits
TUNED = ("data.validation=0.1", "tune.trials=3", "tune.growth=1.5")  # searches with 20 and with 35 labels, not with 50


@pytest.mark.parametrize(
    ("strategy", "further"),
    [
        ("margin", ()),
        ("margin", ("budget.n_subset=500",)),
        ("margin", (*TUNED, "train.batch_size=8", "tune.space={train.epochs: {choice: [2]}}")),
        ("k_center", ("train.batch_size=8", "train.accumulate=2", "budget.n_end=43")),
        ("qbc", ("strategy.members=3", "train.steps_per_epoch=null", "train.epochs=2")),
    ],
)
def test_the_counts_are_those_of_a_run(
    strategy: str, further: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = small(tmp_path / "run", f"strategy={strategy}", *further)
    counted = {"read": 0, "steps": 0, "seen": 0}
    compute, step = Shard._compute, loop._Training._work_off

    def counting_compute(self, pixels, order):
        counted["read"] += len(pixels) if order.needs else 0
        return compute(self, pixels, order)

    def counting_step(self, part, pixels, targets, progress):
        counted["steps"] += part.last
        counted["seen"] += part.count
        return step(self, part, pixels, targets, progress)

    dataset = runs.load_dataset(configuration)
    expected = quote(configuration, dataset, (1.0, 1.0))
    monkeypatch.setattr(Shard, "_compute", counting_compute)
    monkeypatch.setattr(loop._Training, "_work_off", counting_step)
    run = experiment(configuration, dataset)
    run.run()
    assert expected.total.images_read == counted["read"]
    assert expected.total.training_steps == counted["steps"]
    assert expected.total.training_images == pytest.approx(counted["seen"], rel=0.01)
    rows = [line["row"] for _, line in sorted(run.state.evaluated.items())]
    assert [row.labelled for row in expected.rows] == [row["labelled"] for row in rows]


def test_bytes_an_image_leaves_are_those_of_its_signals(tmp_path: Path) -> None:
    configuration = small(tmp_path / "run", "strategy=badge", "shards=1")
    dataset = runs.load_dataset(configuration)
    run = experiment(configuration, dataset)
    held: list[int] = []
    forget = run.workers.shards.forget

    def weighing(reading: str) -> None:
        found = run.workers.shards.gather(reading)
        if found.signals and reading == "unlabelled":
            held.append(sum(signal.nbytes for signal in found.signals.values()))
        forget(reading)

    run.workers.shards.forget = weighing
    run.run()
    expected = quote(configuration, dataset, (1.0, 1.0))
    network = sum(tensor.nbytes for tensor in run.networks.classifier_of(2).values())
    first = expected.rows[1].shard_bytes - 2 * network - 256 * 8 * 8 * 4
    assert first == 2 * held[0]


def test_measured_rates_are_used_and_minutes_follow(tmp_path: Path) -> None:
    configuration = small(tmp_path / "run", "budget.n_end=35")
    found = quote(configuration, runs.load_dataset(configuration))
    assert found.rates.query > 0 and found.rates.train[signals.CLASSIFIER] > 0
    assert found.total.train_minutes == pytest.approx(
        found.total.training_images / found.rates.train[signals.CLASSIFIER] / 60
    )
    assert found.devices == ("CPU", "CPU")
    assert not (tmp_path / "run").exists()


def test_monte_carlo_passes_slow_a_stated_rate(tmp_path: Path) -> None:
    configuration = small(
        tmp_path / "run", "strategy=bald", "strategy.passes=7", "model.params={drop_rate: 0.2}", "budget.n_end=35"
    )
    found = quote(configuration, runs.load_dataset(configuration), (100.0, 50.0))
    queried = found.rows[1].images_read - TESTS
    assert found.rows[1].forward_passes == 7 * queried + TESTS
    assert found.rows[1].read_minutes == pytest.approx((7 * queried + TESTS) / 100 / 60)


def test_the_command_prices_runs_and_starts_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(SMALL))
    arguments = ["run", str(path), "--dry-run", "--rates", "100", "50"]
    table = CliRunner().invoke(cli.cli, arguments, catch_exceptions=False).output
    for text in ("images read", "CPU min", "stated", "all "):
        assert text in table
    found = json.loads(CliRunner().invoke(cli.cli, [*arguments, "seed=0,1", "--json"], catch_exceptions=False).output)
    assert [each["run"] for each in found] == ["margin-0", "margin-1"]
    assert found[0]["total"]["images_read"] == sum(row["images_read"] for row in found[0]["rows"])
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_a_gpu_that_is_not_here_needs_stated_rates(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU, which would be measured")
    configuration = small(tmp_path / "run", "train.gpus_per_worker=1", "budget.n_end=35")
    found = quote(configuration, runs.load_dataset(configuration))
    assert found.total.train_minutes is None and found.total.read_minutes > 0
    assert "--rates READ TRAIN" in prices.explanation(configuration.label, found.rates, found.devices)


def test_a_supervised_reference_is_one_round(tmp_path: Path) -> None:
    configuration = small(tmp_path / "run", "strategy=null")
    found = quote(configuration, runs.load_dataset(configuration), (1.0, 1.0))
    assert [row.labelled for row in found.rows] == [POOL]
