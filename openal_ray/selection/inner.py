"""Halves inside halves: a shard half that holds others of its own, and the driver's view of one of them."""

from collections.abc import Sequence
from typing import Any

from openal_ray.selection.halves import Halves


class Inner:
    """The halves called `name` inside `halves`, which answer to the verb `inner(name, verb, *args)`."""

    def __init__(self, halves: Halves, name: str) -> None:
        self._halves, self._name = halves, name

    def ask(self, verb: str, *args: Any) -> list[Any]:
        """The same question to all; answers in shard order."""
        return self._halves.ask("inner", self._name, verb, *args)

    def ask_each(self, verb: str, args: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Its own question to each; answers in shard order."""
        return self._halves.ask_each("inner", [(self._name, verb, *mine) for mine in args])
