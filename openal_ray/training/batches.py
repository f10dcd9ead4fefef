"""Which images make up each batch of an epoch, and which part of a batch each process of a team takes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from openal_ray import config, seeds


@dataclass(frozen=True)
class Part:
    """One process's part of a batch.

    positions  [m] places in the job's arrays, m >= 2
    count      how many of them count; the rest repeats, so that no process is idle and BatchNorm never sees one image
    weight     what the mean loss over `positions` is multiplied by, so that the mean over processes of the sums over
               the batches of one step is the mean over all images of that step
    last       whether the batch completes a step
    """

    positions: np.ndarray
    count: int
    weight: float
    last: bool


def per_epoch(count: int, plan: config.Train) -> int:
    """How many batches an epoch over `count` images has."""
    return plan.steps_per_epoch or _per_pass(count, plan)


def of_epoch(count: int, plan: config.Train, seed: int, epoch: int) -> list[np.ndarray]:
    """The positions in every batch of one epoch, the same for every number of processes.

    A pass is a permutation of all `count` positions, cut into nearly equal batches. With `steps_per_epoch`, passes
    follow each other across epochs, so that every image is seen before one is repeated.
    """
    a_pass, batches = _per_pass(count, plan), per_epoch(count, plan)
    numbers = range(epoch * batches, (epoch + 1) * batches)
    passes = {
        number: np.array_split(seeds.rng(seed, number, "batches").permutation(count), a_pass)
        for number in range(numbers[0] // a_pass, numbers[-1] // a_pass + 1)
    }
    return [passes[number // a_pass][number % a_pass] for number in numbers]


def parts(batches: Sequence[np.ndarray], accumulate: int, rank: int, size: int) -> Iterator[Part]:
    """What process `rank` of `size` takes of each batch; `accumulate` batches make a step, the last perhaps fewer."""
    for first in range(0, len(batches), accumulate):
        step = batches[first : first + accumulate]
        images = sum(len(batch) for batch in step)
        for number, batch in enumerate(step, 1):
            mine = batch[rank::size]
            positions = np.resize(mine if len(mine) else batch, max(len(mine), 2))
            yield Part(positions, len(mine), len(mine) * size / images, number == len(step))


def _per_pass(count: int, plan: config.Train) -> int:
    return max(1, -(-count // plan.batch_size))
