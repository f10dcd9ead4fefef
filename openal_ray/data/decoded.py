"""Pictures in batches, without those that cannot be decoded; made where the network is, or elsewhere before."""

from dataclasses import dataclass

import numpy as np

from openal_ray.data.images import Images
from openal_ray.errors import BadImages

Batch = tuple[np.ndarray, np.ndarray]
"""Indices [n], and their pictures uint8 [n, height, width, channels]."""


@dataclass(frozen=True)
class Decoded:
    """Pictures of a block, batch by batch, and the reason for each that could not be decoded."""

    batches: list[Batch]
    bad: dict[int, str]


def batches(indices: np.ndarray, size: int) -> list[np.ndarray]:
    """The indices, cut into batches."""
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def decode_all(images: Images, indices: np.ndarray, size: int, skip: bool) -> Decoded:
    """The pictures of these images; skip as in `decode`."""
    bad: dict[int, str] = {}
    return Decoded([decode(images, part, skip, bad) for part in batches(indices, size)], bad)


def decode(images: Images, indices: np.ndarray, skip: bool, bad: dict[int, str]) -> Batch:
    """One batch. With `skip`, bad pictures are left out and noted in `bad`; else they raise BadImages."""
    try:
        return indices, images.load(indices)
    except BadImages as error:
        if not skip:
            raise
        bad.update(zip(error.indices, error.reasons, strict=True))
        return decode(images, indices[~np.isin(indices, error.indices)], skip, bad)
