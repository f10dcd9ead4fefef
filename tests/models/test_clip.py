"""CLIP as a frozen network: cosines against direct computation, no file needed in the shards, refusals before work."""

from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import open_clip
import pytest
import torch
from torch.nn import functional

from openal_ray import config
from openal_ray.errors import ConfigError
from openal_ray.models import clip, signals
from openal_ray.models.clip import Clip
from openal_ray.models.learners import Fitted
from openal_ray.models.pixels import Normalise
from tests.models import clips

CLASSES = ("cat", "guinea_pig", "0")
MEAN, STD = (0.2, 0.3, 0.4), (0.1, 0.2, 0.3)
CLIP_MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).reshape(1, 3, 1, 1)
CLIP_STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).reshape(1, 3, 1, 1)


def section(folder: Path, **keys: Any) -> config.Clip:
    (folder / "templates.txt").write_text("a photo of a {}.\nsome {}")
    return config.Clip(cache=folder / "texts", templates=folder / "templates.txt", **keys)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> config.Clip:
    folder = tmp_path_factory.mktemp("clip")
    file = clips.save(folder / "clipn.pt", clips.clipn_state(clips.clip(1), clips.clip(2), clips.prompts()))
    return section(folder, checkpoint=file)


def texts(encode: Any) -> np.ndarray:
    """[C, D] in float64, from the direct formula."""
    rows = []
    for word in ("cat", "guinea pig", "0"):
        each = encode(open_clip.tokenize([f"a photo of a {word}.", f"some {word}"])).double().numpy()
        total = (each / np.linalg.norm(each, axis=1, keepdims=True)).sum(axis=0)
        rows.append(total / np.linalg.norm(total))
    return np.stack(rows)


def test_signals_are_the_cosines_of_the_published_formula(asked: config.Clip) -> None:
    network = Clip.of(asked, CLASSES, MEAN, STD).build((32, 32, 3)).eval()
    pictures = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = signals.read(network, Normalise(MEAN, STD)(pictures), ["features", "yes", "no", "probs"])
    images = clips.clip(1).encode_image((pictures / 255 - CLIP_MEAN) / CLIP_STD).double().numpy()
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    yes = images @ texts(clips.clip(1).encode_text).T
    no = images @ texts(lambda tokens: clips.said_no(clips.clip(2), clips.prompts(), tokens)).T
    np.testing.assert_allclose(found["features"], images, atol=1e-5)
    np.testing.assert_allclose(found["yes"], yes, atol=1e-5)
    np.testing.assert_allclose(found["no"], no, atol=1e-5)
    odds = np.exp(np.exp(1.5) * yes)
    np.testing.assert_allclose(found["probs"], odds / odds.sum(axis=1, keepdims=True), atol=1e-5)
    assert np.abs(yes - no).max() > 0.05


def test_cosines_are_float32_also_where_the_tower_is_not(asked: config.Clip) -> None:
    network = Clip.of(asked, CLASSES, MEAN, STD).build((32, 32, 3)).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        found = signals.read(network, images, ["features", "yes"])
    torch.testing.assert_close(found["yes"], found["features"] @ network.yes.T)


def test_shards_build_it_without_any_file(asked: config.Clip, tmp_path: Path) -> None:
    assert asked.checkpoint is not None and asked.templates is not None
    whole = Clip.of(asked, CLASSES, MEAN, STD)
    weights, reader = dict(whole.build((8, 8, 3)).state_dict()), whole.reader()
    hidden = tmp_path / "away.pt"
    asked.checkpoint.rename(hidden)
    try:
        blank = reader.build((8, 8, 3)).eval()
    finally:
        hidden.rename(asked.checkpoint)
    blank.load_state_dict(weights)
    images = torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(blank(images), whole.build((8, 8, 3)).eval()(images))
    assert reader.reader() == reader and Fitted(whole).digest != Fitted(Clip.of(asked, CLASSES[:2], MEAN, STD)).digest


def test_pictures_are_made_as_large_and_cropped_as_clip_was_trained(asked: config.Clip) -> None:
    refit = Clip.of(asked, CLASSES, (0.5,), (0.5,)).build((8, 12, 1)).refit
    grey = torch.rand(1, 1, 8, 12)
    large = functional.interpolate(grey * 0.5 + 0.5, (32, 48), mode="bicubic", antialias=True)[..., 8:40].clamp(0, 1)
    torch.testing.assert_close(refit(grey), (large.expand(-1, 3, -1, -1) - CLIP_MEAN) / CLIP_STD, rtol=1e-4, atol=1e-4)


