"""`openal-ray pretrain`: what it writes, that it goes on, that it helps, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from openal_ray import config, runs
from openal_ray.data.dataset import Dataset
from openal_ray.data.images import ArrayImages
from openal_ray.errors import ConfigError, DataError, RunError
from openal_ray.models import encoder_file, encoders, signals
from openal_ray.models.learners import Fitted
from openal_ray.models.pixels import Normalise
from openal_ray.pretrain import learner_of, parse, pretrain
from openal_ray.training import file_keeper
from openal_ray.training.job import Epoch
from tests.command import exit_of
from tests.experiments import SMALL as EXPERIMENT
from tests.training.jobs import same

DIGITS: dict[str, Any] = {
    "cluster": {"use": "local"},
    "pretrain": {
        "views": {"flip": 0, "smallest_crop": 0.3},
        "train": {"epochs": 3, "batch_size": 128, "optimizer": {"lr": 3e-3}, "warmup_epochs": 1},
    },
}


def asked(folder: Path, *overrides: str) -> config.Config:
    return parse(DIGITS | {"out": str(folder)}, *overrides)


def small_data(shape: tuple[int, int, int] = (8, 8, 1), count: int = 40, validation: int = 0) -> Dataset:
    """Random pictures that count which of them are loaded."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)
    return Dataset(
        "small", ("a", "b"), Watched(pixels), np.arange(count) % 2, ArrayImages(pixels[:4]), np.arange(4) % 2,
        (0.5,) * shape[2], (0.25,) * shape[2], np.arange(validation),
    )  # fmt: skip


class Watched:
    def __init__(self, pixels: np.ndarray) -> None:
        self._images, self.shape = ArrayImages(pixels), pixels.shape[1:]
        self.loaded: set[int] = set()

    def __len__(self) -> int:
        return len(self._images)

    def load(self, indices: np.ndarray) -> np.ndarray:
        self.loaded |= set(indices.tolist())
        return self._images.load(indices)

    def ids(self, indices: np.ndarray) -> list[str]:
        return self._images.ids(indices)


def accuracy(network: Any, data: Dataset, per_class: int) -> float:
    """Of the nearest of the first so many labelled images of each class, by cosine of the features."""
    known = np.concatenate([np.flatnonzero(data.labels == label)[:per_class] for label in range(len(data.classes))])

    def features(images: Any, indices: np.ndarray) -> np.ndarray:
        pixels = Normalise(data.mean, data.std)(torch.from_numpy(images.load(indices)).permute(0, 3, 1, 2))
        with torch.inference_mode():
            rows = signals.read(network.eval(), pixels, ["features"])["features"].numpy()
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    nearest = (features(data.test, np.arange(len(data.test))) @ features(data.train, known).T).argmax(1)
    return float((data.labels[known][nearest] == data.test_labels).mean())


def loaded(fitted: Fitted, shape: tuple[int, int, int]) -> torch.nn.Module:
    network = fitted.learner.build(shape)
    network.load_state_dict(dict(fitted.weights or {}))
    return network.eval()


@pytest.mark.slow
def test_pretrained_features_tell_digits_apart_that_fresh_ones_do_not(tmp_path: Path) -> None:
    """With 2 labels a class: 66 % untrained; 79 % after 40 epochs (seed 0, some seconds); at least 8 points asked."""
    wanted = asked(tmp_path, "pretrain.train.epochs=40")
    data = runs.load_dataset(wanted)
    torch.manual_seed(1)
    before = accuracy(learner_of(wanted, data).build(data.train.shape), data, per_class=2)
    found = pretrain(wanted)
    after = accuracy(loaded(encoders.fitted(str(tmp_path), "pretrained", data.mean, data.std), (8, 8, 1)), data, 2)
    assert after > before + 0.08, (before, after)
    assert found.facts["images"] == len(data.train) and found.facts["partner_found"] > 0.1


@pytest.mark.parametrize("method", ["simclr", "csi"])
def test_what_it_writes_is_plain_and_reads_back(method: str, tmp_path: Path) -> None:
    data = small_data(validation=5)
    found = pretrain(asked(tmp_path, f"pretrain.method={method}", "pretrain.projection=16"), dataset=data)
    weights = torch.load(tmp_path / "encoder.pt", weights_only=True)
    assert all(isinstance(tensor, torch.Tensor) for tensor in weights.values())
    assert yaml.safe_load((tmp_path / "encoder.yaml").read_text()) == found.facts == encoder_file.facts(tmp_path)
    assert (found.facts["method"], found.facts["shape"], found.facts["images"]) == (method, [8, 8, 1], 35)
    assert data.train.loaded == set(range(5, 40))  # not what the source marks as validation
    saved = encoder_file.read(str(tmp_path / "encoder.pt"))
    assert same(dict(saved.weights), weights) and saved.learner.projection == 16
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "encoder.pt", "encoder.yaml", "pretrain.yaml"}


