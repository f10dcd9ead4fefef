"""The processes that train together, and what they exchange: sums that are the same for any number of them."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import distributed


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
        """[n]: the rows [k, n] of all micro-batches, added up in the order of their numbers; k are this process's."""
        sums = OrderedSum(self, count, rows.shape[1], rows.dtype)
        for number, row in zip(self.numbers(count), rows, strict=True):
            sums.put(number, [row])
        return sums.result()

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


class OrderedSum:
    """Adds up a row of n numbers from every micro-batch, in the order of the micro-batches, whoever has them.

    Every process sends its rows in pieces, adds up one piece of all rows, and sends the sum to all others. It sends k·n
    and n numbers for its k micro-batches, and keeps k rows; a process alone keeps a row and the sum.
    """

    def __init__(self, team: Team, count: int, n: int, dtype: torch.dtype = torch.float32) -> None:
        width = -(-n // team.size)
        self._team, self._n, self._width, self._first = team, n, width, team.numbers(count)[0]
        self._theirs = [len(team.numbers(count, rank)) * width for rank in range(team.size)]
        # Kept from step to step: memory that is new costs more than the sums themselves.
        kept = 2 if team.size == 1 else len(team.numbers(count))
        self._rows = torch.zeros(kept, team.size * width, dtype=dtype, device=team.device)
        self._received = self._rows.new_empty(count if team.size > 1 else 0, width)
        self._total = self._rows.new_empty(team.size, width)

    def put(self, number: int, tensors: list[torch.Tensor]) -> None:
        """The row of a micro-batch of this process, in pieces; called in the order of their numbers."""
        place = number - self._first
        row = self._rows[min(place, len(self._rows) - 1), : self._n]
        torch.cat([tensor.reshape(-1) for tensor in tensors], out=row)
        if self._team.size == 1 and place:
            self._rows[0] += self._rows[1]

    def result(self) -> torch.Tensor:
        """[n], the same everywhere; good until the next row is put."""
        size = self._team.size
        if size == 1:
            return self._rows[0, : self._n]
        pieces = self._rows.unflatten(1, (size, self._width)).transpose(0, 1).reshape(-1)
        distributed.all_to_all_single(
            self._received.view(-1), pieces,
            output_split_sizes=self._theirs, input_split_sizes=[len(pieces) // size] * size,
        )  # fmt: skip
        total = self._received[0]
        for row in self._received[1:]:
            total += row
        # Not all_gather, which takes three times as long with gloo.
        distributed.all_to_all_single(self._total, total.expand_as(self._total).contiguous())
        return self._total.view(-1)[: self._n]
