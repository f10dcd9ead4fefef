"""The one training loop: in this process and in Ray Train's workers, on CPU and GPU, alone and in teams."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from openal_ray import config, seeds
from openal_ray.data.images import Images
from openal_ray.errors import ConfigError, TrainingError
from openal_ray.models.learners import EpochLearner, HeadLearner
from openal_ray.models.pixels import Augmentation, Normalise, augmentation, check_augmentation
from openal_ray.training import batches, optimisation
from openal_ray.training.batches import Part
from openal_ray.training.job import Epoch, Job, Trained, kept_epoch
from openal_ray.training.micro_batches import MicroBatches
from openal_ray.training.team import Team

State = dict[str, Any]
AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}
VALIDATION_BATCH = 256  # images


class Keeper(Protocol):
    """Where a training leaves its progress, so that it can be followed, and go on after a lost worker."""

    def resume(self) -> State | None:
        """The last saved state of this very job, or None."""
        ...

    def epoch_done(self, epoch: Epoch, state: Callable[[], State]) -> None:
        """Called on every rank after every epoch; `state` builds what `resume` would need.

        The state's tensors are those that training goes on with: write them out before returning.
        """
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

    Every rank of a team must call it, and rank 0's weights count. Torch's global generator is left as it was.
    raises  TrainingError  when the loss or the weights are not finite
            BadImages      when a picture cannot be decoded
    """
    devices = [team.device.index or 0] if team.device.type == "cuda" else []
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, int(job.plan.cpus_per_worker)))  # sums depend on it, so it is the plan's, everywhere
    try:
        with torch.random.fork_rng(devices=devices), ThreadPoolExecutor(1) as ahead:
            return _Training(job, images, team, ahead).run(keeper)
    finally:
        torch.set_num_threads(threads)


