"""Which shard reads which block next. No modulo: an idle shard takes over from a busy one, and late comers join in."""

from collections import defaultdict, deque
from collections.abc import Hashable
from itertools import chain
from typing import Generic, TypeVar

Item = TypeVar("Item")
Groups = dict[Hashable, deque[Item]]


class Agenda(Generic[Item]):
    """Items that wait for a shard, in groups: the shard that takes one item of a group gets all of them.

    An item is bound to a shard, since what belongs beside it lies there or it took one of its group; or its group
    prefers a shard, which has its pictures in memory; or it goes to whoever is free first.
    """

    def __init__(self) -> None:
        self._bound: dict[int, deque[Item]] = defaultdict(deque)
        self._preferring: dict[int, Groups[Item]] = defaultdict(dict)
        self._loose: Groups[Item] = {}

    @property
    def waiting(self) -> int:
        """Items that no shard has taken yet."""
        return sum(map(len, chain(self._bound.values(), self._loose.values(), *map(dict.values, self._free))))

    @property
    def movable(self) -> int:
        """Groups among them that any shard may take: so many shards would have something to do."""
        return len(self._loose) + sum(map(len, self._free))

    @property
    def _free(self) -> list[Groups[Item]]:
        return list(self._preferring.values())

    def add(self, item: Item, group: Hashable, shard: int | None = None, bound: bool = False) -> None:
        """Puts an item last.

        shard  where it must go if it is bound, and otherwise where its group should go, if it is the first of that
        """
        if bound and shard is not None:
            self._bound[shard].append(item)
            return
        for groups in (self._loose, *self._free):
            if group in groups:
                groups[group].append(item)
                return
        (self._loose if shard is None else self._preferring[shard])[group] = deque([item])

    def take(self, shard: int) -> Item | None:
        """The next item for a shard that has nothing to do; None if there is none for it."""
        mine = self._bound[shard]
        if not mine:
            mine.extend(self._group(shard))
        return mine.popleft() if mine else None

    def drop(self, shard: int) -> list[Item]:
        """Forgets and returns what waits for a shard that is gone."""
        return [*self._bound.pop(shard, ()), *chain(*self._preferring.pop(shard, {}).values())]

    def _group(self, shard: int) -> deque[Item]:
        """The first group that prefers the shard, or nobody; else the last of the shard that most prefer."""
        for groups in (self._preferring[shard], self._loose):
            if groups:
                return groups.pop(next(iter(groups)))
        longest = max(self._free, key=len)
        return longest.popitem()[1] if longest else deque()
