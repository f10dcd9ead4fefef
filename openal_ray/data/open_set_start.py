"""The images that the open-set protocols label before round 0."""

from fractions import Fraction

import numpy as np

from openal_ray.errors import ConfigError
from openal_ray.pool import OUT_OF_DISTRIBUTION, DatasetOracle, Listed


def noise_ratio_start(
    labels: np.ndarray, available: np.ndarray, count: int, noise_ratio: float, rng: np.random.Generator
) -> np.ndarray:
    """int(count · (1 - τ)) images of known classes, stratified, and int(count · τ) OOD images, in random order.

    labels     int64 [n] of all train images: a class, -1 = OOD
    available  dataset indices of the pool
    source     OpenAL make_startset, MQNet. Differs: τ is the decimal it is written as, so that 500 images at τ = .9
               are 50 + 450, where floats give OpenAL 49 + 450; and stratified also where MQNet draws at random
    raises     ConfigError if the pool has fewer
    """
    share = Fraction(str(noise_ratio))
    known = _stratified(labels, available, int(count * (1 - share)), rng)
    ood = available[labels[available] == OUT_OF_DISTRIBUTION]
    wanted = int(count * share)
    if wanted > len(ood):
        raise ConfigError(f"budget.n_start={count} takes {wanted} OOD images, but the pool has {len(ood)}")
    return rng.permutation(np.concatenate([known, rng.permutation(ood)[:wanted]]))


def mismatch_start(labels: np.ndarray, available: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """That share of the images of known classes, at random, and no OOD image.

    share   of each hundred images: .08 for LfOSA, EOAL and EAOA on CIFAR-100, .01 on CIFAR-10
    source  LfOSA, EOAL, EAOA: the first of the shuffled in-distribution images, not stratified
    raises  ConfigError if that is no image
    """
    known = available[labels[available] >= 0]
    count = int(Fraction(str(share)) * len(known))
    if not 1 <= count <= len(known):
        raise ConfigError(
            f"the start set must be a share in (0, 1] of the {len(known)} images of known classes that comes to at "
            f"least one image, got {share}"
        )
    return rng.permutation(known)[:count]


def clean_start(labels: np.ndarray, available: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` images of known classes, stratified, and no OOD image, in random order (CCAL; stratified is ours).

    raises  ConfigError if the pool has fewer
    """
    return _stratified(labels, available, count, rng)


def _stratified(labels: np.ndarray, available: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    known = available[labels[available] >= 0]
    n_classes = int(labels.max()) + 1
    present = len(np.unique(labels[known]))
    if count > len(known) or count < present:
        raise ConfigError(
            f"budget.n_start takes {count} images of known classes; it must be {present} (one of each class) … "
            f"{len(known)} (all there are)"
        )
    return DatasetOracle(labels).stratified(Listed(known), count, n_classes, rng)
