"""Optimisers and learning-rate schedules of PyTorch by the names of the configuration."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from openal_ray import config
from openal_ray.errors import ConfigError, unknown_name
from openal_ray.training.lars import LARS

UNFIT = {
    "Optimizer",
    "LBFGS",
    "SparseAdam",
}  # the base class; one that evaluates the loss itself; sparse gradients only


def optimizer(choice: config.Optimizer, network: nn.Module, without: nn.Module | None = None) -> torch.optim.Optimizer:
    """An optimiser of torch.optim, or lars, in any case; raises ConfigError for an unknown name or parameter.

    without  the part of the network whose weights it leaves alone
    """
    apart = {id(parameter) for parameter in without.parameters()} if without else set()
    parameters = [parameter for parameter in network.parameters() if id(parameter) not in apart]
    known: Mapping[str, Callable[..., torch.optim.Optimizer]] = {
        name.lower(): value
        for name, value in vars(torch.optim).items()
        if isinstance(value, type) and issubclass(value, torch.optim.Optimizer) and name not in UNFIT
    } | {"lars": LARS}
    if choice.name.lower() not in known:
        raise ConfigError(f"train.optimizer.name: {unknown_name('optimiser', choice.name, known)}")
    try:
        return known[choice.name.lower()](parameters, lr=choice.lr, **choice.params)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"train.optimizer.params: {choice.name}: {error}") from None


def scheduler(
    optimizer: torch.optim.Optimizer, plan: config.Train, steps_per_epoch: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The learning rate of every step: a linear ramp over the warm-up, then the schedule over the steps that are left.

    raises  ConfigError  for an unknown schedule or parameter
    """
    warmup = round(plan.warmup_epochs * steps_per_epoch)
    main = _main(optimizer, plan, steps_per_epoch, warmup)
    if not warmup:
        return main
    ramp = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
    return torch.optim.lr_scheduler.SequentialLR(optimizer, [ramp, main], milestones=[warmup])


def _main(
    optimizer: torch.optim.Optimizer, plan: config.Train, steps_per_epoch: int, warmup: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The schedule after the warm-up; its own step 0 is step `warmup` of the training."""
    schedulers = torch.optim.lr_scheduler
    name, params = plan.scheduler.name, dict(plan.scheduler.params)
    steps = max(1, plan.epochs * steps_per_epoch - warmup)
    known: dict[str, tuple[Callable[..., schedulers.LRScheduler], dict[str, Any]]] = {
        "constant": (schedulers.ConstantLR, {"factor": 1.0}),
        "cosine": (schedulers.CosineAnnealingLR, {"T_max": steps}),
        "multi_step": (schedulers.MultiStepLR, {}),
        "step": (schedulers.MultiStepLR, {}),
        # A cycle's last rate is next to nothing: one step more than there are, so that none is spent on it.
        "one_cycle": (schedulers.OneCycleLR, {"max_lr": plan.optimizer.lr, "total_steps": steps + 1}),
    }
    if name not in known:
        raise ConfigError(f"train.scheduler.name: {unknown_name('scheduler', name, known)}")
    make, ours = known[name]
    try:
        if name in ("multi_step", "step"):
            params["milestones"] = [round(epoch * steps_per_epoch) - warmup for epoch in _milestones(params, plan)]
        if name == "one_cycle":
            params.setdefault("cycle_momentum", _has_momentum(optimizer))
        return make(optimizer, **ours, **params)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"train.scheduler.params: {name}: {error}") from None


def _milestones(params: dict[str, Any], plan: config.Train) -> list[float]:
    """The epochs, counted from the beginning of training, at which the rate drops; takes their key out of `params`."""
    if plan.scheduler.name == "multi_step":
        return list(params.pop("milestones", [plan.epochs * 0.5, plan.epochs * 0.75]))
    size = params.pop("step_size", 1)
    if size <= 0:
        raise ValueError(f"step_size must be above 0 epochs, got {size}")
    return [number * size for number in range(1, int(plan.epochs / size) + 1)]


def _has_momentum(optimizer: torch.optim.Optimizer) -> bool:
    return "betas" in optimizer.defaults or bool(optimizer.defaults.get("momentum"))
