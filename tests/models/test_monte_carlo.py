"""Monte Carlo dropout against networks whose units were really removed, and against the definitions in float64."""

import copy

import numpy as np
import pytest
import torch

from openal_ray import seeds
from openal_ray.errors import ConfigError
from openal_ray.models import backbones, monte_carlo, signals
from openal_ray.models.monte_carlo import SIGNALS, Sampling, _FixedDropout

T = 7
NETWORKS = {
    "small_cnn": ((8, 8, 1), {"drop_rate": 0.5}),
    "resnet18": ((32, 32, 3), {"drop_rate": 0.3}),  # by a function call, not a module
    "vit_tiny_patch16_224": ((32, 32, 3), {"proj_drop_rate": 0.2}),  # deep inside
    "efficientnet_lite0": ((32, 32, 3), {"drop_rate": 0.2}),
}


def made(name: str, **params: float) -> tuple[torch.nn.Module, torch.Tensor]:
    shape, default = NETWORKS[name]
    torch.manual_seed(1)
    network = backbones.create(name, 5, shape, params=params or default)
    return network.eval(), torch.randn(12, shape[2], shape[0], shape[1])


def read(network: torch.nn.Module, images: torch.Tensor, *names: str, passes: int = T, seed: int = 3) -> dict:
    with torch.inference_mode():
        return {
            name: value.numpy() for name, value in signals.read(network, images, names, Sampling(passes, seed)).items()
        }


