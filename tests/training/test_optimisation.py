"""Optimisers and schedules: the learning rate of every step against closed forms and PyTorch's own schedulers."""

import math
import warnings

import pytest
import torch
from torch import nn

from openal_ray import config
from openal_ray.errors import ConfigError
from openal_ray.training import optimisation

LR = 0.8
EPOCHS, STEPS = 6, 5  # steps an epoch


def plan(name: str, warmup: float = 0, optimizer: str = "sgd", momentum: float = 0.0, **params: object) -> config.Train:
    chosen = config.Optimizer(name=optimizer, lr=LR, params={"momentum": momentum} if momentum else {})
    scheduler = config.Named(name=name, params=params)
    return config.Train(epochs=EPOCHS, optimizer=chosen, scheduler=scheduler, warmup_epochs=warmup)


def stepped(
    optimizer: torch.optim.Optimizer, scheduler: torch.optim.lr_scheduler.LRScheduler, steps: int
) -> list[dict]:
    """The parameter group's settings at each of so many steps."""
    groups = []
    for _ in range(steps):
        groups.append({key: value for key, value in optimizer.param_groups[0].items() if key != "params"})
        optimizer.step()
        scheduler.step()
    return groups


def settings(chosen: config.Train, steps: int = EPOCHS * STEPS) -> list[dict]:
    optimizer = optimisation.optimizer(chosen.optimizer, nn.Linear(1, 1))
    return stepped(optimizer, optimisation.scheduler(optimizer, chosen, STEPS), steps)


def rates(chosen: config.Train) -> list[float]:
    return [group["lr"] for group in settings(chosen)]


def cosine(steps: int) -> list[float]:
    return [LR * (1 + math.cos(math.pi * step / steps)) / 2 for step in range(steps)]


def test_constant() -> None:
    assert rates(plan("constant")) == [LR] * 30


def test_cosine_falls_to_nothing_over_the_training() -> None:
    assert rates(plan("cosine")) == pytest.approx(cosine(30))
    lifted = rates(plan("cosine", eta_min=0.1))
    assert lifted == pytest.approx([0.1 + rate * 0.7 / LR for rate in cosine(30)])


def test_milestones_are_epochs() -> None:
    expected = [LR] * 10 + [LR / 2] * 15 + [LR / 4] * 5
    assert rates(plan("multi_step", milestones=[2, 5], gamma=0.5)) == pytest.approx(expected)
    halves = [LR] * 15 + [LR / 10] * 7 + [LR / 100] * 8  # 0.75 of 30 steps is 22.5, to even
    assert rates(plan("multi_step")) == pytest.approx(halves)


