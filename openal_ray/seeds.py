"""All randomness, derived from (seed, round, purpose), so that no draw depends on what ran before it."""

import hashlib

import numpy as np


def derive(seed: int, round: int, purpose: str) -> int:
    """A 63-bit seed for one purpose in one round, the same on every machine and in every process."""
    digest = hashlib.blake2b(f"{seed}/{round}/{purpose}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def rng(seed: int, round: int, purpose: str) -> np.random.Generator:
    """A generator for one purpose in one round."""
    return np.random.default_rng(derive(seed, round, purpose))