def test_a_pass_is_a_network_with_units_removed() -> None:
    """The reference zeroes columns of the last layer by hand, for the masks that the seed stands for."""
    network, images = made("small_cnn")
    probs = read(network, images, "mc_probs")["mc_probs"]
    for number in range(T):
        generator = torch.Generator().manual_seed(seeds.derive(3, number, "dropout 0"))
        kept = torch.rand((1, 64), generator=generator) >= 0.5
        thinned = copy.deepcopy(network)
        thinned.fc.weight.data *= kept / 0.5
        with torch.inference_mode():
            expected = thinned(images).softmax(1).numpy()
        np.testing.assert_allclose(probs[:, number], expected, atol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_signal_is_its_definition_over_the_passes(name: str) -> None:
    found = read(*made(name), *SIGNALS)
    probs = found["mc_probs"].astype(np.float64)  # [n, T, C]
    assert probs.shape == (12, T, 5)
    np.testing.assert_allclose(found["mc_mean"], probs.mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(found["mc_std"], probs.std(axis=1), atol=1e-6)
    np.testing.assert_allclose(found["mc_entropy"], -(probs * np.log(probs)).sum(axis=2).mean(axis=1), atol=1e-5)
    votes = np.stack([(probs.argmax(axis=2) == label).mean(axis=1) for label in range(5)], axis=1)
    np.testing.assert_allclose(found["mc_votes"], votes, atol=1e-6)
    assert found["mc_std"].max() > 1e-5  # the passes really differ


@pytest.mark.parametrize("name", NETWORKS)
def test_an_image_meets_the_same_networks_whatever_its_batch(name: str) -> None:
    network, images = made(name)
    together = read(network, images, "mc_probs")["mc_probs"]
    apart = np.concatenate([read(network, part, "mc_probs")["mc_probs"] for part in images.split(5)])
    np.testing.assert_allclose(apart, together, atol=1e-5)


@pytest.mark.parametrize("name", ["small_cnn", "vit_tiny_patch16_224"])
def test_masks_follow_the_seed_and_the_pass(name: str) -> None:
    network, images = made(name)
    one, again, other = (read(network, images, "mc_probs", seed=seed)["mc_probs"] for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1e-5
    assert len({passed.tobytes() for passed in one.transpose(1, 0, 2).copy()}) == T


@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_stays_as_it_was(name: str) -> None:
    network, images = made(name)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    plain = read(network, images, "probs")["probs"]
    read(network, images, "mc_mean")
    assert not network.training and not any(module.training for module in network.modules())
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    np.testing.assert_array_equal(read(network, images, "probs")["probs"], plain)


@pytest.mark.parametrize(("name", "times"), [("resnet18", 1), ("vit_tiny_patch16_224", T)])
def test_features_are_computed_once_if_only_the_head_drops(
    name: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, images = made(name)
    calls, real = [], network.forward_features
    monkeypatch.setattr(network, "forward_features", lambda given: calls.append(1) or real(given))
    read(network, images, "mc_mean")
    assert len(calls) == times


def test_memory_does_not_grow_with_the_passes_unless_asked_for() -> None:
    found = read(*made("small_cnn"), "mc_mean", "mc_std", passes=50)
    assert {value.size for value in found.values()} == {12 * 5}


def test_plain_and_sampled_signals_come_together() -> None:
    network, images = made("small_cnn")
    both = read(network, images, "probs", "mc_mean", "features")
    assert list(both) == ["probs", "mc_mean", "features"]
    np.testing.assert_array_equal(both["probs"], read(network, images, "probs")["probs"])


SHARED = ("features", "probs", "stages", "mc_probs", "mc_std")


@pytest.mark.parametrize(
    ("name", "needs", "body", "times"),
    [
        ("resnet18", ("features", "mc_std"), "forward_features", 1),
        ("resnet18", ("probs", "mc_std"), "forward_features", 1),
        ("resnet18", SHARED, "forward_intermediates", 1),
        ("small_cnn", SHARED, "forward_intermediates", 1),
        ("efficientnet_lite0", ("maps", "mc_probs", "mc_mean"), "forward_features", 1),
        ("vit_tiny_patch16_224", ("features", "mc_probs"), "forward_features", T + 1),  # thinned maps are not the plain
    ],
)
def test_plain_and_sampled_signals_share_the_maps_and_keep_their_bits(
    name: str, needs: tuple[str, ...], body: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, images = made(name)
    alone = {need: read(network, images, need)[need] for need in needs}
    calls: list[str] = []
    for method in ("forward_features", "forward_intermediates"):
        real = getattr(network, method)
        monkeypatch.setattr(
            network,
            method,
            lambda *given, real=real, method=method, **named: calls.append(method) or real(*given, **named),
        )
    together = read(network, images, *needs)
    assert calls == [body] * times
    for need in needs:
        np.testing.assert_array_equal(together[need], alone[need], err_msg=need)


def test_a_network_without_dropout_is_refused_with_what_to_do() -> None:
    with pytest.raises(ConfigError, match="SmallCNN has none: set model.params.drop_rate"):
        read(*made("small_cnn", drop_rate=0.0), "mc_mean")


def test_a_network_with_a_plain_forward_has_passes_too() -> None:
    torch.manual_seed(0)
    plain = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(64, 3)).eval()
    assert read(plain, torch.randn(4, 1, 8, 8), "mc_probs")["mc_probs"].shape == (4, T, 3)


def test_whole_maps_are_dropped_by_dropout2d() -> None:
    network = torch.nn.Sequential(torch.nn.Dropout2d(0.5), torch.nn.Flatten()).eval()
    images = torch.ones(2, 6, 3, 3)
    with torch.inference_mode():
        with _FixedDropout(1, 0):
            values = network[0](images)
    per_map = values.flatten(2)
    assert ((per_map == 0).all(2) | (per_map == 2).all(2)).all() and len(per_map.unique()) == 2
    torch.testing.assert_close(values[0], values[1])


@pytest.mark.parametrize("name", ["small_cnn", "resnet18", "efficientnet_lite0"])
def test_a_head_that_ends_in_the_last_layer_runs_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And gives what the whole network gives when it is run for every pass."""
    network, images = made(name)
    with torch.inference_mode():
        whole = []
        for number in range(T):
            with _FixedDropout(3, number):
                whole.append(network(images).softmax(1))
    calls, real = [], network.forward_head
    monkeypatch.setattr(network, "forward_head", lambda maps: calls.append(1) or real(maps))
    for numbers in (2**17, 2 * 5 * 12):  # all passes in one product, or two at a time
        monkeypatch.setattr(monte_carlo, "_NUMBERS", numbers)
        found = read(network, images, "mc_probs", "mc_std")
        np.testing.assert_allclose(found["mc_probs"], torch.stack(whole, dim=1).numpy(), atol=1e-6)
        np.testing.assert_allclose(found["mc_std"], found["mc_probs"].astype(float).std(axis=1), rtol=1e-4, atol=1e-9)
    assert len(calls) == 2


class Twice(torch.nn.Module):
    """Its one dropout is followed by the last layer, whose output something else still changes."""

    def __init__(self, before: bool) -> None:
        super().__init__()
        self.before, self.layer = before, torch.nn.Linear(6, 3)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.dropout(images, 0.5) if self.before else images

    def forward_head(self, maps: torch.Tensor) -> torch.Tensor:
        if self.before:
            return self.layer(maps)
        return self.layer(torch.nn.functional.dropout(maps, 0.5)) + maps[:, :3]


@pytest.mark.parametrize("before", [True, False])
def test_other_heads_run_for_every_pass(before: bool) -> None:
    torch.manual_seed(0)
    network, values = Twice(before).eval(), torch.randn(4, 6)
    found = read(network, values, "mc_probs")["mc_probs"]
    assert found.shape == (4, T, 3)
    for number in range(T):
        generator = torch.Generator().manual_seed(seeds.derive(3, number, "dropout 0"))
        dropped = values * (torch.rand((1, 6), generator=generator) >= 0.5) * 2
        with torch.inference_mode():
            expected = network.layer(dropped) + (0 if before else values[:, :3])
        np.testing.assert_allclose(found[:, number], expected.softmax(1).numpy(), atol=1e-6)


def test_tiny_deviations_keep_their_digits() -> None:
    network, images = made("small_cnn")
    network.fc.weight.data *= 1e-4
    found = read(network, images, "mc_std", "mc_probs")
    expected = found["mc_probs"].astype(np.float64).std(axis=1)
    assert expected.max() < 1e-4
    np.testing.assert_allclose(found["mc_std"], expected, rtol=1e-3, atol=1e-9)


def test_masks_outlive_a_reading_and_serve_where_gradients_are_made() -> None:
    network, images = made("small_cnn")
    read(network, images, "mc_mean", seed=11)
    mean = signals.read(network, images, ("mc_mean",), Sampling(T, 11))["mc_mean"]
    mean.sum().backward()
