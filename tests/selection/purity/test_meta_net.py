"""Tests of meta_net.py: monotone, the direct formula, learning to rank, pairs, edge sizes."""

from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from openal_ray.selection.purity.meta_net import MetaNet, MetaPlan, _pairs, fit_meta_net, worth


def random_net(rng: np.random.Generator) -> MetaNet:
    return MetaNet(rng.normal(size=(8, 2)), rng.normal(size=8), rng.normal(size=8), float(rng.normal()))


@given(st.integers(0, 10_000), st.tuples(*[st.floats(0, 50)] * 2), st.tuples(*[st.floats(0, 50)] * 2))
def test_no_input_lowers_the_score(seed: int, lower: tuple[float, float], more: tuple[float, float]) -> None:
    net = random_net(np.random.default_rng(seed))
    low, high = net.scores(np.array([lower, np.add(lower, more)]))
    assert high >= low


def test_scores_are_the_direct_formula() -> None:
    rng = np.random.default_rng(0)
    net, inputs = random_net(rng), rng.random((20, 2)) * 5
    x, first, bias, second = (torch.from_numpy(one) for one in (inputs, net.first, net.first_bias, net.second))
    expected = torch.relu(second) @ torch.sigmoid(torch.relu(first) @ x.T + bias[:, None]) + net.second_bias
    assert np.allclose(net.scores(inputs), expected.numpy())
    assert np.isfinite(net.scores(np.full((1, 2), np.exp(10.0)))).all()


@pytest.mark.parametrize("pairs", ["flip", "next"])
def test_ood_images_rank_below_id_images_of_positive_worth(pairs: Literal["flip", "next"]) -> None:
    # OOD images are the more informative ones, so an untrained network prefers them.
    rng = np.random.default_rng(1)
    sign = np.where(np.arange(200) % 2 == 0, 0.7, -0.7)
    inputs = np.exp(np.stack([-sign, sign], axis=1) + rng.normal(0, 0.05, (200, 2)))
    targets = np.where(sign > 0, 0.5 + rng.random(200), 0.0)
    before, after = (
        fit_meta_net(inputs, targets, np.random.default_rng(2), plan).scores(inputs)
        for plan in (MetaPlan(steps=0), MetaPlan(epochs=6, lr=0.03, pairs=pairs))
    )
    assert (before[sign > 0][:, None] > before[sign < 0]).mean() < 0.5
    assert after[sign > 0].min() > after[sign < 0].max()


def test_an_untrained_network_is_drawn_between_0_and_1() -> None:
    for inputs in (np.empty((0, 2)), np.ones((1, 2))):
        net = fit_meta_net(inputs, np.ones(len(inputs)), np.random.default_rng(0))
        assert net.first.shape == (64, 2)
        drawn = np.concatenate([net.first.ravel(), net.first_bias, net.second, [net.second_bias]])
        assert drawn.min() >= 0 and drawn.max() < 1 and drawn.std() > 0.2


def test_the_generator_decides() -> None:
    inputs, targets = np.random.default_rng(0).random((20, 2)), np.arange(20.0)
    nets = [fit_meta_net(inputs, targets, np.random.default_rng(seed), MetaPlan(1, 20)) for seed in (0, 0, 1)]
    assert np.array_equal(nets[0].first, nets[1].first)
    assert not np.array_equal(nets[0].first, nets[2].first)


def test_pairs_of_a_batch() -> None:
    assert [part.tolist() for part in _pairs(5, "flip")] == [[0, 1], [4, 3]]
    assert [part.tolist() for part in _pairs(5, "next")] == [[0, 2], [1, 3]]


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_training_is_that_of_torch(weight_decay: float) -> None:
    plan = MetaPlan(epochs=4, steps=25, batch_size=7, lr=0.05, hidden=6, weight_decay=weight_decay)
    rng = np.random.default_rng(3)
    inputs, targets = rng.random((20, 2)) * 3, rng.integers(0, 3, 20).astype(float)
    rng = np.random.default_rng(4)
    layers = [torch.tensor(rng.random(shape), requires_grad=True) for shape in ((6, 2), 6, 6, 1)]
    optimiser = torch.optim.SGD(layers, lr=0.05, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, 50, 0.1)
    x, y, order = torch.tensor(inputs), torch.tensor(targets), []
    for _ in range(100):
        order = order if len(order) > 1 else rng.permutation(20).tolist()
        batch, order = order[:7], order[7:]
        score = torch.sigmoid(x[batch] @ layers[0].relu().T + layers[1]) @ layers[2].relu() + layers[3]
        half = len(batch) // 2
        sign = 2.0 * (y[batch] > y[batch].flip(0)) - 1
        loss = (1 - sign * (score - score.flip(0)))[:half].relu().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    net = fit_meta_net(inputs, targets, np.random.default_rng(4), plan)
    for found, expected in zip((net.first, net.first_bias, net.second, [net.second_bias]), layers, strict=True):
        assert np.allclose(found, expected.detach().numpy(), rtol=1e-9)


def test_one_step_by_hand() -> None:
    # One pair, the first worth more, both scored about equal: the loss pulls the first up and the second down.
    inputs, plan = np.array([[2.0, 0.0], [0.0, 1.0]]), MetaPlan(epochs=1, steps=1, hidden=3, lr=0.1)
    rng = np.random.default_rng(5)
    first, bias, second, last = rng.random((3, 2)), rng.random(3), rng.random(3), rng.random(1)
    order = rng.permutation(2)
    net = fit_meta_net(inputs, np.array([1.0, 0.0]), np.random.default_rng(5), plan)
    assert order.tolist() in ([0, 1], [1, 0])
    hidden = 1 / (1 + np.exp(-(inputs @ first.T + bias)))
    # plan.epochs // 2 = 0: the whole epoch runs at a tenth of the rate.
    assert np.allclose(net.second, second + 0.01 * (hidden[0] - hidden[1]))
    assert np.allclose(
        net.first_bias, bias + 0.01 * second * (hidden[0] * (1 - hidden[0]) - hidden[1] * (1 - hidden[1]))
    )
    assert net.second_bias == pytest.approx(last[0])


def test_worth() -> None:
    log_probs = np.log([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]])
    assert worth(log_probs, np.array([0, 1, -1])) == pytest.approx([np.log(2), -np.log(0.1), 0.0])
