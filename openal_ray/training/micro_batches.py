"""Training whose weights do not depend on the number of processes: each batch is cut into a fixed number of parts."""

from collections.abc import Callable

import torch
from torch import nn

from openal_ray.training.team import OrderedSum, Team

Draws = tuple[torch.Tensor, torch.Tensor | None]


class MicroBatches:
    """One process's micro-batches, worked off in turn as if each had a process of its own.

    A batch has `count` of them, however many processes share them. Each draws random numbers of its own, begins a step
    with the same buffers, and leaves a gradient of its own; these are added up in the order of their numbers. Buffers,
    such as BatchNorm's statistics, become those that micro-batch 0 leaves, as in DistributedDataParallel of PyTorch.
    One micro-batch is ordinary training.
    source  VirtualFlow (Or et al. 2022, virtual nodes); EasyScale (Li et al. 2023)
    """

    def __init__(self, network: nn.Module, team: Team, count: int) -> None:
        if count < team.size:
            raise ValueError(f"{team.size} processes cannot share {count} micro-batches")
        self.team, self.count, self.numbers = team, count, team.numbers(count)
        self._network = network
        self._parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self._sizes = [parameter.numel() for parameter in self._parameters]
        self._draws: dict[int, Draws] = {}
        if count > 1:
            self._sums = OrderedSum(team, count, sum(self._sizes) + len(self._sizes))
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
        if len(self.numbers) == 1:
            return
        if number == self.numbers[0]:
            self._before = self._copied_buffers()
        else:
            self._write_buffers(self._before)

    def end(self, number: int) -> None:
        """Its gradients are complete, and are put aside."""
        if self.count == 1:
            return
        self._draws[number] = self._get_draws()
        if number == 0 and len(self.numbers) > 1:
            self._after = self._copied_buffers()
        has = torch.tensor([float(one.grad is not None) for one in self._parameters], device=self.team.device)
        self._sums.put(number, [*map(_gradient, self._parameters), has])
        if number != self.numbers[-1]:
            for parameter in self._parameters:
                parameter.grad = None

    def join(self) -> None:
        """Gives every process the gradients of the whole step, and the buffers to go on with."""
        if self.count == 1:
            return
        *total, has = self._sums.result().split([*self._sizes, len(self._sizes)])
        for parameter, values, used in zip(self._parameters, total, has.tolist(), strict=True):
            parameter.grad = _gradient(parameter).copy_(values.view_as(parameter)) if used else None
        if self._after:
            self._write_buffers(self._after)
        self.team.share(self._network.buffers())

    def _copied_buffers(self) -> list[torch.Tensor]:
        return [buffer.detach().clone() for buffer in self._network.buffers()]

    @torch.no_grad()
    def _write_buffers(self, values: list[torch.Tensor]) -> None:
        # Looked up anew: a network may have bound its buffers to new tensors.
        for buffer, value in zip(self._network.buffers(), values, strict=True):
            buffer.copy_(value)

    def _get_draws(self) -> Draws:
        device = self.team.device
        return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def _set_draws(self, draws: Draws) -> None:
        torch.set_rng_state(draws[0])
        if draws[1] is not None:
            torch.cuda.set_rng_state(draws[1], self.team.device)


def _gradient(parameter: nn.Parameter) -> torch.Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
