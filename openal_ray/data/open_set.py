"""Open-set forms of a closed data set: some classes are known, the images of all others are out-of-distribution (OOD).

Two families of protocols exist, and their results cannot be compared. *Noise ratio* (OpenAL, MQNet, CCAL, ALScope): so
many OOD images are drawn that they make up a given share of the pool. *Mismatch* (LfOSA, EOAL, EAOA): every image of a
class that is not known is OOD. See `openal_ray.start_set` for the start sets of both.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from typing import Literal

import numpy as np

from openal_ray.data.dataset import Dataset
from openal_ray.data.images import Images, Subset
from openal_ray.data.joined import Joined
from openal_ray.data.known_classes import Draw, Known, known_classes
from openal_ray.errors import ConfigError
from openal_ray.pool import OUT_OF_DISTRIBUTION

ShareOf = Literal["pool", "all"]


@dataclass(frozen=True)
class OpenSet:
    """How a data set is opened.

    known        which classes are known; see `known_classes`
    draw         how they are drawn where `known` is a number
    unknown      words that mean "none of the classes": images of a class of such a name are OOD
    noise_ratio  share of OOD images in the pool, 0 <= noise_ratio < 1; None: the mismatch family, all of them
    share_of     what the noise ratio is a share of: pool; or all, the data set's images, as in ALScope's code, where
                 known ones are left out if OOD images are too few to be that share
    clean_start  images of a start set without OOD that the noise ratio does not count (CCAL: 800)
    seed         draws which OOD images stay; not the experiment's seed, so all its runs share one data set
    """

    known: Known = None
    draw: Draw = Draw()
    unknown: tuple[str, ...] = ()
    noise_ratio: float | None = None
    clean_start: int = 0
    seed: int = 0
    share_of: ShareOf = "pool"

    @property
    def family(self) -> str:
        """For reports: figures of different families do not belong into one table."""
        return "mismatch" if self.noise_ratio is None else "noise ratio"


@dataclass(frozen=True, eq=False)
class Opened:
    """An open-set data set.

    dataset   classes are the known ones; train labels are places among them, -1 = OOD; only known ones are tested.
              Its first train images are those of the closed data set, under the same dataset indices, whatever is
              known: what was read from them with a fixed network serves every protocol, seed and noise ratio
              Its `outside` are images that the noise ratio leaves over, or OOD ones that the source marks as validation
    ood_test  the test images of no known class, to evaluate rejection; may be empty
    """

    dataset: Dataset
    ood_test: Images


def opened(closed: Dataset, protocol: OpenSet, other: Dataset | None = None) -> Opened:
    """The data set under a protocol; labels below 0 (not labelled yet, or OOD already) stay as they are.

    other   its train images follow those of `closed` and are OOD, as are its test images; pictures of another shape are
            converted
    raises  ConfigError
    """
    known = known_classes(closed.classes, protocol.known, protocol.draw, protocol.unknown)
    place = np.full(len(closed.classes), OUT_OF_DISTRIBUTION, dtype=np.int64)
    place[known] = np.arange(len(known))
    labels = np.where(closed.labels >= 0, place[closed.labels], closed.labels)
    is_validation = np.zeros(len(labels), dtype=bool)
    is_validation[closed.validation] = True
    test_labels = place[closed.test_labels]
    in_test, ood_test = np.flatnonzero(test_labels >= 0), np.flatnonzero(test_labels < 0)
    if not len(in_test):
        raise ConfigError(f"open_set.known: {closed.name} has no test image of the known classes")
    train: Images = closed.train
    rejected_test: Images = Subset(closed.test, ood_test)
    if other is not None:
        train = Joined(train, other.train, f"{other.name}/")
        rejected_test = Joined(rejected_test, other.test, f"{other.name}/")
        labels = np.append(labels, np.full(len(other.train), OUT_OF_DISTRIBUTION))
        is_validation = np.append(is_validation, np.zeros(len(other.train), dtype=bool))
    dataset = replace(
        closed,
        name=closed.name if other is None else f"{closed.name}+{other.name}",
        classes=tuple(closed.classes[number] for number in known),
        train=train,
        labels=labels,
        test=Subset(closed.test, in_test),
        test_labels=test_labels[in_test],
        validation=np.flatnonzero(is_validation & (labels >= 0)),
    )
    outside = np.flatnonzero(is_validation & (labels < 0))
    surplus = _surplus(
        dataset,
        protocol,
        *(np.flatnonzero(~is_validation & which) for which in (labels >= 0, labels == OUT_OF_DISTRIBUTION)),
    )
    return Opened(replace(dataset, outside=np.union1d(outside, surplus)), rejected_test)


def ood_count(n_id: int, protocol: OpenSet) -> int:
    """How many OOD images join `n_id` pool images of known classes so that their share is the noise ratio.

    round(n · τ / (1 - τ)) as OpenAL and MQNet; with a clean start, rounded up as CCAL. τ counts as the decimal it is
    written as, so that no float error adds an image.
    raises   ConfigError
    """
    if protocol.noise_ratio is None or not 0 <= protocol.noise_ratio < 1:
        raise ConfigError(f"open_set.noise_ratio must be in [0, 1), got {protocol.noise_ratio}")
    if not 0 <= protocol.clean_start <= n_id:
        raise ConfigError(
            f"open_set.clean_start must be 0 … {n_id} (images of the known classes), got {protocol.clean_start}"
        )
    ratio = Fraction(str(protocol.noise_ratio))
    exact = (n_id - protocol.clean_start) * ratio / (1 - ratio)
    return ceil(exact) if protocol.clean_start else round(exact)


def _surplus(dataset: Dataset, protocol: OpenSet, known: np.ndarray, ood: np.ndarray) -> np.ndarray:
    """Those of the indices of both kinds that the noise ratio leaves over."""
    if protocol.noise_ratio is None:
        return ood[:0]
    rng = np.random.default_rng(protocol.seed)
    if protocol.share_of == "all":
        if protocol.clean_start:
            raise ConfigError("open_set.clean_start is counted with open_set.share_of=pool only; leave one of them out")
        ratio = Fraction(str(protocol.noise_ratio))
        wanted = round(ratio * (len(known) + len(ood)))
        if wanted <= len(ood):
            return np.sort(rng.permutation(ood)[wanted:])
        return np.sort(rng.permutation(known)[round(len(ood) / ratio - len(ood)) :])
    wanted = ood_count(len(known), protocol)
    if wanted > len(ood):
        counted = len(known) - protocol.clean_start
        raise ConfigError(
            f"open_set.noise_ratio={protocol.noise_ratio} beside {counted} images of {len(dataset.classes)} known "
            f"classes needs {wanted} OOD images, but {dataset.name} has {len(ood)}: at most "
            f"{np.floor(1000 * len(ood) / (len(ood) + counted)) / 1000}. Lower it, know fewer classes, or leave out "
            "known images by open_set.share_of=all."
        )
    return np.sort(rng.permutation(ood)[wanted:])
