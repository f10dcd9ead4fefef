"""Which shard reads which block next. No modulo: an idle shard takes over from a busy one, and late comers join in."""

from collections import defaultdict, deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Agenda(Generic[Item]):
    """Items that wait for a shard.

    An item is bound to a shard, since what belongs beside it lies there; or it prefers one, which has its pictures in
    memory; or it goes to whoever is free first.
    """

    def __init__(self) -> None:
        self._bound: dict[int, deque[Item]] = defaultdict(deque)
        self._preferring: dict[int, deque[Item]] = defaultdict(deque)
        self._loose: deque[Item] = deque()

    @property
    def waiting(self) -> int:
        """Items that no shard has taken yet."""
        return self.movable + sum(map(len, self._bound.values()))

    @property
    def movable(self) -> int:
        """Those among them that any shard may take."""
        return len(self._loose) + sum(map(len, self._preferring.values()))

    def add(self, item: Item, shard: int | None = None, bound: bool = False) -> None:
        """Puts an item last; shard: where it must go if it is bound, and where it should go otherwise."""
        if shard is None:
            self._loose.append(item)
        else:
            (self._bound if bound else self._preferring)[shard].append(item)

    def take(self, shard: int) -> Item | None:
        """The next item for a shard that has nothing to do; None if there is none for it."""
        for queue in (self._bound[shard], self._preferring[shard], self._loose):
            if queue:
                return queue.popleft()
        longest = max(self._preferring.values(), key=len)
        return longest.pop() if longest else None

    def drop(self, shard: int) -> None:
        """Forgets what waits for a shard that is gone."""
        self._bound.pop(shard, None)
        self._preferring.pop(shard, None)
