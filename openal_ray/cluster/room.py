"""How many shards a cluster has room for, node by node, beside the trainers."""

from collections.abc import Iterable, Mapping
from math import ceil, floor
from typing import Any

import ray
from ray._private.state import state

Amounts = dict[str, float]
"""CPUs, GPUs and bytes of memory, by Ray's names for them."""
ENDLESS = 1_000_000  # shards that reserve nothing fit everywhere


def nodes() -> list[Amounts]:
    """What each node has that is alive and is not about to be taken away."""
    leaving = draining()
    return [_amounts(node) for node in ray.nodes() if node["Alive"] and node["NodeID"] not in leaving]


def draining() -> set[str]:
    """Nodes whose end has been announced, such as spot nodes that are reclaimed."""
    return set(state.get_draining_nodes())


def room(there: Iterable[Amounts], shard: Mapping[str, float], trainers: Iterable[Mapping[str, float]] = ()) -> int:
    """How many shards fit once the trainers have their places; an amount that a node does not tell does not count."""
    left = [dict(node) for node in there]
    for trainer in trainers:
        fitting = [node for node in left if _fits(trainer, node)]
        if fitting:
            tightest = min(fitting, key=lambda node: sum(node.get(name, 0) for name in trainer))
            tightest.update({name: tightest.get(name, 0) - amount for name, amount in trainer.items()})
    return min(ENDLESS, sum(_times(shard, node) for node in left))


def request(count: int, each: Mapping[str, float]) -> list[dict[str, int]]:
    """A request for `count` workers, in the whole numbers that autoscalers take; parts of a device are added up."""
    whole = {name: ceil(amount) for name, amount in each.items() if amount >= 1}
    parts = [{name: 1} for name, amount in each.items() if 0 < amount < 1 for _ in range(ceil(count * amount - 1e-9))]
    return [whole] * (count if whole else 0) + parts


def _amounts(node: Mapping[str, Any]) -> Amounts:
    found = {name: node["Resources"].get(name, 0.0) for name in ("CPU", "GPU")}
    memory = node["Resources"].get("memory")
    return found | ({"memory": memory} if memory else {})


def _fits(amounts: Mapping[str, float], node: Mapping[str, float]) -> bool:
    return all(amount <= node.get(name, 0) + 1e-9 for name, amount in amounts.items())


def _times(shard: Mapping[str, float], node: Mapping[str, float]) -> int:
    needed = {name: amount for name, amount in shard.items() if amount and name in node}
    return min((floor(node[name] / amount + 1e-9) for name, amount in needed.items()), default=ENDLESS)
