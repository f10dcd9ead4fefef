"""The processes that train together, and what they exchange: sums that are the same for any number of them."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import distributed
from torch.nn import functional


@dataclass(frozen=True)
class Team:
    """One process's place among those that train together; a team of one by default.

    Every method is called by all of them.
    """

    device: torch.device = torch.device("cpu")
    rank: int = 0
    size: int = 1

    def numbers(self, count: int, rank: int | None = None) -> range:
        """Which of `count` micro-batches are a rank's, this process's own by default; rank 0 has the first."""
        rank = self.rank if rank is None else rank
        return range(rank * count // self.size, (rank + 1) * count // self.size)

    def sum(self, rows: torch.Tensor, count: int) -> torch.Tensor:
        """Adds up the rows of all micro-batches in the order of their numbers, whoever has them.

        rows     [k, n] of this process's `numbers(count)`, on the team's device
        returns  [n], the same everywhere. Every process adds up a part of the columns and sends it to all others.
        """
        if self.size == 1:
            return _sum_in_order(rows)
        mine, n = rows.shape
        width = -(-n // self.size)
        sent = functional.pad(rows, (0, width * self.size - n)).unflatten(1, (self.size, width)).transpose(0, 1)
        received = rows.new_empty(count, width)
        theirs = [len(self.numbers(count, rank)) * width for rank in range(self.size)]
        distributed.all_to_all_single(
            received.view(-1), sent.reshape(-1), output_split_sizes=theirs, input_split_sizes=[mine * width] * self.size
        )
        parts = [rows.new_empty(width) for _ in range(self.size)]
        distributed.all_gather(parts, _sum_in_order(received))
        return torch.cat(parts)[:n]

    @torch.no_grad()
    def share(self, tensors: Iterable[torch.Tensor]) -> None:
        """Overwrites the tensors with rank 0's, one message for each type of number."""
        if self.size == 1:
            return
        by_type: dict[torch.dtype, list[torch.Tensor]] = defaultdict(list)
        for tensor in tensors:
            by_type[tensor.dtype].append(tensor)
        for alike in by_type.values():
            message = torch.cat([tensor.reshape(-1) for tensor in alike])
            distributed.broadcast(message, src=0)
            for tensor, values in zip(alike, message.split([tensor.numel() for tensor in alike]), strict=True):
                tensor.copy_(values.view_as(tensor))


def _sum_in_order(rows: torch.Tensor) -> torch.Tensor:
    """[n]: Σ of the rows [k, n], the first plus the second, plus the third …"""
    total = rows[0].clone()
    for row in rows[1:]:
        total += row
    return total
