"""The one training loop: used in this process, in Ray Train's workers, on CPU and GPU, alone and in data-parallel teams."""

import copy
import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import distributed, nn

from openal_ray import config, seeds
from openal_ray.data.images import Images
from openal_ray.errors import ConfigError, TrainingError, unknown_name
from openal_ray.models.learners import Learner
from openal_ray.models.pixels import Normalise, augmentation

State = dict[str, Any]
AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, eq=False)
class Job:
    """One training, complete: the same job gives the same weights on the same kind and number of workers.

    indices, targets        [L] the images to learn from and their classes
    validation              [V] indices and [V] classes, never test images; may be empty
    start                   weights to begin with, or None for fresh ones
    init_seed, order_seed   seeds of the fresh weights, and of batches, augmentation and dropout
    """

    name: str
    learner: Learner
    indices: np.ndarray
    targets: np.ndarray
    plan: config.Train
    mean: tuple[float, ...]
    std: tuple[float, ...]
    init_seed: int
    order_seed: int
    validation: tuple[np.ndarray, np.ndarray] = field(default_factory=lambda: (np.empty(0, int), np.empty(0, int)))
    start: Mapping[str, torch.Tensor] | None = None

    @property
    def digest(self) -> str:
        """Tells this job from any other, so that no checkpoint of another one is continued."""
        parts = [self.name, self.learner, self.plan, self.init_seed, self.order_seed, self.mean, self.std]
        digest = hashlib.blake2b(repr(parts).encode(), digest_size=16)
        for array in (self.indices, self.targets, *self.validation):
            digest.update(np.ascontiguousarray(array).tobytes())
        for tensor in (self.start or {}).values():
            digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes() if tensor.ndim else repr(tensor).encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class Epoch:
    """What one epoch of training came to; accuracies are shares of images, validation is nan without a split."""

    epoch: int
    epochs: int
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Trained:
    """Weights on the CPU, and the epochs that led to them."""

    weights: dict[str, torch.Tensor]
    history: tuple[Epoch, ...]


@dataclass(frozen=True)
class Team:
    """One process's place among those that train together; a team of one by default."""

    device: torch.device = torch.device("cpu")
    rank: int = 0
    size: int = 1


class Keeper(Protocol):
    """Where a training leaves its progress, so that it can be followed, and go on after a lost worker."""

    def resume(self) -> State | None:
        """The last saved state of this very job, or None."""
        ...

    def epoch_done(self, epoch: Epoch, state: Callable[[], State]) -> None:
        """Called on every rank after every epoch; `state` builds what `resume` would need."""
        ...


class NoKeeper:
    """Keeps nothing; tells a listener."""

    def __init__(self, listener: Callable[[Epoch], None] = lambda epoch: None) -> None:
        self.listener = listener

    def resume(self) -> State | None:
        return None

    def epoch_done(self, epoch: Epoch, state: Callable[[], State]) -> None:
        self.listener(epoch)


def train(job: Job, images: Images, team: Team, keeper: Keeper) -> Trained:
    """Runs the job and returns the weights that the plan asks for (`last`, or `best` on validation).

    raises  TrainingError  when the loss is not finite
    """
    devices = [team.device.index or 0] if team.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), ThreadPoolExecutor(1) as ahead:
        return _Training(job, images, team, ahead).run(keeper)


