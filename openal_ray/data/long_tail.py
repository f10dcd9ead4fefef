"""Long-tailed forms of a balanced data set: classes of very different sizes to train on, the same test images."""

from dataclasses import replace

import numpy as np

from openal_ray.data.dataset import Dataset
from openal_ray.data.images import Subset
from openal_ray.errors import ConfigError, unknown_name

_FORMS = ("exp", "step")


def long_tail_counts(largest: int, n_classes: int, imbalance: str, factor: float) -> np.ndarray:
    """How many images each class keeps.

    largest    images of the largest class
    imbalance  "exp": class c keeps largest · factor^(-c / (n_classes - 1)); "step": the first half of the classes
               keeps all, the rest largest / factor
    factor     largest ÷ smallest class, >= 1
    returns    int64 [n_classes], rounded down, at least 1
    raises     ConfigError
    source     Cao et al. 2019 (arXiv 1906.07413); OpenAL's CIFAR10LT
    """
    if imbalance not in _FORMS:
        raise ConfigError(f"data.params.imbalance: {unknown_name('form', imbalance, _FORMS)}")
    if not 1 <= factor < np.inf:
        raise ConfigError(f"data.params.factor must be a number >= 1 (largest / smallest class), got {factor}")
    classes = np.arange(n_classes)
    if imbalance == "exp":
        counts = largest * float(factor) ** (-classes / max(1, n_classes - 1))
    else:
        counts = np.where(classes < n_classes // 2, float(largest), largest / factor)
    return np.maximum(1, counts.astype(np.int64))


def long_tail(dataset: Dataset, imbalance: str, factor: float, seed: int) -> Dataset:
    """`dataset` with fewer training images; those kept stay in order and keep their sample ids.

    seed  draws which images of a class are kept; not the experiment's seed, so all its runs share one data set
    """
    sizes = np.bincount(dataset.labels, minlength=len(dataset.classes))
    counts = long_tail_counts(int(sizes.max()), len(sizes), imbalance, factor)
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(np.flatnonzero(dataset.labels == label))[:count] for label, count in enumerate(counts)]
    kept = np.sort(np.concatenate(drawn))
    return replace(
        dataset,
        train=Subset(dataset.train, kept),
        labels=dataset.labels[kept],
        validation=np.flatnonzero(np.isin(kept, dataset.validation)),
    )
