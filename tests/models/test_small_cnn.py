"""Our small network: its sizes, and its parts worked out by hand."""

import pytest
import torch

from openal_ray.models.small_cnn import SmallCNN


def test_parameters_and_map_sizes() -> None:
    default = SmallCNN(10)
    weights = 25 * 16 + 2 * 16 + 25 * 16 * 32 + 2 * 32 + (32 * 7 * 7 + 1) * 64 + (64 + 1) * 10
    assert sum(parameter.numel() for parameter in default.parameters()) == weights == 114362
    assert default(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize(("size", "maps"), [((8, 8), (2, 2)), ((9, 13), (3, 4)), ((5, 4), (2, 1)), ((32, 20), (8, 5))])
def test_any_height_and_width(size: tuple[int, int], maps: tuple[int, int]) -> None:
    network = SmallCNN(3, in_chans=2, img_size=size)
    pixels = torch.zeros(4, 2, *size)
    assert network.forward_features(pixels).shape == (4, 32, *maps)
    assert network(pixels).shape == (4, 3)


def test_features_are_what_the_last_layer_sees() -> None:
    torch.manual_seed(0)
    network = SmallCNN(3, img_size=8, hidden=6).eval()
    pixels = torch.randn(4, 1, 8, 8)
    maps, each = network.forward_intermediates(pixels)
    hidden = (maps.flatten(1) @ network.hidden.weight.T + network.hidden.bias).clamp(min=0)
    torch.testing.assert_close(network.forward_head(maps, pre_logits=True), hidden)
    torch.testing.assert_close(network(pixels), hidden @ network.fc.weight.T + network.fc.bias)
    assert [stage.shape[1:] for stage in each] == [(16, 4, 4), (32, 2, 2)] and each[1] is maps
    assert network.get_classifier() is network.fc


def test_dropout_only_while_training() -> None:
    torch.manual_seed(0)
    network, pixels = SmallCNN(3, img_size=8, drop_rate=0.5), torch.randn(4, 1, 8, 8)
    maps = network.forward_features(pixels)
    dropped = (network.forward_head(maps, pre_logits=True) == 0).sum()
    kept = (network.eval().forward_head(maps, pre_logits=True) == 0).sum()
    assert dropped > kept
    assert torch.equal(network(pixels), network(pixels))