def test_step_size_is_in_epochs() -> None:
    expected = [LR * 0.5 ** (step // 10) for step in range(30)]
    assert rates(plan("step", step_size=2, gamma=0.5)) == pytest.approx(expected)
    assert rates(plan("step")) == pytest.approx([LR * 0.1 ** (step // 5) for step in range(30)])


def ramp(steps: int, to: float = LR) -> list[float]:
    return [to * (step + 1) / (steps + 1) for step in range(steps)]


def test_warmup_is_a_ramp_and_the_schedule_fills_the_rest() -> None:
    assert rates(plan("constant", warmup=2)) == pytest.approx(ramp(10) + [LR] * 20)
    assert rates(plan("cosine", warmup=0.4)) == pytest.approx(ramp(2) + cosine(28))


def test_milestones_count_from_the_beginning_of_training_not_from_the_end_of_the_warmup() -> None:
    expected = ramp(10) + [LR] * 10 + [LR / 2] * 10
    assert rates(plan("multi_step", warmup=2, milestones=[4], gamma=0.5)) == pytest.approx(expected)
    expected = ramp(10) + [LR / 2] * 5 + [LR / 4] * 10 + [LR / 8] * 5  # the first drop falls into the warm-up
    assert rates(plan("multi_step", warmup=2, milestones=[1, 3, 5], gamma=0.5)) == pytest.approx(expected)
    expected = ramp(5) + [LR] * 5 + [LR / 2] * 10 + [LR / 4] * 10
    assert rates(plan("step", warmup=1, step_size=2, gamma=0.5)) == pytest.approx(expected)


def one_cycle(steps: int, momentum: float = 0.0, **params: object) -> list[dict]:
    """PyTorch's own, one step longer than it is used."""
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=LR, momentum=momentum)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LR, total_steps=steps + 1, **params)
    return stepped(optimizer, scheduler, steps)


def test_one_cycle_is_pytorchs() -> None:
    ours = settings(plan("one_cycle", momentum=0.9, pct_start=0.4))
    assert ours == one_cycle(30, momentum=0.9, pct_start=0.4)
    assert max(group["lr"] for group in ours) == pytest.approx(LR, rel=0.01)
    assert min(group["momentum"] for group in ours) == pytest.approx(0.85, rel=0.01)


def test_one_cycle_gives_no_momentum_to_an_optimiser_without_it() -> None:
    ours = settings(plan("one_cycle"))
    assert [group["lr"] for group in ours] == [group["lr"] for group in one_cycle(30, cycle_momentum=False)]
    assert {group["momentum"] for group in ours} == {0}
    assert len(rates(plan("one_cycle", optimizer="adagrad"))) == 30  # has none at all


def test_one_cycle_after_a_warmup_begins_where_the_ramp_ends() -> None:
    cycle = [group["lr"] for group in one_cycle(25, cycle_momentum=False)]
    assert rates(plan("one_cycle", warmup=1)) == pytest.approx(ramp(5, to=LR / 25) + cycle)


@pytest.mark.parametrize("name", ["constant", "cosine", "multi_step", "step", "one_cycle"])
@pytest.mark.parametrize("warmup", [0, 1, 100])
def test_one_epoch_of_one_step_and_a_warmup_longer_than_the_training(name: str, warmup: int) -> None:
    chosen = plan(name, warmup).model_copy(update={"epochs": 1})
    optimizer = optimisation.optimizer(chosen.optimizer, nn.Linear(1, 1))
    groups = stepped(optimizer, optimisation.scheduler(optimizer, chosen, 1), 1)
    assert 0 < groups[0]["lr"] <= LR


def test_optimisers_by_name_with_their_parameters() -> None:
    network = nn.Linear(1, 1)
    choice = config.Optimizer(name="AdamW", lr=0.1, params={"weight_decay": 0.3, "betas": [0.5, 0.6]})
    made = optimisation.optimizer(choice, network)
    assert type(made) is torch.optim.AdamW
    assert (made.defaults["lr"], made.defaults["weight_decay"], list(made.defaults["betas"])) == (0.1, 0.3, [0.5, 0.6])
    assert made.param_groups[0]["params"] == [network.weight, network.bias]


@pytest.mark.parametrize(
    "name",
    ["sgd", "adam", "adamw", "nadam", "radam", "rmsprop", "adagrad", "adadelta", "adamax", "asgd", "rprop", "lars"],
)
def test_every_optimiser_on_offer_lowers_a_loss(name: str) -> None:
    torch.manual_seed(0)
    network, pixels = nn.Linear(3, 1), torch.randn(20, 3)
    made = optimisation.optimizer(config.Optimizer(name=name, lr=0.01), network)
    losses = []
    for _ in range(20):
        loss = (network(pixels) - pixels.sum(1, keepdim=True)).square().mean()
        loss.backward()
        made.step()
        made.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"name": "adamx"}, "train.optimizer.name: unknown optimiser 'adamx'. Did you mean 'adamax'"),
        ({"name": "lbfgs"}, "train.optimizer.name: unknown optimiser 'lbfgs'"),
        ({"name": "optimizer"}, "train.optimizer.name: unknown optimiser 'optimizer'"),
        ({"name": "sgd", "params": {"momentun": 0.9}}, "train.optimizer.params: sgd: .*'momentun'"),
        ({"name": "adam", "params": {"betas": [2.0, 0.9]}}, "train.optimizer.params: adam: Invalid beta parameter"),
        ({"name": "sgd", "params": {"lr": 0.1}}, "train.optimizer.params: sgd: .*multiple values .*'lr'"),
    ],
)
def test_a_wrong_optimiser_is_refused(choice: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        optimisation.optimizer(config.Optimizer(**choice), nn.Linear(1, 1))


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("cosin", {}, "train.scheduler.name: unknown scheduler 'cosin'. Did you mean 'cosine'"),
        ("cosine", {"eta": 1}, "train.scheduler.params: cosine: .*'eta'"),
        ("cosine", {"T_max": 200}, "train.scheduler.params: cosine: .*multiple values .*'T_max'"),
        ("step", {"step_size": 0}, "train.scheduler.params: step: step_size must be above 0 epochs, got 0"),
        ("multi_step", {"milestones": ["x"]}, "train.scheduler.params: multi_step"),
        ("one_cycle", {"pct_start": 2}, "train.scheduler.params: one_cycle: .*pct_start"),
    ],
)
def test_a_wrong_schedule_is_refused(name: str, params: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(plan(name, **params))


def test_no_schedule_warns() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("constant", "cosine", "multi_step", "step", "one_cycle"):
            settings(plan(name, warmup=1))
