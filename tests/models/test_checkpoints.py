"""Start weights from real files of every format, and what is refused."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from openal_ray.errors import ConfigError
from openal_ray.models import backbones

SHAPE = (8, 8, 1)


def fresh(n_classes: int = 3, checkpoint: Path | None = None, name: str = "small_cnn", seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    return backbones.create(name, n_classes, SHAPE, checkpoint=checkpoint)


def same(ours: nn.Module, theirs: nn.Module, besides: str = " ") -> bool:
    other = theirs.state_dict()
    return all(torch.equal(tensor, other[key]) for key, tensor in ours.state_dict().items() if besides not in key)


def saved(file: Path, how: str) -> nn.Module:
    """A network of other weights than `fresh` draws, and its file."""
    network = fresh(seed=2)
    state = network.state_dict()
    if how == "safetensors":
        save_file(state, file)
    elif how == "plain":
        torch.save(state, file)
    elif how == "data parallel":
        torch.save({f"module.{key}": value for key, value in state.items()}, file)
    else:
        torch.save({"epoch": 7, how: state}, file)
    return network


@pytest.mark.parametrize(
    ("ending", "how"),
    [
        ("pt", "plain"),
        ("pth", "state_dict"),
        ("tar", "model_state_dict"),
        ("pth", "model"),
        ("pt", "data parallel"),
        ("safetensors", "safetensors"),
    ],
)
def test_every_format_gives_the_saved_weights(tmp_path: Path, ending: str, how: str) -> None:
    file = tmp_path / f"weights.{ending}"
    network = saved(file, how)
    assert not same(fresh(), network)
    assert same(fresh(checkpoint=file), network)


def test_a_head_for_other_classes_stays_fresh(tmp_path: Path) -> None:
    network = saved(tmp_path / "three.pt", "plain")
    loaded = fresh(5, tmp_path / "three.pt")
    assert same(loaded, network, besides="fc.")
    assert torch.equal(loaded.fc.weight, fresh(5).fc.weight) and torch.equal(loaded.fc.bias, fresh(5).fc.bias)


def test_a_distilled_transformers_two_heads_stay_fresh(tmp_path: Path) -> None:
    made = [backbones.create("deit_tiny_distilled_patch16_224", n, (32, 32, 1)) for n in (3, 4)]
    torch.save(made[0].state_dict(), tmp_path / "weights.pt")
    loaded = backbones.create("deit_tiny_distilled_patch16_224", 4, (32, 32, 1), checkpoint=tmp_path / "weights.pt")
    assert same(loaded, made[0], besides="head")


def test_a_home_folder_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    network = saved(tmp_path / "weights.pt", "plain")
    assert same(fresh(checkpoint=Path("~/weights.pt")), network)


def test_the_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save(backbones.create("small_cnn", 3, (8, 8, 3)).state_dict(), tmp_path / "colour.pt")
    expected = r"of 16 tensors 1 are missing .*'stages.0.0.weight' \(\[16, 3, 5, 5\] there, \[16, 1, 5, 5\] here\)"
    with pytest.raises(ConfigError, match=expected):
        fresh(checkpoint=tmp_path / "colour.pt")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(ConfigError, match=r"other.pt does not fit small_cnn: .*\(not there\). Set model.name"):
        fresh(checkpoint=tmp_path / "other.pt")


def test_a_head_that_is_not_named_as_one_must_fit(tmp_path: Path) -> None:
    code = ["from torch import nn", "def net(n_classes, shape):"]
    code += ["    return nn.Sequential(nn.Flatten(), nn.Linear(64, n_classes))"]
    (tmp_path / "net.py").write_text("\n".join(code))
    torch.save(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).state_dict(), tmp_path / "weights.pt")
    with pytest.raises(ConfigError, match=r"\[3\] there, \[5\] here"):
        fresh(5, tmp_path / "weights.pt", f"{tmp_path}/net.py:net")


class Attack:
    """A pickle that makes a folder when it is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        return Path.mkdir, (self.folder,)


def test_code_in_a_checkpoint_is_never_run(tmp_path: Path) -> None:
    torch.save({"state_dict": Attack(tmp_path / "attacked")}, tmp_path / "evil.pt")
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Attack(tmp_path / "attacked")))
    for file in ("evil.pt", "evil.pth"):
        with pytest.raises(ConfigError, match=f"{file} is not a file of plain tensors"):
            fresh(checkpoint=tmp_path / file)
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"text.{ending}").write_text("no weights here")
    with pytest.raises(ConfigError, match=f"model.checkpoint: .*text.{ending} is not a file of plain tensors"):
        fresh(checkpoint=tmp_path / f"text.{ending}")


@pytest.mark.parametrize("content", [[1, 2], {"fc.weight": 3}, torch.zeros(2)])
def test_other_things_than_tensors_by_name_are_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(ConfigError, match="other.pt must hold tensors by name"):
        fresh(checkpoint=tmp_path / "other.pt")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="model.checkpoint: .*none.pt: no such file; give a .pt, .pth or .safetensors"
    ):
        fresh(checkpoint=tmp_path / "none.pt")
