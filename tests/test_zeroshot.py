"""Zero-shot on digits with a tiny random CLIPN: the numbers are those of a direct computation, by any shards."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from torch.nn import functional

from openal_ray import runs, zeroshot
from openal_ray.config import Config
from openal_ray.models import clip
from openal_ray.selection.halves import Picks
from openal_ray.selection.purity.clipn import agreement
from openal_ray.strategies.features import Features, prepare_clip
from openal_ray.strategies.strategy import Strategy
from openal_ray.strategies.view import POOL, View
from tests.command import exit_of
from tests.experiments import experiment, small
from tests.models import clips

SEED = 2  # of the weights of both text towers, which then differ by the prompts: some images are accepted, some not
FORMS = ["a photo of a {}.", "the number {}"]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("clip")
    clips.save(folder / "clipn.pt", clips.clipn_state(clips.clip(SEED), clips.clip(SEED), clips.prompts()))
    (folder / "forms.txt").write_text("\n".join(FORMS))
    (folder / "names.yaml").write_text("7: seven\n")
    files = {"checkpoint": "clipn.pt", "templates": "forms.txt", "class_names": "names.yaml", "cache": "texts"}
    return {key: str(folder / name) for key, name in files.items()}


def configuration(keys: dict[str, str], **more: Any) -> Config:
    return runs.as_config({"clip": keys, "cluster": {"use": "local"}, **more})


def direct(config: Config) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Yes and no cosines [n, 10] of the test images in float64, and their classes; the model as the papers have it."""
    data = runs.load_dataset(config)
    pixels = torch.from_numpy(data.test.load(np.arange(len(data.test)))).permute(0, 3, 1, 2).float()
    large = functional.interpolate(pixels, (32, 32), mode="bicubic", antialias=True).clamp(0, 255) / 255
    mean, std = (torch.tensor(each).reshape(1, 3, 1, 1) for each in (clip_mean(), clip_std()))
    images = clips.clip(SEED).encode_image((large.expand(-1, 3, -1, -1) - mean) / std).double()
    words = ["seven" if number == 7 else str(number) for number in range(10)]
    tokens = [open_clip.tokenize([form.replace("{}", word) for form in FORMS]) for word in words]
    yes = torch.stack([mean_of(clips.clip(SEED).encode_text(each)) for each in tokens])
    no = torch.stack([mean_of(clips.said_no(clips.clip(SEED), clips.prompts(), each)) for each in tokens])
    images = functional.normalize(images, dim=1)
    return (images @ yes.T).numpy(), (images @ no.T).numpy(), data.test_labels


def mean_of(rows: torch.Tensor) -> torch.Tensor:
    return functional.normalize(functional.normalize(rows.double(), dim=1).sum(dim=0), dim=0)


def clip_mean() -> tuple[float, ...]:
    return tuple(open_clip.OPENAI_DATASET_MEAN)


def clip_std() -> tuple[float, ...]:
    return tuple(open_clip.OPENAI_DATASET_STD)


@pytest.mark.parametrize("shards", [1, 3])
def test_the_numbers_are_those_of_a_direct_computation(keys: dict[str, str], shards: int) -> None:
    config = configuration(keys, shards=shards)
    found, (yes, no, labels) = zeroshot.evaluate(config), direct(config)
    right = yes.argmax(axis=1) == labels
    assert found["images"] == len(labels)
    assert found["accuracy"] == pytest.approx(right.mean(), abs=2 / len(labels))
    assert [row["class"] for row in found["per_class"]] == [str(number) for number in range(10)]
    for number, row in enumerate(found["per_class"]):
        assert row["recall"] == pytest.approx(right[labels == number].mean(), abs=0.03)
    said_yes = 1 / (1 + np.exp(100 * (no - yes)))
    softmax = np.exp(100 * (yes - yes.max(axis=1, keepdims=True)))
    softmax /= softmax.sum(axis=1, keepdims=True)
    known = (said_yes * softmax).max(axis=1) > 1 - (said_yes * softmax).sum(axis=1)
    winner = said_yes[np.arange(len(yes)), yes.argmax(axis=1)] >= 0.5
    assert found["accepted"] == pytest.approx({"atd": known.mean(), "ctw": winner.mean()}, abs=3 / len(labels))
    assert 0 < winner.mean() < 1 and len(set(yes.argmax(axis=1))) > 1  # so that the comparison says something


