"""Training whose weights do not depend on the number of processes: each batch is cut into a fixed number of parts."""

from collections.abc import Callable

import torch
from torch import nn

from openal_ray.training.team import Team

Draws = tuple[torch.Tensor, torch.Tensor | None]


class MicroBatches:
    """One process's micro-batches, worked off in turn as if each had a process of its own.

    A batch has `count` of them, however many processes share them. Each draws random numbers of its own, begins a step
    with the same buffers, and leaves a gradient of its own; these are added up in the order of their numbers. Buffers,
    such as BatchNorm's statistics, become those that micro-batch 0 leaves, as in DistributedDataParallel of PyTorch.
    One micro-batch is ordinary training. What it costs: a copy of the gradients for each micro-batch of a process.
    source  VirtualFlow (Or et al. 2022, virtual nodes); EasyScale (Li et al. 2023)
    """

    def __init__(self, network: nn.Module, team: Team, count: int) -> None:
        self.team, self.count, self.numbers = team, count, team.numbers(count)
        self._parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self._buffers = list(network.buffers())
        self._draws: dict[int, Draws] = {}
        self._gradients: list[torch.Tensor] = []  # of this step, one row for each micro-batch that is done
        self._before: list[torch.Tensor] = []  # buffers at the beginning of the step
        self._after: list[torch.Tensor] = []  # buffers that micro-batch 0 has left

    def begin_epoch(self, seed: Callable[[int], int]) -> None:
        """Seeds the draws of each micro-batch by its number; until the first begins, all processes draw those of 0."""
        for number in self.numbers if self.count > 1 else ():
            torch.manual_seed(seed(number))
            self._draws[number] = self._get_draws()
        torch.manual_seed(seed(0))

    def begin(self, number: int) -> None:
        """The forward passes of a micro-batch of this step follow."""
        if self.count == 1:
            return
        self._set_draws(self._draws[number])
        if number == self.numbers[0]:
            self._before = _copies(self._buffers)
        else:
            _write(self._before, self._buffers)

    def end(self, number: int) -> None:
        """Its gradients are complete, and are put aside."""
        if self.count == 1:
            return
        self._draws[number] = self._get_draws()
        if number == 0:
            self._after = _copies(self._buffers)
        self._gradients.append(torch.cat([_gradient(parameter).reshape(-1) for parameter in self._parameters]))
        for parameter in self._parameters:
            parameter.grad = None

    def join(self) -> None:
        """Gives every process the gradients of the whole step, and the buffers to go on with."""
        if self.count == 1:
            return
        total = self.team.sum(torch.stack(self._gradients), self.count)
        self._gradients = []
        sizes = [parameter.numel() for parameter in self._parameters]
        for parameter, values in zip(self._parameters, total.split(sizes), strict=True):
            parameter.grad = torch.empty_like(parameter).copy_(values.view_as(parameter))
        _write(self._after or self._before, self._buffers)
        self.team.share(self._buffers)

    def _get_draws(self) -> Draws:
        device = self.team.device
        return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def _set_draws(self, draws: Draws) -> None:
        torch.set_rng_state(draws[0])
        if draws[1] is not None:
            torch.cuda.set_rng_state(draws[1], self.team.device)


def _gradient(parameter: nn.Parameter) -> torch.Tensor:
    """Zeros for a part of the network that played no part: whether others need it is not known here."""
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _copies(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    return [tensor.detach().clone() for tensor in tensors]


@torch.no_grad()
def _write(values: list[torch.Tensor], tensors: list[torch.Tensor]) -> None:
    for value, tensor in zip(values, tensors, strict=True):
        tensor.copy_(value)