@pytest.mark.parametrize("method", ["simclr", "csi"])
def test_a_stopped_pretraining_goes_on_to_the_same_weights(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_keeper, "SAVE_SECONDS", 0.0)
    data, told = small_data(), []

    def stop(epoch: Epoch) -> None:
        if epoch.epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(asked(tmp_path / "stopped", f"pretrain.method={method}"), dataset=data, listener=stop)
    assert not (tmp_path / "stopped" / "encoder.pt").exists()
    # Where it runs is free to change meanwhile.
    again = asked(tmp_path / "stopped", f"pretrain.method={method}", "pretrain.train.retries=5")
    pretrain(again, dataset=data, listener=lambda epoch: told.append(epoch.epoch))
    pretrain(asked(tmp_path / "whole", f"pretrain.method={method}"), dataset=data)
    assert told == [1, 2]
    stopped, whole = (encoder_file.read(str(tmp_path / name)).weights for name in ("stopped", "whole"))
    assert same(dict(stopped), dict(whole))


def test_a_second_start_finds_it_finished(tmp_path: Path) -> None:
    first = pretrain(asked(tmp_path), dataset=small_data())
    before = (tmp_path / "encoder.pt").stat().st_mtime_ns
    second = pretrain(asked(tmp_path), dataset=small_data(), listener=lambda epoch: pytest.fail("trained again"))
    assert second == first and (tmp_path / "encoder.pt").stat().st_mtime_ns == before


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    pretrain(asked(tmp_path / "a"), dataset=small_data())
    with pytest.raises(RunError, match=r"differs in pretrain.temperature \(0.5 there\), seed \(0 there\)"):
        pretrain(asked(tmp_path / "a", "seed=1", "pretrain.temperature=0.1"), dataset=small_data())
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.tex").write_text("")
    with pytest.raises(RunError, match="holds files already; choose another folder"):
        pretrain(asked(tmp_path / "b"), dataset=small_data())


def test_a_strategy_reads_it_and_needs_no_path_afterwards(tmp_path: Path) -> None:
    """An experiment with it, in a folder of its own; the encoder is named relative to where the run began."""
    pretrain(asked(tmp_path / "encoder"))
    strategy = {"name": "typiclust", "encoder": str(tmp_path / "encoder")}
    wanted = runs.as_config(EXPERIMENT | {"strategy": strategy, "out": str(tmp_path / "run")})
    assert wanted.label == "typiclust-encoder=encoder-0"
    by_encoder = runs.run(wanted)
    assert [row["labelled"] for row in by_encoder.rows] == [20, 35, 50]
    strategy["encoder"] = str(tmp_path / "encoder" / "encoder.pt")
    same_again = runs.run(EXPERIMENT | {"strategy": strategy, "out": str(tmp_path / "again"), "shards": 1})
    assert (same_again.folder / "selections.csv").read_text() == (by_encoder.folder / "selections.csv").read_text()
    plain = runs.run(EXPERIMENT | {"strategy": "typiclust", "out": str(tmp_path / "plain")})
    assert (plain.folder / "selections.csv").read_text() != (by_encoder.folder / "selections.csv").read_text()


def test_paths_of_encoders_are_absolute_in_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = config.parse({"strategy": {"name": "typiclust", "encoder": "runs/e", "encoder_weights": "packaged"}})
    assert found.strategy and found.strategy.parameters == {
        "encoder": str(tmp_path / "runs/e"), "encoder_weights": "packaged"
    }  # fmt: skip


