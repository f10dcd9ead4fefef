"""Which images make up each batch of an epoch, and each micro-batch of a batch."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from openal_ray import config, seeds


@dataclass(frozen=True)
class Part:
    """What a micro-batch has of one batch.

    number       of the micro-batch
    positions    [m] places in the job's arrays, m >= 2
    count        how many of them count; the rest repeats, so that none is empty and BatchNorm never sees one image
    weight       what the mean loss over `positions` is multiplied by, so that the sum over all parts of a step is the
                 mean over all its images
    first, last  whether it begins and completes what the micro-batch does for a step
    """

    number: int
    positions: np.ndarray
    count: int
    weight: float
    first: bool
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


def parts(batches: Sequence[np.ndarray], accumulate: int, micro_batches: int, numbers: Sequence[int]) -> Iterator[Part]:
    """The parts of the micro-batches with these numbers, out of `micro_batches`: step by step, one after the other.

    `accumulate` batches make a step, the last perhaps fewer.
    """
    for begin in range(0, len(batches), accumulate):
        step = batches[begin : begin + accumulate]
        images = sum(len(batch) for batch in step)
        for number, (place, batch) in itertools.product(numbers, enumerate(step)):
            mine = batch[number::micro_batches]
            positions = np.resize(mine if len(mine) else batch, max(len(mine), 2))
            yield Part(number, positions, len(mine), len(mine) / images, place == 0, place == len(step) - 1)


def _per_pass(count: int, plan: config.Train) -> int:
    return max(1, -(-count // plan.batch_size))
