"""The shards' actors: as many as the cluster has room for, replaced when they are lost, each with all networks."""

import logging
from collections.abc import Mapping
from typing import Any

import ray
import torch
from ray.exceptions import ObjectLostError, RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from openal_ray.cluster.room import draining
from openal_ray.cluster.share import DECODER, Share
from openal_ray.data.decoded import Decoded, decode_all
from openal_ray.data.images import Images
from openal_ray.errors import ResourceError, UserError
from openal_ray.models.learners import Learner
from openal_ray.shard import ReadOrder, Settings, Shard

log = logging.getLogger(__name__)
LOST = (RayActorError, ObjectLostError)
"""A shard is gone, or its answer is, with the node on which both lay until somebody fetched it."""


class ShardActor:
    """A Ray shell around one plain Shard."""

    def __init__(self, images: Mapping[str, Images], settings: Settings) -> None:
        torch.set_num_threads(settings.read.threads)
        self.shard = Shard(images, settings)

    def node(self) -> str:
        """The node that it is on."""
        found: str = ray.get_runtime_context().get_node_id()
        return found

    def call(self, method: str, *arguments: Any) -> Any:
        return getattr(self.shard, method)(*arguments)


def decode_block(images: Mapping[str, Images], settings: Settings, order: ReadOrder, block: int) -> Decoded:
    """The pictures of a block, decoded by whoever has a CPU; Ray does it again elsewhere if that is lost."""
    return decode_all(images[order.images], order.block(block), settings.read.batch_size, settings.skip_bad_images)


class Crew:
    """Shards by number. A number is given once: what a lost shard held is never taken for its successor's.

    actors    all of them, those included that still wait for a place in the cluster
    starting  calls that bring a shard to where it can read, and its number
    """

    def __init__(self, images: Mapping[str, Images], settings: Settings, share: Share) -> None:
        self._images, self._settings, self._share = ray.put(dict(images)), settings, share
        self._networks: dict[str, tuple[Any, Any, str]] = {}
        self._decode = ray.remote(decode_block).options(num_cpus=DECODER["CPU"], scheduling_strategy="SPREAD")
        self._nodes: dict[int, str] = {}
        self._spawned = 0
        self.actors: dict[int, Any] = {}
        self.starting: dict[Any, int] = {}

    @property
    def ready(self) -> list[int]:
        """Shards that have a place and hold all networks."""
        waiting = set(self.starting.values())
        return [number for number in self.actors if number not in waiting]

    def call(self, number: int, method: str, *arguments: Any) -> Any:
        """A reference to the answer."""
        return self.actors[number].call.remote(method, *arguments)

    def read(self, number: int, order: Any, block: int) -> Any:
        """A reference to what comes of a block; its pictures are decoded by the shard, or by a task before.

        order  a reference to a ReadOrder
        """
        if not self._share.decoders:
            return self.call(number, "read", order, block)
        return self.call(number, "read", order, block, self._decode.remote(self._images, self._settings, order, block))

    def load(self, learner: Learner, weights: Mapping[str, torch.Tensor], name: str) -> None:
        self._networks[name] = (learner, ray.put(dict(weights)), name)
        for number in self.actors:
            self.starting[self.call(number, "load", *self._networks[name])] = number

    def follow(self, useful: int) -> None:
        """Has as many shards as would have something to do, as far as the cluster has room for them."""
        limit = self._share.limit()
        homeless = [number for number in self.actors if number not in self._nodes]
        for number in homeless[: max(0, len(self.actors) - limit)]:
            self.dismiss(number)  # it would ask the autoscaler for a place
        while len(self.actors) < min(limit, max(useful, self._share.fewest)):
            self._spawn()

    def settle(self, call: Any) -> None:
        """Takes the answer to a call of `starting`; raises what `answer_of` does."""
        number = self.starting.pop(call)
        found = answer_of(call)
        if isinstance(found, str):
            self._nodes[number] = found

    def leaving(self) -> list[int]:
        """Shards whose node is about to be taken away, if others can go on."""
        nodes = draining()
        found = [number for number, node in self._nodes.items() if node in nodes]
        return found if set(self.ready) - set(found) else []

    def dismiss(self, number: int) -> None:
        """Ends a shard. One that is out of reach must not come back and answer twice either."""
        ray.kill(self.actors.pop(number))
        self._nodes.pop(number, None)
        self.starting = {call: other for call, other in self.starting.items() if other != number}

    def _spawn(self) -> None:
        number, share = self._spawned, self._share
        self._spawned += 1
        actor = ray.remote(ShardActor).options(
            num_cpus=share.cpus_per_shard, num_gpus=share.gpus_per_shard, scheduling_strategy=_place()
        )
        self.actors[number] = actor.remote(self._images, self._settings)
        self.starting[self.actors[number].node.remote()] = number
        for network in self._networks.values():
            self.starting[self.call(number, "load", *network)] = number


def answer_of(call: Any) -> Any:
    """What a call returned; an error of the code that ran there is raised as itself, not wrapped by Ray.

    raises  LOST           if the shard was lost
            ResourceError  if it could not start, or waits for pictures that no decoder lives to give it
    """
    try:
        return ray.get(call)
    except RayActorError as error:
        if error.actor_init_failed:
            raise ResourceError(f"a shard cannot start: {error}") from None
        raise
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        if isinstance(error.cause, RayError):  # of the task that decodes for it, which Ray has tried again by itself
            raise ResourceError(
                "pictures could not be decoded outside the shards (cluster.decoders): the task was lost as often as "
                f"Ray tries it again, the last time with {type(error.cause).__name__}; see Ray's logs for why"
            ) from None
        raise error.cause from error  # a bug: the remote traceback says where


def _place() -> Any:
    """All nodes; or, in a trial of a sweep, the bundles of its placement group, which are there for its shards."""
    group = ray.util.get_current_placement_group()
    return PlacementGroupSchedulingStrategy(group) if group and group.bundle_count > 1 else "SPREAD"