class _Training:
    """The state of one running job."""

    def __init__(self, job: Job, images: Images, team: Team, ahead: ThreadPoolExecutor) -> None:
        self.job, self.images, self.team, self.plan, self.ahead = job, images, team, job.plan, ahead
        torch.manual_seed(job.init_seed)
        network = job.learner.build(images.shape)
        if job.start is not None:
            network.load_state_dict(dict(job.start))
        self.network = network.to(team.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.parallel = self.network
        if team.size > 1:
            self.parallel = nn.parallel.DistributedDataParallel(
                self.network, device_ids=[team.device] if team.device.type == "cuda" else None
            )
        self.normalise = Normalise(job.mean, job.std).to(team.device)
        self.augment = augmentation(self.plan.augment, images.shape)
        self.batches = _batches_per_epoch(len(job.indices), self.plan)
        self.optimizer = _optimizer(self.plan.optimizer, self.network)
        self.scheduler = _scheduler(self.optimizer, self.plan, math.ceil(self.batches / self.plan.accumulate))
        self.scaler = torch.amp.GradScaler(team.device.type, enabled=self.plan.precision == "float16")
        self.history: list[Epoch] = []
        self.best: dict[str, torch.Tensor] | None = None

    def run(self, keeper: Keeper) -> Trained:
        if not len(self.job.indices):  # nothing is labelled yet: the fresh network is all there is
            return Trained(_on_cpu(self.network), ())
        if (saved := keeper.resume()) is not None:
            self._restore(saved)
        for number in range(len(self.history), self.plan.epochs):
            if self._out_of_patience():
                break
            self.history.append(self._epoch(number))
            if self.plan.weights == "best" and self._is_best():
                self.best = _on_cpu(self.network)
            keeper.epoch_done(self.history[-1], self._state)
        return Trained(self.best or _on_cpu(self.network), tuple(self.history))

    def _epoch(self, number: int) -> Epoch:
        begin = time.perf_counter()
        # Seeded by epoch and rank, so that an epoch after a restart is the epoch of an undisturbed run.
        torch.manual_seed(seeds.derive(self.job.order_seed, number, f"rank {self.team.rank}"))
        self.network.train()
        totals = torch.zeros(3, dtype=torch.float64, device=self.team.device)  # Σ loss·n, right answers, n
        for step, (share, positions) in enumerate(self._epoch_batches(number)):
            update = (step + 1) % self.plan.accumulate == 0 or step + 1 == self.batches
            totals += self._step(*positions, share, update)
        loss, accuracy = self._mean(totals)
        if not math.isfinite(loss):
            raise TrainingError(
                f"{self.job.name}: the training loss became {loss} in epoch {number + 1} of {self.plan.epochs}. "
                f"Lower train.optimizer.lr (now {self.plan.optimizer.lr}) or set train.precision=float32; "
                "the rounds before this one are kept, `openal-ray resume` goes on from them."
            )
        held_loss, held_accuracy = self._validate()
        return Epoch(
            number, self.plan.epochs, loss, accuracy, held_loss, held_accuracy, time.perf_counter() - begin
        )

    def _step(self, pixels: np.ndarray, targets: np.ndarray, share: float, update: bool) -> torch.Tensor:
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self.team.device, non_blocking=True)
        classes = torch.from_numpy(targets).to(self.team.device, non_blocking=True)
        with nullcontext() if update else self._no_sync():
            with autocast(self.team.device, self.plan.precision):
                loss, right = self.job.learner.loss(self.parallel, self.normalise(self.augment(images)), classes)
            self.scaler.scale(loss * share / self.plan.accumulate).backward()
        if update:
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad(set_to_none=True)
            self.scheduler.step()
        return torch.stack([loss.detach().double() * len(targets), right.double(), right.new_tensor(len(targets))])

    def _no_sync(self) -> AbstractContextManager[None]:
        if isinstance(self.parallel, nn.parallel.DistributedDataParallel):
            return self.parallel.no_sync()
        return nullcontext()

    def _epoch_batches(self, number: int) -> Iterator[tuple[float, tuple[np.ndarray, np.ndarray]]]:
        """This rank's part of each batch, decoded one batch ahead: its weight in the team's mean, pixels, targets."""
        order = _order(len(self.job.indices), self.batches, self.plan, self.job.order_seed, number)
        parts = [_part(batch, self.team) for batch in order]
        waiting = self.ahead.submit(self._load, parts[0][1])
        for (weight, _), following in zip(parts, [*parts[1:], None], strict=True):
            ready = waiting.result()
            if following is not None:
                waiting = self.ahead.submit(self._load, following[1])
            yield weight, ready

    def _load(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.images.load(self.job.indices[positions]), self.job.targets[positions].astype(np.int64)

    def _validate(self) -> tuple[float, float]:
        indices, targets = self.job.validation
        if not len(indices):
            return math.nan, math.nan
        self.network.eval()
        totals = torch.zeros(3, dtype=torch.float64, device=self.team.device)
        mine = np.arange(len(indices))[self.team.rank :: self.team.size]
        with torch.inference_mode(), autocast(self.team.device, self.plan.precision):
            for positions in np.array_split(mine, max(1, -(-len(mine) // 256))):
                pixels = torch.from_numpy(self.images.load(indices[positions])).permute(0, 3, 1, 2)
                classes = torch.from_numpy(targets[positions].astype(np.int64)).to(self.team.device)
                batch = self.normalise(pixels.to(self.team.device))
                loss, right = self.job.learner.loss(self.network, batch, classes)
                totals += torch.stack([loss.double() * len(classes), right.double(), right.new_tensor(len(classes))])
        return self._mean(totals)

    def _mean(self, totals: torch.Tensor) -> tuple[float, float]:
        if self.team.size > 1:
            distributed.all_reduce(totals)
        loss, right, count = totals.tolist()
        return loss / max(count, 1), right / max(count, 1)

    def _is_best(self) -> bool:
        return self.history[-1].validation_loss <= min(epoch.validation_loss for epoch in self.history)

    def _out_of_patience(self) -> bool:
        losses = [epoch.validation_loss for epoch in self.history]
        return bool(self.plan.patience and losses and len(losses) - 1 - losses.index(min(losses)) >= self.plan.patience)

    def _state(self) -> State:
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "history": [asdict(epoch) for epoch in self.history],
            "best": self.best,
        }

    def _restore(self, state: State) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])
        self.history = [Epoch(**epoch) for epoch in state["history"]]
        self.best = state["best"]


def autocast(device: torch.device, precision: config.Precision) -> AbstractContextManager[Any]:
    """Mixed precision on this device; float32 needs none."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=AUTOCAST[precision])


def check_plan(plan: config.Train, shape: tuple[int, int, int]) -> None:
    """Raises ConfigError for an unknown optimiser, scheduler or augmentation, or parameters that they do not take."""
    parameter = nn.Linear(1, 1)
    _scheduler(_optimizer(plan.optimizer, parameter), plan, steps_per_epoch=1)
    augmentation(plan.augment, shape)
    if plan.precision == "float16" and not torch.cuda.is_available() and not plan.gpus_per_worker:
        raise ConfigError("train.precision=float16 needs a GPU; on CPUs use bfloat16 or float32")


def _on_cpu(network: nn.Module) -> dict[str, torch.Tensor]:
    return {key: copy.deepcopy(value.detach().cpu()) for key, value in network.state_dict().items()}


def _batches_per_epoch(count: int, plan: config.Train) -> int:
    return plan.steps_per_epoch or max(1, -(-count // plan.batch_size))


def _order(count: int, batches: int, plan: config.Train, seed: int, epoch: int) -> list[np.ndarray]:
    """The positions of every batch of one epoch, the same for every number of workers.

    A pass is a permutation cut into nearly equal parts, so that no last batch of one image upsets BatchNorm.
    With `steps_per_epoch`, passes follow each other across epochs until there are enough batches.
    """
    a_pass = max(1, -(-count // plan.batch_size))
    first = epoch * batches
    order = []
    for number in range(first, first + batches):
        permutation = seeds.rng(seed, number // a_pass, "batches").permutation(count)
        order.append(np.array_split(permutation, a_pass)[number % a_pass])
    return order


def _part(batch: np.ndarray, team: Team) -> tuple[float, np.ndarray]:
    """This rank's weight and positions of a batch.

    DDP averages over ranks; the weight turns that into the mean over the whole batch. A batch with less than one
    image a rank, or less than two for BatchNorm, is repeated first.
    """
    whole = np.resize(batch, max(len(batch), team.size, 2))
    mine = whole[team.rank :: team.size]
    return len(mine) * team.size / len(whole), mine


def _optimizer(choice: config.Optimizer, network: nn.Module) -> torch.optim.Optimizer:
    known = {
        name.lower(): value
        for name, value in vars(torch.optim).items()
        if isinstance(value, type) and issubclass(value, torch.optim.Optimizer) and value is not torch.optim.Optimizer
    }
    if choice.name.lower() not in known:
        raise ConfigError(f"train.optimizer.name: {unknown_name('optimiser', choice.name, known)}")
    try:
        made: torch.optim.Optimizer = known[choice.name.lower()](network.parameters(), lr=choice.lr, **choice.params)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"train.optimizer.params: {choice.name}: {error}") from None
    return made


def _scheduler(
    optimizer: torch.optim.Optimizer, plan: config.Train, steps_per_epoch: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The learning rate, step by step; milestones and step sizes are given in epochs."""
    warmup = round(plan.warmup_epochs * steps_per_epoch)
    steps = max(1, plan.epochs * steps_per_epoch - warmup)
    main = _main_scheduler(optimizer, plan, steps, steps_per_epoch)
    if not warmup:
        return main
    ramp = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
    return torch.optim.lr_scheduler.SequentialLR(optimizer, [ramp, main], milestones=[warmup])


def _main_scheduler(
    optimizer: torch.optim.Optimizer, plan: config.Train, steps: int, steps_per_epoch: int
) -> torch.optim.lr_scheduler.LRScheduler:
    schedulers = torch.optim.lr_scheduler
    params = dict(plan.scheduler.params)

    def multi_step() -> schedulers.LRScheduler:
        milestones = params.pop("milestones", [plan.epochs * 0.5, plan.epochs * 0.75])
        return schedulers.MultiStepLR(optimizer, [round(epoch * steps_per_epoch) for epoch in milestones], **params)

    def step() -> schedulers.LRScheduler:
        size = params.pop("step_size", 1)
        return schedulers.StepLR(optimizer, max(1, round(size * steps_per_epoch)), **params)

    makers: dict[str, Callable[[], schedulers.LRScheduler]] = {
        "constant": lambda: schedulers.ConstantLR(optimizer, factor=1.0, **params),
        "cosine": lambda: schedulers.CosineAnnealingLR(optimizer, T_max=steps, **params),
        "multi_step": multi_step,
        "step": step,
        "one_cycle": lambda: schedulers.OneCycleLR(
            # One step more than is used: PyTorch refuses a step past the end.
            optimizer, max_lr=plan.optimizer.lr, total_steps=steps + 1, **params
        ),
    }  # fmt: skip
    if plan.scheduler.name not in makers:
        raise ConfigError(f"train.scheduler.name: {unknown_name('scheduler', plan.scheduler.name, makers)}")
    try:
        return makers[plan.scheduler.name]()
    except (TypeError, ValueError) as error:
        raise ConfigError(f"train.scheduler.params: {plan.scheduler.name}: {error}") from None
