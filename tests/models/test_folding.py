"""Folded networks: the same predictions with fewer modules, and never a wrong one."""

import copy

import pytest
import torch
from torch import nn

from openal_ray.models import signals
from openal_ray.models.folding import fold_batchnorm
from tests.models.families import FAMILIES, images, network


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@pytest.mark.parametrize("name", ["small_cnn", "resnet18", "tf_efficientnet_lite0"])
def test_all_batchnorms_are_folded_and_every_signal_stays(name: str) -> None:
    model, pixels = network(name), images(name)
    folded = fold_batchnorm(model, FAMILIES[name])
    assert norms(model) > 0 and norms(folded) == 0
    ours, theirs = (signals.read(either, pixels, signals.SIGNALS) for either in (folded, model))
    for signal in ("logits", "probs", "features", "maps", "stages"):
        torch.testing.assert_close(ours[signal], theirs[signal], rtol=1e-3, atol=1e-4)


def test_the_original_is_unchanged() -> None:
    model = network("resnet18")
    before = copy.deepcopy(model)
    folded = fold_batchnorm(model, FAMILIES["resnet18"])
    assert folded is not model and str(model) == str(before)
    for name, tensor in before.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


def test_a_preactivation_network_predicts_the_same_though_its_norms_come_first() -> None:
    model, pixels = network("resnetv2_18"), images("resnetv2_18")
    folded = fold_batchnorm(model, FAMILIES["resnetv2_18"])
    torch.testing.assert_close(folded(pixels), model(pixels), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["test_vit", "convnext_atto"])
def test_a_network_without_batchnorm_is_returned_as_it_is(name: str) -> None:
    model = network(name)
    assert fold_batchnorm(model, FAMILIES[name]) is model


class Misdeclared(nn.Module):
    """Declares a BatchNorm right after a convolution, but uses it elsewhere."""

    def __init__(self, between: nn.Module) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)
        self.between = between

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        maps: torch.Tensor = self.norm(self.between(self.convolution(pixels)))
        return maps.mean(dim=(2, 3))


def with_statistics(model: Misdeclared) -> Misdeclared:
    model.norm.running_mean = torch.tensor([0.5, -0.5, 0.2])
    model.norm.running_var = torch.tensor([2.0, 0.5, 1.5])
    return model.eval()


def test_a_network_whose_declaration_lies_is_left_alone() -> None:
    torch.manual_seed(0)
    liar, honest = with_statistics(Misdeclared(nn.ReLU())), with_statistics(Misdeclared(nn.Identity()))
    assert fold_batchnorm(liar, (8, 8, 3)) is liar
    assert norms(fold_batchnorm(honest, (8, 8, 3))) == 0


def test_a_norm_that_uses_the_batch_itself_is_not_folded() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten()).eval()
    assert norms(fold_batchnorm(model, (8, 8, 3))) == 1
