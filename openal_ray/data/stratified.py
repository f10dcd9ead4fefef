"""A fixed share of the images, set apart with the same class proportions."""

import numpy as np


def held_out(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Positions to set apart, drawn class by class.

    labels   int64 [n], all >= 0
    count    how many to set apart; fewer come back where a class would otherwise lose its last image
    returns  int64 [<= count] positions in `labels`, ascending; the same for the same arguments
    """
    sizes = np.bincount(labels)
    exact = count * sizes / len(labels)
    quotas = np.floor(exact).astype(np.int64)
    # The images that rounding down left over go to the largest remainders; on a tie to the lower class.
    by_remainder = np.argsort(quotas - exact, kind="stable")
    quotas[by_remainder[: count - quotas.sum()]] += 1
    quotas = np.minimum(quotas, np.maximum(sizes - 1, 0))
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(np.flatnonzero(labels == label))[:quota] for label, quota in enumerate(quotas)]
    return np.sort(np.concatenate(drawn))