def test_clip_alone_says_yes_only(tmp_path: Path) -> None:
    clips.register(tmp_path)
    torch.save(clips.clip(1).state_dict(), tmp_path / "clip.pt")
    plain = section(tmp_path, model=clips.NAME, pretrained=str(tmp_path / "clip.pt"))
    network = Clip.of(plain, CLASSES, MEAN, STD).build((32, 32, 3)).eval()
    np.testing.assert_allclose(network.yes, texts(clips.clip(1).encode_text), atol=1e-6)
    with pytest.raises(ConfigError, match="clip.no: nothing says no: set clip.checkpoint=FILE"):
        signals.read(network, torch.zeros(1, 3, 32, 32), ["no"])
    clip.check(plain, CLASSES, ["probs", "clip.yes", "clip.features"])
    with pytest.raises(ConfigError, match="clip.no: nothing says no"):
        clip.check(plain, CLASSES, ["clip.yes", "clip.no"])


def test_negated_sentences_are_experimental_and_say_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clips.register(tmp_path)
    torch.save(clips.clip(1).state_dict(), tmp_path / "clip.pt")
    (tmp_path / "no.txt").write_text("no {}")
    keys = {"model": clips.NAME, "pretrained": str(tmp_path / "clip.pt"), "negated": True}
    asked = section(tmp_path, negated_templates=tmp_path / "no.txt", **keys)
    network = Clip.of(asked, ("cat",), MEAN, STD).build((32, 32, 3))
    alone = clips.clip(1).encode_text(open_clip.tokenize(["no cat"]), normalize=True)
    torch.testing.assert_close(network.no, alone)
    assert "experimental" in caplog.text


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"model": "ViT-B-17"}, "clip.model: unknown model 'ViT-B-17'. Did you mean 'ViT-B-1"),
        ({"model": "ViT-B-16-SigLIP"}, "clip.model: ViT-B-16-SigLIP does not read texts with CLIP's own tokenizer"),
        ({"pretrained": "laion2b_s34b"}, "clip.pretrained: unknown tag .* Did you mean 'laion2b_s34b_b88k'"),
        ({"checkpoint": "nowhere.pt"}, "clip.checkpoint: .*nowhere.pt: no such file"),
        ({"class_names": "nowhere.yaml"}, "clip.class_names: .*nowhere.yaml cannot be read"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_any_work(keys: dict[str, Any], message: str, tmp_path: Path) -> None:
    asked = section(tmp_path, **keys)
    clip.check(asked, CLASSES, ["probs", "encoder.features"])  # nobody needs CLIP
    with pytest.raises(ConfigError, match=message):
        clip.check(asked, CLASSES, ["clip.features"])


def test_weights_that_cannot_be_fetched_are_told_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    clips.register(tmp_path)
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, clips.NAME, {"tag": {"hf_hub": "nobody/nothing/"}})
    asked = section(tmp_path, model=clips.NAME, pretrained="tag")
    clip.check(asked, CLASSES, ["clip.yes"])
    with pytest.raises(
        ConfigError, match="(?s)clip.pretrained: the weights tag of tiny-clip cannot be had: .* clip.pretrained=FILE"
    ):
        Clip.of(asked, CLASSES, MEAN, STD).build((32, 32, 3))


def test_published_weights_bring_their_activation_and_normalisation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips.register(tmp_path)
    torch.save(clips.clip(1).state_dict(), tmp_path / "clip.pt")
    tag = {"file": str(tmp_path / "clip.pt"), "quick_gelu": True, "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, clips.NAME, {"tag": tag})
    network = Clip.of(section(tmp_path, model=clips.NAME, pretrained="tag"), CLASSES, MEAN, STD).build((32, 32, 3))
    images = torch.rand(2, 3, 32, 32) * 255
    torch.testing.assert_close(network.refit.wanted(images), Normalise((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))(images))
    quick = open_clip.CLIP(**clips.ARCHITECTURE, quick_gelu=True).eval()
    quick.load_state_dict(clips.clip(1).state_dict())
    np.testing.assert_allclose(network.yes, texts(lambda tokens: quick.encode_text(tokens).detach()), atol=1e-6)
