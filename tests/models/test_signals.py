"""Signals: each is what hooks and direct calls find in the network, alone or with all others."""

import pytest
import torch
from torch import nn

from openal_ray.errors import ConfigError
from openal_ray.models import signals
from tests.models.families import FAMILIES, N_CLASSES, images, network


def seen_by(module: nn.Module, model: nn.Module, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What goes into and comes out of one module while the model runs."""
    seen: list[torch.Tensor] = []
    with module.register_forward_hook(lambda _, given, made: seen.extend([given[0].clone(), made.clone()])):
        model(pixels)
    return seen[0], seen[1]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_signal_is_what_the_network_computes(name: str) -> None:
    model, pixels = network(name), images(name)
    found = signals.read(model, pixels, signals.SIGNALS)
    assert list(found) == list(signals.SIGNALS)
    logits = model(pixels)
    assert logits.shape == (3, N_CLASSES) and logits.std() > 0
    torch.testing.assert_close(found["logits"], logits)
    exponentials = logits.double().exp()
    expected = (exponentials / exponentials.sum(1, keepdim=True)).float()
    torch.testing.assert_close(found["probs"], expected)
    torch.testing.assert_close(found["features"], seen_by(model.get_classifier(), model, pixels)[0].flatten(1))
    torch.testing.assert_close(found["maps"], model.forward_features(pixels))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_signal_does_not_depend_on_those_read_with_it(name: str) -> None:
    model, pixels = network(name), images(name)
    together = signals.read(model, pixels, signals.SIGNALS)
    for signal in signals.SIGNALS:
        alone = signals.read(model, pixels, [signal])
        assert list(alone) == [signal]
        torch.testing.assert_close(alone[signal], together[signal])


STAGES = {
    "small_cnn": ["stages.0", "stages.1"],
    "resnet18": ["act1", "layer1", "layer2", "layer3", "layer4"],
    "convnext_atto": ["stages.0", "stages.1", "stages.2", "stages.3"],
    "tf_efficientnet_lite0": ["blocks.0", "blocks.1", "blocks.2", "blocks.4", "blocks.6"],
}


@pytest.mark.parametrize("name", STAGES)
def test_stages_are_the_spatial_means_of_the_stages_maps(name: str) -> None:
    model, pixels = network(name), images(name)
    maps = [seen_by(model.get_submodule(stage), model, pixels)[1] for stage in STAGES[name]]
    expected = torch.cat([each.flatten(2).mean(2) for each in maps], dim=1)
    torch.testing.assert_close(signals.read(model, pixels, ["stages"])["stages"], expected)


def test_stages_of_a_transformer_are_the_means_over_the_patches_after_each_block() -> None:
    model, pixels = network("test_vit"), images("test_vit")
    tokens = [seen_by(block, model, pixels)[1] for block in model.blocks]
    expected = torch.cat([each[:, 1:].mean(1) for each in tokens], dim=1)  # token 0 stands for the class
    torch.testing.assert_close(signals.read(model, pixels, ["stages"])["stages"], expected)


def test_signals_are_float32_also_from_mixed_precision() -> None:
    model, pixels = network("resnet18"), images("resnet18")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(pixels).dtype == torch.bfloat16
        found = signals.read(model, pixels, signals.SIGNALS)
    assert {signal.dtype for signal in found.values()} == {torch.float32}
    torch.testing.assert_close(found["probs"].sum(1), torch.ones(3))  # bfloat16 would be off by up to 0.004


def test_a_plain_module_gives_its_outputs_and_says_what_it_lacks() -> None:
    model, pixels = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.randn(3, 1, 2, 2)
    torch.testing.assert_close(signals.read(model, pixels, ["logits"])["logits"], model(pixels))
    torch.testing.assert_close(signals.read(model, pixels, ["probs"])["probs"], model(pixels).softmax(1))
    with pytest.raises(ConfigError, match="Sequential cannot give: it has no forward_features and no forward_head"):
        signals.read(model, pixels, ["features", "probs"])
    with pytest.raises(ConfigError, match="and no forward_intermediates. Write .* or choose a strategy that needs"):
        signals.read(model, pixels, ["stages"])


def test_an_unknown_signal_is_refused_with_the_nearest_name() -> None:
    signals.check_names(signals.SIGNALS)
    with pytest.raises(ConfigError, match="unknown signal 'feature'. Did you mean 'features'?"):
        signals.check_names(["probs", "feature"])
