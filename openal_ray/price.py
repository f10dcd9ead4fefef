"""What a run costs, worked out from plain numbers before it starts: images, passes, steps, minutes, memory, bytes.

Arithmetic alone: dry_run.py finds the numbers. Every count is exact but for images that turn out undecodable or
out-of-distribution; minutes assume that the rates hold, and that work divides evenly.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil

SCORED_ROW = 16  # bytes of a candidate that is known by index and score


@dataclass(frozen=True)
class Training:
    """One training of one network on `images` labels, with the keys of train.…

    network      its name; "" is the classifier
    trials       trainings of this kind, in a search for hyper-parameters
    at_once      how many of them at the same time
    weights      bytes of its weights
    validation   images of the validation split, which every epoch looks at
    """

    images: int
    epochs: int
    batch_size: int
    steps_per_epoch: int | None = None
    accumulate: int = 1
    validation: int = 0
    weights: int = 0
    network: str = ""
    trials: int = 1
    at_once: int = 1

    @property
    def steps(self) -> int:
        """Steps of the optimiser; without a label there is nothing to train."""
        return self._epochs * ceil(self._batches / self.accumulate) if self.images else 0

    @property
    def seen(self) -> int:
        """Images that go forward and backward: so many passes over the labels, or parts of one."""
        return round(self._epochs * self._batches * self.images / self._a_pass) if self.images else 0

    @property
    def checked(self) -> int:
        """Validation images that go forward."""
        return self._epochs * self.validation if self.images else 0

    @property
    def _epochs(self) -> int:
        return self.trials * self.epochs

    @property
    def _a_pass(self) -> int:
        return max(1, ceil(self.images / self.batch_size))

    @property
    def _batches(self) -> int:
        return self.steps_per_epoch or self._a_pass


@dataclass(frozen=True)
class Read:
    """One read of images by the shards.

    images  how many are read
    passes  forward passes for each, over all networks
    row     bytes of signals that an image leaves in its shard
    held    images whose signals lie in the shards afterwards; more than `images` where they lay there already
    kind    query or evaluate: which rate holds
    """

    images: int
    passes: int
    row: int
    held: int
    kind: str = "query"


@dataclass(frozen=True)
class Round:
    """What is done in one round: query (not in round 0), train, evaluate.

    gathered  bytes that shards send to the driver besides candidates: signals of labelled and test images
    pick_row  bytes of one candidate on its way to the driver and of one pick on its way back
    loaded    bytes of the weights that each shard takes
    """

    number: int
    labelled: int
    queried: int
    reads: tuple[Read, ...]
    trainings: tuple[Training, ...]
    gathered: int = 0
    pick_row: int = SCORED_ROW
    loaded: int = 0


@dataclass(frozen=True)
class Shape:
    """What holds for all rounds.

    shards, trainers       how many work side by side
    pool, test             images
    picture                bytes of a decoded picture
    block                  images of a block; block b lives on shard b mod shards
    cache                  bytes of decoded pictures a shard may keep; 0 if they lie in memory anyway
    batch                  bytes of a batch of pixels as floats
    networks               bytes of all networks that a shard holds
    on_disk                whether signals are kept on disk
    """

    shards: int
    trainers: int
    pool: int
    test: int
    picture: int
    block: int = 1024
    cache: int = 0
    batch: int = 0
    networks: int = 0
    on_disk: bool = False


@dataclass(frozen=True)
class Rates:
    """Images a second of one device. A rate of 0 is unknown.

    train   by network; "" is the classifier, and stands for those that are not listed
    source  how they are known
    """

    query: float
    evaluate: float
    train: Mapping[str, float] = field(default_factory=dict)
    source: str = "stated"

    def of_training(self, network: str) -> float:
        return self.train.get(network, self.train.get("", 0.0))


@dataclass(frozen=True)
class Row:
    """One round's price, or the sum of all (number -1); device minutes are None where no rate is known.

    wall_minutes  at least so long, with all shards and trainers at work side by side
    moved_bytes   between driver, shards and trainers; pictures and checkpoints not counted
    shard_bytes   peak of the fullest shard: signals, cached pictures, networks, a batch; not the layers' own memory
    """

    number: int
    labelled: int
    queried: int
    images_read: int
    forward_passes: int
    training_steps: int
    training_images: int
    read_minutes: float | None
    train_minutes: float | None
    wall_minutes: float | None
    moved_bytes: int
    shard_bytes: int


def price(shape: Shape, rounds: Sequence[Round], rates: Rates) -> tuple[list[Row], Row]:
    """Every round's price, and the whole run's: sums, and the peak of what is a peak."""
    rows = [_row(shape, round, rates) for round in rounds]
    total = Row(
        -1, max((row.labelled for row in rows), default=0), sum(row.queried for row in rows),
        sum(row.images_read for row in rows), sum(row.forward_passes for row in rows),
        sum(row.training_steps for row in rows), sum(row.training_images for row in rows),
        _sum(row.read_minutes for row in rows), _sum(row.train_minutes for row in rows),
        _sum(row.wall_minutes for row in rows), sum(row.moved_bytes for row in rows),
        max((row.shard_bytes for row in rows), default=0),
    )  # fmt: skip
    return rows, total


def largest_part(images: int, shards: int, block: int) -> int:
    """Images of the fullest shard, shard 0, if blocks go round: it holds every `shards`-th block, perhaps the last."""
    blocks = ceil(images / block)
    mine = ceil(blocks / shards)
    short = blocks * block - images  # of the last block
    return mine * block - (short if blocks and (blocks - 1) % shards == 0 else 0)


def _row(shape: Shape, round: Round, rates: Rates) -> Row:
    read = _sum(_minutes(each.images, getattr(rates, each.kind)) for each in round.reads)
    trained = [_train_minutes(each, rates) for each in round.trainings]
    train = _sum(trained)
    at_once = _sum(None if took is None else took / each.at_once
                   for took, each in zip(trained, round.trainings, strict=True))  # fmt: skip
    wall = None if read is None or at_once is None else read / shape.shards + at_once / shape.trainers
    return Row(
        round.number, round.labelled, round.queried,
        sum(each.images for each in round.reads), sum(each.images * each.passes for each in round.reads),
        sum(each.steps for each in round.trainings), sum(each.seen for each in round.trainings),
        read, train, wall, _moved(shape, round), _held(shape, round),
    )  # fmt: skip


def _train_minutes(training: Training, rates: Rates) -> float | None:
    seen = _minutes(training.seen, rates.of_training(training.network))
    return _sum([seen, _minutes(training.checked, rates.evaluate)])


def _minutes(images: int, rate: float) -> float | None:
    if not images:
        return 0.0
    return images / rate / 60 if rate else None


def _sum(minutes: Iterable[float | None]) -> float | None:
    """The sum, which is unknown if a part of it is."""
    total = 0.0
    for part in minutes:
        if part is None:
            return None
        total += part
    return total


def _moved(shape: Shape, round: Round) -> int:
    trained = sum(each.trials * each.weights for each in round.trainings)  # from the trainers to the driver
    picks = 2 * shape.shards * round.queried * round.pick_row  # each shard proposes, and hears what was picked
    return trained + shape.shards * round.loaded + round.gathered + picks


def _held(shape: Shape, round: Round) -> int:
    part = largest_part(shape.pool, shape.shards, shape.block)
    tests = largest_part(shape.test, shape.shards, shape.block)
    fullest = {"query": part / max(1, shape.pool), "evaluate": tests / max(1, shape.test)}
    held: dict[str, list[int]] = {"query": [0], "evaluate": [0]}
    for each in round.reads:
        held[each.kind].append(ceil(each.held * fullest[each.kind]) * each.row)
    # The readings of one kind lie there together; while one is joined, its blocks are there twice.
    signals = 0 if shape.on_disk else max(sum(sizes) + max(sizes) for sizes in held.values())
    pictures = sum(min(shape.cache // 2, images * shape.picture) for images in (part, tests))
    return signals + pictures + 2 * shape.networks + shape.batch  # a shard keeps a blank of each network
