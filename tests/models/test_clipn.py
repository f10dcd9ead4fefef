"""CLIPN's checkpoints: both towers say what the published formula says; another file is refused by its fault."""

from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch

from openal_ray.errors import ConfigError
from openal_ray.models import clipn
from openal_ray.models.clip_weights import Source
from tests.models import clips

SENTENCES = ["a photo of a cat.", "a photo of no dog.", "a long sentence on a fish in a very small aquarium indoors."]


@pytest.fixture(scope="module")
def pair() -> tuple[Any, Any]:
    return clips.clip(1), clips.clip(2)


@pytest.fixture(scope="module")
def state(pair: tuple[Any, Any]) -> dict[str, torch.Tensor]:
    return clips.clipn_state(*pair, clips.prompts())


def source(file: Path, **keys: Any) -> Source:
    return Source("ViT-B-16", "laion2b_s34b_b88k", file, **keys)


@pytest.mark.parametrize("prefix", ["module.", ""])
def test_both_towers_give_what_the_direct_formula_gives(
    prefix: str, pair: tuple[Any, Any], state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    towers = source(clips.save(tmp_path / "c.pt", state, prefix)).towers()
    tokens, images = open_clip.tokenize(SENTENCES), torch.randn(2, 3, 32, 32)
    yes, no = pair
    expected = clips.said_no(no, clips.prompts(), tokens)
    assert towers.no is not None
    torch.testing.assert_close(towers.no(tokens), expected)
    torch.testing.assert_close(towers.yes(tokens), yes.encode_text(tokens))
    torch.testing.assert_close(towers.image(images), yes.encode_image(images))
    assert towers.scale == pytest.approx(2.718281828**1.5)
    assert (no.encode_text(tokens) - expected).abs().max() > 0.05  # the prompts matter


def test_a_bare_state_dict_is_read_too(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "bare.pt")
    found = clipn.read(tmp_path / "bare.pt")
    assert set(found.no) == set(clips.TEXT) and set(found.clip) == set(clips.VISUAL + clips.TEXT + ["logit_scale"])


def test_sizes_come_from_the_shapes(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    found = clipn.read(clips.save(tmp_path / "c.pt", state))
    vision, text = clips.ARCHITECTURE["vision_cfg"], clips.ARCHITECTURE["text_cfg"]
    assert found.architecture == {
        "embed_dim": 24, "vision_cfg": {**vision, "mlp_ratio": 4}, "text_cfg": {**text, "mlp_ratio": 4}
    }  # fmt: skip
    assert found.no_sizes == {**text, "mlp_ratio": 4}


def test_the_published_sizes_are_those_of_vit_b_16() -> None:
    """Shapes alone, from the table of the published format."""
    shapes = {
        "visual.conv1.weight": (768, 3, 16, 16), "visual.positional_embedding": (197, 768),
        "token_embedding.weight": (49408, 512), "positional_embedding": (77, 512), "text_projection": (512, 512),
    }  # fmt: skip
    for number in range(12):
        shapes[f"visual.transformer.resblocks.{number}.mlp.c_fc.weight"] = (3072, 768)
        shapes[f"transformer.resblocks.{number}.mlp.c_fc.weight"] = (2048, 512)
    state = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    ours = clipn.Checkpoint(Path("published.pt"), {}, state).architecture
    published = open_clip.get_model_config("ViT-B-16")
    assert ours["embed_dim"] == published["embed_dim"]
    for tower in ("vision_cfg", "text_cfg"):
        assert published[tower].items() <= ours[tower].items()
        assert ours[tower]["mlp_ratio"] == 4
    assert ours["vision_cfg"]["head_width"] == 64


def test_our_towers_of_the_published_sizes_have_the_published_numbers() -> None:
    """452 tensors and 213,679,617 parameters, of which 63,428,096 are in each text tower and 630,784 in the prompts."""
    with torch.device("meta"):
        whole = open_clip.CustomTextCLIP(**open_clip.get_model_config("ViT-B-16")).state_dict()
    text = [tensor for key, tensor in whole.items() if key.startswith("text.")]
    assert sum(tensor.numel() for tensor in text) == 63_428_096
    assert len(whole) + len(text) + 1 == 452
    assert sum(tensor.numel() for tensor in [*whole.values(), *text]) + 16 * 77 * 512 == 213_679_617


def test_the_no_tower_alone_stands_beside_other_weights(pair: tuple[Any, Any], tmp_path: Path) -> None:
    clips.register(tmp_path)
    yes, no = pair
    torch.save(yes.state_dict(), tmp_path / "clip.pt")
    slim = clips.save(tmp_path / "slim.pt", clips.no_state(no, clips.prompts()))
    towers = Source(clips.NAME, str(tmp_path / "clip.pt"), slim).towers()
    tokens = open_clip.tokenize(SENTENCES)
    assert towers.no is not None
    torch.testing.assert_close(towers.no(tokens), clips.said_no(no, clips.prompts(), tokens))
    torch.testing.assert_close(towers.yes(tokens), yes.encode_text(tokens))
    with pytest.raises(ConfigError, match="embeddings of 24 numbers, but clip.model=ViT-B-16 has 512"):
        source(slim).architecture()


def test_the_hand_crafted_kind_has_no_prompts(pair: tuple[Any, Any], tmp_path: Path) -> None:
    file = clips.save(tmp_path / "hand.pt", clips.clipn_state(*pair, None))
    towers = source(file, negated=True).towers()
    tokens = open_clip.tokenize(SENTENCES)
    assert towers.no is not None
    torch.testing.assert_close(towers.no(tokens), pair[1].encode_text(tokens))


Damage = dict[str, torch.Tensor]


def without(state: Damage, *keys: str) -> Damage:
    return {key: tensor for key, tensor in state.items() if key not in keys}


@pytest.mark.parametrize(
    ("damage", "negated", "message"),
    [
        (lambda state: without(state, "prompt_no"), False, "has no prompt_no, so .* set clip.negated=true"),
        (lambda state: state, True, r"has learnt prompts \(prompt_no\): set clip.negated=false"),
        (lambda state: {key: tensor for key, tensor in state.items() if "_no" not in key}, False,
         "is no checkpoint of CLIPN: .* Weights of CLIP itself go to clip.pretrained"),
        (lambda state: state | {"prompt_no": state["prompt_no"][:, :9]}, False,
         r"prompt_no must be \[prompts, 77, 16\] .* got \[16, 9, 16\]"),
        (lambda state: without(state, "token_embedding_no.weight"), False, "is incomplete: it has no token_embedding"),
        (lambda state: without(state, "visual.conv1.weight"), False, "is incomplete: it has no visual.conv1.weight"),
        (lambda state: without(state, "transformer_no.resblocks.1.ln_1.bias"), False,
         "the tower that says no: of the .* 1 missing, first transformer.resblocks.1.ln_1.bias"),
        (lambda state: state | {"ctx": torch.zeros(2)}, False, "1 not of it, first ctx"),
        (lambda state: state | {"visual.proj": torch.zeros(32, 9)}, False, "1 of another shape, first visual.proj"),
    ],
)  # fmt: skip
def test_another_file_is_refused_by_its_fault(
    damage: Any, negated: bool, message: str, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    file = clips.save(tmp_path / "c.pt", damage(state))
    with pytest.raises(ConfigError, match=f"(?s)^clip.checkpoint: {file}.*{message}"):
        source(file, negated=negated).towers()


def test_a_damaged_file_and_one_that_runs_code_are_refused(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    whole = clips.save(tmp_path / "c.pt", state).read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match="cut.pt is not a file of plain tensors"):
        clipn.read(tmp_path / "cut.pt")
    torch.save({"state_dict": state, "run": Path}, tmp_path / "code.pt")
    with pytest.raises(ConfigError, match="code.pt is not a file of plain tensors"):
        clipn.read(tmp_path / "code.pt")
    with pytest.raises(ConfigError, match="clip.checkpoint: .*none.pt: no such file"):
        clipn.read(tmp_path / "none.pt")