def test_clip_alone_accepts_nothing_and_rejects_nothing(keys: dict[str, str], tmp_path: Path) -> None:
    clips.register(tmp_path)
    torch.save(clips.clip(SEED).state_dict(), tmp_path / "clip.pt")
    own = {**keys, "model": clips.NAME, "pretrained": str(tmp_path / "clip.pt"), "checkpoint": None}
    found = zeroshot.evaluate(configuration(own))
    assert "accepted" not in found and found["model"] == f"{clips.NAME}, {tmp_path / 'clip.pt'}"
    assert found["accuracy"] == zeroshot.evaluate(configuration(keys))["accuracy"]


def test_the_command(keys: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "digits.yaml"
    file.write_text("strategy: margin, random\nseed: [0, 1]\ncluster: {use: local}\n")
    own = [f"clip.{key}={value}" for key, value in keys.items()]
    assert exit_of("zeroshot", str(file), *own, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"] == zeroshot.evaluate(configuration(keys))["accuracy"]
    assert exit_of("zeroshot", str(file), *own) == 0
    shown = capsys.readouterr().out
    assert f"{found['accuracy']:.4f}" in shown and "recall" in shown and "atd=" in shown
    assert exit_of("zeroshot", str(file), "clip.model=ViT-B-17") == 2
    assert "clip.model: unknown model 'ViT-B-17'" in capsys.readouterr().err


def test_a_strategy_reads_its_signals_once_for_the_whole_run(
    keys: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three rounds; what a pick sees are the cosines of the train images, and the network is loaded once."""
    seen: list[np.ndarray] = []
    loads: list[str] = []

    def known(signals: Any) -> np.ndarray:
        seen.append(np.stack([signals["clip.yes"], signals["clip.no"]]))
        return agreement(signals["clip.yes"], signals["clip.no"])

    def pick(view: View, budget: int, rng: np.random.Generator) -> Picks:
        assert set(view.shards.gather(POOL).signals) == {"clip.yes", "clip.no"}
        return view.top_k(known, budget)

    strategy = Strategy(needs_pool=("clip.yes", "clip.no"), score=known, pick=pick, prepare=prepare_clip)
    monkeypatch.setattr("openal_ray.strategies.catalogue.build", lambda name, parameters: strategy)
    config = small(tmp_path / "run").model_copy(update={"clip": configuration(keys).clip})
    run = experiment(config)
    load = run.workers.shards.load
    monkeypatch.setattr(
        run.workers.shards, "load", lambda learner, weights, name="": (loads.append(name), load(learner, weights, name))
    )
    run.run()
    assert loads.count(clip.NAME) == 1 and len(run.state.evaluated) == 3 and seen[0].shape[2] == 10
    chosen = np.array(run.state.asked[1]["indices"])
    pixels = run.dataset.train
    everything = np.setdiff1d(np.arange(len(pixels)), run.state.asked[0]["indices"])
    scores = agreement(*train_cosines(config, everything))
    assert scores[np.isin(everything, chosen)].min() >= np.sort(scores)[-len(chosen)] - 1e-3


def train_cosines(config: Config, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of train images, by the network itself, without shards."""
    data = runs.load_dataset(config)
    network: Any = clip.Clip.of(config.clip, data.classes, (0.0,), (1 / 255,)).build((8, 8, 1)).eval()
    with torch.inference_mode():
        maps = network.forward_features(torch.from_numpy(data.train.load(indices)).permute(0, 3, 1, 2).float())
    return network.forward_cosines(maps, "yes").numpy(), network.forward_cosines(maps, "no").numpy()


def test_features_of_clip_are_an_encoder_like_any_other() -> None:
    features = Features(encoder="clip")
    assert features.need == "clip.features" and features.needs["needs_pool"] == ("clip.features",)


def test_a_strategy_that_needs_clip_is_refused_with_its_keys(tmp_path: Path) -> None:
    own = {"clip": {"pretrained": "nothing"}, "strategy": {"name": "typiclust", "encoder": "clip"}}
    with pytest.raises(Exception, match="clip.pretrained: unknown tag 'nothing'"):
        runs.run({"cluster": {"use": "local"}, "out": str(tmp_path / "run"), **own})
    assert not (tmp_path / "run").exists()
