"""LARS against the paper's algorithm written out in float64, and by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from openal_ray import config
from openal_ray.errors import ConfigError
from openal_ray.training import optimisation
from openal_ray.training.lars import LARS


def test_one_step_by_hand() -> None:
    """|w| = 5, |g| = 10: local rate 0.1 · 5 / (10 + 0.2 · 5) = 0.5 / 11."""
    weight = nn.Parameter(torch.tensor([[3.0, 4.0]]))
    bias = nn.Parameter(torch.tensor([1.0]))
    weight.grad, bias.grad = torch.tensor([[6.0, 8.0]]), torch.tensor([2.0])
    LARS([weight, bias], lr=2.0, weight_decay=0.2, trust_coef=0.1, eps=0.0).step()
    step = 2 * 0.5 / 11 * np.array([6 + 0.2 * 3, 8 + 0.2 * 4])
    np.testing.assert_allclose(weight.detach().numpy()[0], np.array([3, 4]) - step, rtol=1e-6)
    assert bias.item() == pytest.approx(1 - 2 * 2)  # neither scaled nor decayed


@pytest.mark.parametrize("adapt_all", [False, True])
def test_many_steps_are_algorithm_1(adapt_all: bool) -> None:
    """You et al. 2017: v ← m·v + γ·λ·(g + β·w), w ← w − v, with λ = η·|w| / (|g| + β·|w|); γ changes on the way."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    options = {"momentum": 0.9, "weight_decay": 0.01, "trust_coef": 0.02, "adapt_all": adapt_all}
    made = optimisation.optimizer(config.Optimizer(name="lars", lr=1.0, params=options), network)
    ours = list(network.parameters())
    theirs = [parameter.detach().double().numpy().copy() for parameter in ours]
    speeds = [np.zeros_like(weight) for weight in theirs]
    for number in range(5):
        rate = 1.0 / (number + 1)
        made.param_groups[0]["lr"] = rate
        network(torch.randn(16, 4)).square().mean().backward()
        for place, parameter in enumerate(ours):
            gradient, weight = parameter.grad.double().numpy(), theirs[place]
            if weight.ndim > 1 or (adapt_all and np.linalg.norm(weight) > 0):
                norm = np.linalg.norm(weight)
                scale = 0.02 * norm / (np.linalg.norm(gradient) + 0.01 * norm + 1e-8)
                gradient = scale * (gradient + 0.01 * weight)
            elif adapt_all:
                gradient = gradient + 0.01 * weight
            speeds[place] = 0.9 * speeds[place] + rate * gradient
            theirs[place] = weight - speeds[place]
        made.step()
        made.zero_grad()
    for parameter, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=2e-5, atol=1e-6)


def test_a_layer_without_weights_or_gradient_takes_a_plain_step() -> None:
    nothing, still = nn.Parameter(torch.zeros(1, 2)), nn.Parameter(torch.ones(1, 2))
    nothing.grad, still.grad = torch.ones(1, 2), torch.zeros(1, 2)
    LARS([nothing, still], lr=0.5).step()
    assert nothing.tolist() == [[-0.5, -0.5]] and still.tolist() == [[1, 1]]


def test_its_momentum_survives_saving() -> None:
    def after(steps: int, weight: nn.Parameter, made: LARS) -> None:
        for _ in range(steps):
            weight.grad = weight.detach() + 1
            made.step()

    whole = nn.Parameter(torch.ones(2, 2))
    after(4, whole, LARS([whole], lr=1.0))
    broken = nn.Parameter(torch.ones(2, 2))
    first = LARS([broken], lr=1.0)
    after(2, broken, first)
    second = LARS([broken], lr=1.0)
    second.load_state_dict(first.state_dict())
    after(2, broken, second)
    assert torch.equal(whole, broken)


@pytest.mark.parametrize(
    ("params", "message"),
    [({"momentum": 1.0}, "momentum must be >= 0 and below 1, got 1.0"), ({"eps": -1}, "eps must be >= 0, got -1"),
     ({"trust": 1}, "'trust'")],
)  # fmt: skip
def test_wrong_parameters_are_refused(params: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=f"train.optimizer.params: lars: .*{message}"):
        optimisation.optimizer(config.Optimizer(name="lars", params=params), nn.Linear(1, 1))