def test_images_of_another_kind_are_brought_into_the_encoders_form(tmp_path: Path) -> None:
    pretrain(asked(tmp_path), dataset=small_data())
    pixels = torch.randint(0, 256, (3, 3, 12, 10)).float()
    mean, std = (0.2, 0.3, 0.4), (0.3, 0.2, 0.1)
    network = loaded(encoders.fitted(str(tmp_path), "pretrained", mean, std), (12, 10, 3))
    plain = loaded(
        Fitted(encoder_file.read(str(tmp_path)).learner, encoder_file.read(str(tmp_path)).weights), (8, 8, 1)
    )
    grey = (pixels * torch.tensor([0.299, 0.587, 0.114]).reshape(1, 3, 1, 1)).sum(1, keepdim=True)
    covering = torch.nn.functional.interpolate(grey, (10, 8), mode="bicubic", antialias=True)
    small = covering[:, :, 1:9].clamp(0, 255)
    with torch.inference_mode():
        expected = plain((small / 255 - 0.5) / 0.25)
        torch.testing.assert_close(network(Normalise(mean, std)(pixels)), expected, rtol=1e-4, atol=1e-5)
    unchanged = loaded(encoders.fitted(str(tmp_path), "pretrained", (0.5,), (0.25,)), (8, 8, 1))
    images = torch.randn(3, 1, 8, 8)
    clamped = (images * 0.25 + 0.5).clamp(0, 1).sub(0.5).div(0.25)
    with torch.inference_mode():
        torch.testing.assert_close(unchanged(images), plain(clamped), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["pretrain.method=simcl"], "pretrain.method: must be 'simclr' or 'csi'"),
        (["pretrain.temprature=1"], "Did you mean 'temperature'"),
        (["pretrain.train.patience=3"], "pretrain.train.patience: there are no labels in pre-training"),
        (["pretrain.train.label_smoothing=0.1"], "pretrain.train.label_smoothing: there are no labels"),
        (
            ["pretrain.train.optimizer.name=larz"],
            "pretrain.train.optimizer.name: unknown optimiser 'larz'. Did you mean",
        ),
        (["pretrain.train.batch_size=1"], "pretrain.train.batch_size"),
        (["pretrain.views.smallest_crop=0"], "pretrain.views.smallest_crop: must be greater than 0"),
        (["model.name=resnet19"], "unknown model 'resnet19'"),
        (["model.name=vgg11", "data.image_size=8"], "model.name: vgg11 cannot take images of 8×8×1"),
        (["data.name=digit"], "Did you mean 'digits'"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    overrides: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(DIGITS | {"strategy": ["random", "margin"]}))
    arguments = [str(tmp_path / "c.yaml"), f"out={tmp_path / 'out'}", *overrides]
    assert exit_of("pretrain", *arguments) == 2
    printed = capsys.readouterr().err
    assert message in printed and "Traceback" not in printed
    assert not (tmp_path / "out").exists()


def test_the_command_prints_facts_as_json_and_epochs_to_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(DIGITS))
    arguments = [str(tmp_path / "c.yaml"), f"out={tmp_path / 'out'}", "pretrain.train.epochs=2", "--json"]
    assert exit_of("pretrain", *arguments) == 0
    printed = capsys.readouterr()
    facts = json.loads(printed.out)
    assert facts["epochs"] == 2 and facts["folder"] == str(tmp_path / "out") and facts["method"] == "simclr"
    assert "simclr on digits: epoch 2/2, loss" in printed.err


def test_one_image_and_rotations_of_oblong_ones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="tells images apart, and there are fewer than 2"):
        pretrain(asked(tmp_path / "a"), dataset=small_data(count=5, validation=4))
    oblong = small_data((8, 12, 1))
    with pytest.raises(ConfigError, match="rotation turns square images, got 8×12"):
        pretrain(asked(tmp_path / "b", "pretrain.method=csi"), dataset=oblong)
    pretrain(asked(tmp_path / "c", "pretrain.method=csi", "pretrain.shift=cutperm"), dataset=oblong)


def test_encoders_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no encoder here; `openal-ray pretrain` writes encoder.pt"):
        encoders.check(str(tmp_path), "pretrained")
    with pytest.raises(ConfigError, match="and no path of what `openal-ray pretrain` wrote"):
        encoders.check("small_cnn", "pretrained")
    pretrain(asked(tmp_path), dataset=small_data())
    whole = (tmp_path / "encoder.pt").read_bytes()
    (tmp_path / "encoder.pt").write_bytes(whole[:1000])
    with pytest.raises(ConfigError, match="the encoder cannot be used"):
        encoders.check(str(tmp_path), "pretrained")
    facts = yaml.safe_load((tmp_path / "encoder.yaml").read_text())
    (tmp_path / "encoder.pt").write_bytes(whole)
    (tmp_path / "encoder.yaml").write_text(yaml.safe_dump(facts | {"projection": 7}))
    with pytest.raises(ConfigError, match="(?s)the encoder cannot be used: .*size mismatch"):
        encoders.check(str(tmp_path / "encoder.pt"), "pretrained")


def test_the_shipped_configurations_are_valid() -> None:
    folder = Path(__file__).parent.parent / "configs"
    simclr, csi = (parse(folder / f"pretrain_{name}.yaml").pretrain for name in ("simclr", "csi"))
    assert (simclr.method, simclr.train.epochs, simclr.train.optimizer.name) == ("simclr", 700, "sgd")
    assert (csi.method, csi.train.epochs, csi.train.optimizer.name) == ("csi", 1000, "lars")
