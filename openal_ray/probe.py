"""Networks weighed and timed for the price of a run: bytes of their signals, images a second on this machine."""

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from openal_ray.config import Config
from openal_ray.data.dataset import Dataset
from openal_ray.models import monte_carlo, signals
from openal_ray.models.learners import Classifier, Learner
from openal_ray.models.monte_carlo import Sampling
from openal_ray.models.pixels import Normalise
from openal_ray.price import Rates
from openal_ray.strategies.strategy import Helpers, Strategy
from openal_ray.training.loop import autocast

PROBED = 32  # images of a probe's batch
PROBE_SECONDS = 0.5


class Networks:
    """The classifier and the helpers, built to be weighed and timed."""

    def __init__(self, config: Config, dataset: Dataset, strategy: Strategy | None) -> None:
        self.strategy, self.shape = strategy, dataset.train.shape
        self.half, self.precision = config.read.half, config.read.precision
        self.plain = Classifier(len(dataset.classes), config.model.name, params=config.model.params)
        classifier = strategy.classifier(self.plain) if strategy else self.plain
        self.learners: dict[str, Learner] = {signals.CLASSIFIER: classifier}
        self.built: dict[str, nn.Module] = {}
        self._build(signals.CLASSIFIER)
        self.rows: dict[tuple[str, ...], int] = {}

    @property
    def bytes(self) -> int:
        return sum(self.weight(name) for name in self.built)

    def weight(self, name: str) -> int:
        """Bytes of a network's weights."""
        return sum(tensor.nbytes for tensor in self.built[name].state_dict().values())

    def meet(self, helpers: Helpers) -> None:
        """Builds the helpers that it has not seen."""
        for name, helper in helpers.items():
            if name not in self.learners:
                self.learners[name] = helper.learner
                self._build(name)

    def row(self, needs: tuple[str, ...]) -> int:
        """Bytes of signals that an image leaves in its shard."""
        if needs not in self.rows:
            height, width, channels = self.shape
            found = self.read(torch.zeros(2, channels, height, width), needs)
            narrow = {need for need in needs if self.half and signals.split(need)[1] in signals.WIDE}
            self.rows[needs] = sum(array.nbytes // 2 // (2 if need in narrow else 1) for need, array in found.items())
        return self.rows[needs]

    def read(self, images: torch.Tensor, needs: tuple[str, ...]) -> dict[str, torch.Tensor]:
        """The signals, as a shard reads them."""
        sampling = Sampling(self.strategy.passes if self.strategy else 0)
        found: dict[str, torch.Tensor] = {}
        with torch.inference_mode(), autocast(images.device, self.precision):
            for network in sorted({signals.split(need)[0] for need in needs}):
                mine = {signals.split(need)[1]: need for need in needs if signals.split(need)[0] == network}
                read = signals.read(self.built[network], images, tuple(mine), sampling)
                found |= {mine[name]: signal for name, signal in read.items()}
        return found

    def _build(self, name: str) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.built[name] = self.learners[name].build(self.shape).eval()


def passes(needs: tuple[str, ...], sampled: int) -> int:
    """Forward passes an image, over all networks; `sampled` of them where Monte Carlo signals are read."""
    stochastic = {signals.split(need)[0] for need in needs if signals.split(need)[1] in monte_carlo.SIGNALS}
    return sum(sampled if network in stochastic else 1 for network in {signals.split(need)[0] for need in needs})


def measure(config: Config, dataset: Dataset, networks: Networks, read_device: str, train_device: str) -> Rates:
    """Rates of one device of this machine, CPU (one thread) or GPU; 0 for a GPU that is not here."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        probe = _Probe(config, dataset, networks)
        needs = networks.strategy.all_needs if networks.strategy else ()
        evaluate = probe.reading(("probs",), read_device)
        query = probe.reading(needs, read_device) if needs else evaluate
        train = {name: probe.training(name, train_device) for name in networks.built}
    finally:
        torch.set_num_threads(threads)
    return Rates(query, evaluate, train, "measured here, on one thread a CPU")


class _Probe:
    """A batch of the pool, read and trained on for half a second."""

    def __init__(self, config: Config, dataset: Dataset, networks: Networks) -> None:
        self.config, self.networks, self.images = config, networks, dataset.train
        self.indices = np.arange(min(PROBED, len(dataset.train)))
        self.normalise = Normalise(dataset.mean, dataset.std)
        self.n_classes = len(dataset.classes)

    def reading(self, needs: tuple[str, ...], device: str) -> float:
        return self._rate(lambda: self.networks.read(self._batch(device), needs), device, tuple(self.networks.built))

    def training(self, name: str, device: str) -> float:
        learner, network = self.networks.learners[name], self.networks.built[name]
        if not any(parameter.requires_grad for parameter in network.parameters()):
            return 0.0
        targets = torch.arange(len(self.indices)) % self.n_classes

        def step() -> None:
            batch = self._batch(device)
            network.zero_grad()
            with autocast(batch.device, self.config.train.precision):
                loss = learner.loss(network, batch, targets.to(batch.device), 0.0)[0]
            loss.backward()

        network.train()
        try:
            return self._rate(step, device, (name,))
        except NotImplementedError:  # a network that is never trained
            return 0.0
        finally:
            network.zero_grad()
            network.eval()

    def _batch(self, device: str) -> torch.Tensor:
        pixels = torch.from_numpy(self.images.load(self.indices)).permute(0, 3, 1, 2)
        where = torch.device("cuda" if device == "GPU" else "cpu")
        return self.normalise.to(where)(pixels.to(where))

    def _rate(self, work: Callable[[], object], device: str, names: tuple[str, ...]) -> float:
        """Images a second; 0 if the device is not here."""
        if device == "GPU" and not torch.cuda.is_available():
            return 0.0
        where = "cuda" if device == "GPU" else "cpu"
        for name in names:
            self.networks.built[name].to(where)
        work()  # the first time is another
        begin, times = time.perf_counter(), 0
        while time.perf_counter() - begin < PROBE_SECONDS:
            work()
            if where == "cuda":
                torch.cuda.synchronize()
            times += 1
        return times * len(self.indices) / (time.perf_counter() - begin)