class _Training:
    """The state of one running job."""

    def __init__(self, job: Job, images: Images, team: Team, ahead: ThreadPoolExecutor) -> None:
        self.job, self.images, self.team, self.plan, self.ahead = job, images, team, job.plan, ahead
        torch.manual_seed(job.init_seed)
        network = job.learner.build(images.shape)
        if job.start is not None:
            network.load_state_dict(dict(job.start))
        self.network = network.to(team.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        team.share(self.network.state_dict().values())
        self.micro_batches = MicroBatches(self.network, team, self.plan.micro_batches)
        self.normalise = Normalise(job.mean, job.std).to(team.device)
        self.augment = augmentation(self.plan.augment, images.shape)
        head = job.learner.head(self.network) if isinstance(job.learner, HeadLearner) else None
        self.optimizer = optimisation.optimizer(self.plan.optimizer, self.network, without=head and head[0])
        self.optimizers = [self.optimizer, *([optimisation.optimizer(head[1], head[0])] if head else [])]
        steps = math.ceil(batches.per_epoch(len(job.indices), self.plan) / self.plan.accumulate)
        self.scheduler = optimisation.scheduler(self.optimizer, self.plan, steps)
        self.scaler = torch.amp.GradScaler(team.device.type, enabled=self.plan.precision == "float16")
        self.history: list[Epoch] = []
        self.best: dict[str, torch.Tensor] | None = None

    def run(self, keeper: Keeper) -> Trained:
        if not len(self.job.indices):  # nothing is labelled yet: the fresh network is all there is
            return Trained(_on_cpu(self.network.state_dict()), ())
        if (saved := keeper.resume()) is not None:
            self._restore(saved)
        for number in range(len(self.history), self.plan.epochs):
            if self.plan.patience and self._epochs_since_best() >= self.plan.patience:
                break
            self.history.append(self._epoch(number))
            if self.plan.weights != "last" and kept_epoch(self.plan, self.history) == number:
                self.best = _on_cpu(self.network.state_dict())
            keeper.epoch_done(self.history[-1], self._state)
        weights = self.best or _on_cpu(self.network.state_dict())
        if not all(bool(weights[name].isfinite().all()) for name, _ in self.network.named_parameters()):
            raise self._diverged("the weights became infinite or nan")
        return Trained(weights, tuple(self.history))

    def _epoch(self, number: int) -> Epoch:
        begin = time.perf_counter()
        # Seeded by epoch, so that an epoch after a restart is the epoch of an undisturbed run. A micro-batch is called
        # by the rank that it was once bound to, so that draws stay what they were.
        self.micro_batches.begin_epoch(lambda part: seeds.derive(self.job.order_seed, number, f"rank {part}"))
        if isinstance(self.job.learner, EpochLearner):
            self.job.learner.begin_epoch(self.network, number, self.job.targets, self._look)
        self.network.train()
        totals = self._no_totals()
        for part, pixels, targets in self._batches(number):
            totals[part.number] += self._work_off(part, pixels, targets, number / self.plan.epochs)
        loss, accuracy, images = self._mean(totals)
        if not math.isfinite(loss):
            raise self._diverged(f"the training loss became {loss} in epoch {number + 1} of {self.plan.epochs}")
        held_loss, held_accuracy = self._validate()
        seconds = time.perf_counter() - begin
        return Epoch(number, self.plan.epochs, loss, accuracy, held_loss, held_accuracy, seconds, images)

    def _work_off(self, part: Part, pixels: np.ndarray, targets: np.ndarray, progress: float) -> torch.Tensor:
        """Forward and backward for one part of a batch, and the step if it is this process's last."""
        if part.first:
            self.micro_batches.begin(part.number)
        loss, right = self._loss(pixels, targets, self.augment, progress)
        self.scaler.scale(loss * part.weight).backward()
        if part.last:
            self.micro_batches.end(part.number)
            if part.number == self.micro_batches.numbers[-1]:
                self._step()
        return _totals(loss.detach(), right / len(targets), part.count)

    def _step(self) -> None:
        self.micro_batches.join()
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
            optimizer.zero_grad(set_to_none=True)
        self.scaler.update()
        self.scheduler.step()

    def _loss(
        self, pixels: np.ndarray, targets: np.ndarray, augment: Augmentation, progress: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self.team.device, non_blocking=True)
        classes = torch.from_numpy(targets.astype(np.int64)).to(self.team.device, non_blocking=True)
        with autocast(self.team.device, self.plan.precision):
            return self.job.learner.loss(self.network, self.normalise(augment(images)), classes, progress)

    def _look(self, positions: np.ndarray, read: Callable[[nn.Module, torch.Tensor], torch.Tensor]) -> np.ndarray:
        """`read` of the network in eval mode, for the job's images at these positions, without augmentation."""
        self.network.eval()
        found = []
        with torch.inference_mode():
            for start in range(0, len(positions), VALIDATION_BATCH):
                pixels = self.images.load(self.job.indices[positions[start : start + VALIDATION_BATCH]])
                images = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self.team.device)
                found.append(read(self.network, self.normalise(images)).float().cpu().numpy())
        return np.concatenate(found)

    def _batches(self, number: int) -> Iterator[tuple[Part, np.ndarray, np.ndarray]]:
        """This process's parts of an epoch's batches, their pixels and targets, decoded one part ahead."""
        order = batches.of_epoch(len(self.job.indices), self.plan, self.job.order_seed, number)
        parts = list(batches.parts(order, self.plan.accumulate, self.plan.micro_batches, self.micro_batches.numbers))
        waiting = self.ahead.submit(self.images.load, self.job.indices[parts[0].positions])
        for part, following in zip(parts, [*parts[1:], None], strict=True):
            pixels = waiting.result()
            if following is not None:
                waiting = self.ahead.submit(self.images.load, self.job.indices[following.positions])
            yield part, pixels, self.job.targets[part.positions]

    def _validate(self) -> tuple[float, float]:
        indices, targets = self.job.validation
        if not len(indices):
            return math.nan, math.nan
        self.network.eval()
        totals = self._no_totals()
        with torch.inference_mode():
            for number in self.micro_batches.numbers:
                mine = np.arange(len(indices))[number :: self.plan.micro_batches]
                for start in range(0, len(mine), VALIDATION_BATCH):
                    positions = mine[start : start + VALIDATION_BATCH]
                    pixels = self.images.load(indices[positions])
                    loss, right = self._loss(pixels, targets[positions], lambda images: images, 1.0)
                    totals[number] += _totals(loss, right / len(positions), len(positions))
        return self._mean(totals)[:2]

    def _no_totals(self) -> torch.Tensor:
        """Σ loss, right answers and images of each micro-batch: float64 [micro-batches, 3]."""
        return torch.zeros(self.plan.micro_batches, 3, dtype=torch.float64, device=self.team.device)

    def _mean(self, totals: torch.Tensor) -> tuple[float, float, int]:
        """Mean loss, accuracy and number of images, of all processes."""
        mine = totals[list(self.micro_batches.numbers)]
        loss, right, images = self.team.sum(mine, self.plan.micro_batches).tolist()
        return loss / images, right / images, int(images)

    def _epochs_since_best(self) -> int:
        """0 while the last epoch is the best so far; without a validation split every epoch is as good as the next."""
        losses = [math.inf if math.isnan(epoch.validation_loss) else epoch.validation_loss for epoch in self.history]
        if not losses or not len(self.job.validation[0]):
            return 0
        return len(losses) - 1 - losses.index(min(losses))

    def _diverged(self, what: str) -> TrainingError:
        precision = "" if self.plan.precision == "float32" else " or set train.precision=float32"
        return TrainingError(
            f"{self.job.name}: {what}. The rounds before this one are kept. A new run with a lower train.optimizer.lr "
            f"(now {self.plan.optimizer.lr}){precision} may do better; resuming this one would end here again."
        )

    def _state(self) -> State:
        return {
            "network": self.network.state_dict(),
            "buffers": list(self.network.buffers()),  # also those that are not part of a network's state
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "history": [asdict(epoch) for epoch in self.history],
            "best": self.best,
        }

    def _restore(self, state: State) -> None:
        self.network.load_state_dict(state["network"])
        with torch.no_grad():
            for buffer, saved in zip(self.network.buffers(), state["buffers"], strict=True):
                buffer.copy_(saved)
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])
        self.history = [Epoch(**epoch) for epoch in state["history"]]
        self.best = state["best"] and _on_cpu(state["best"])


def autocast(device: torch.device, precision: config.Precision) -> AbstractContextManager[Any]:
    """Mixed precision on this device; float32 needs none."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=AUTOCAST[precision])


def check_plan(plan: config.Train, shape: tuple[int, int, int]) -> None:
    """Raises ConfigError for an unknown optimiser, scheduler or augmentation, or parameters that they do not take."""
    small = nn.LayerNorm(1)  # its weights are not drawn
    optimisation.scheduler(optimisation.optimizer(plan.optimizer, small), plan, steps_per_epoch=1)
    check_augmentation(plan.augment, shape)
    if plan.precision == "float16" and not torch.cuda.is_available() and not plan.gpus_per_worker:
        raise ConfigError("train.precision=float16 needs a GPU; on CPUs use bfloat16 or float32")


def _totals(loss: torch.Tensor, accuracy: torch.Tensor, images: int) -> torch.Tensor:
    """Σ loss, right answers and images of a batch, float64 [3], where the batch was computed."""
    return torch.stack([loss.double(), accuracy.double(), torch.ones_like(loss, dtype=torch.float64)]) * images


def _on_cpu(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value.detach().to("cpu", copy=True) for key, value in weights.items()}
