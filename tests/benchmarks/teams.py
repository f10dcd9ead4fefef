"""What it costs that weights do not depend on the number of processes: two of them against DistributedDataParallel.

    python -m tests.benchmarks.teams            (--quick: fewer images)

Two processes of one thread each train the same network on the same pictures, by the engine's loop and by PyTorch's own
wrapper in a plain loop, by turns; an epoch's wall seconds, median of all but the first.
"""

import argparse
import os
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import distributed, multiprocessing, nn
from torch.nn import functional

from openal_ray import config
from openal_ray.data.images import ArrayImages
from openal_ray.models.learners import Classifier
from openal_ray.training import batches
from openal_ray.training.job import Epoch, Job
from openal_ray.training.loop import NoKeeper, train
from openal_ray.training.team import Team

SIZE, BATCH, EPOCHS, MEAN, STD = 2, 64, 4, 0.5, 0.25
NETWORKS = {"small_cnn": 8192, "resnet18": 512}  # and how many pictures of 32×32


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a quarter of the pictures")
    share = 4 if parser.parse_args().quick else 1
    table = Table("network", "DistributedDataParallel", "micro-batches", "ratio")
    for name, count in NETWORKS.items():
        with tempfile.TemporaryDirectory() as folder:
            multiprocessing.spawn(member, (folder, name, count // share), nprocs=SIZE)
            plain, ours = torch.load(Path(folder) / "seconds.pt", weights_only=True)
        table.add_row(name, f"{plain:.2f} s", f"{ours:.2f} s", f"{ours / plain:.2f}")
    Console().print(table)


def member(rank: int, folder: str, name: str, count: int) -> None:
    """One process; rank 0 writes down the seconds."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=SIZE)
    pixels = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    plan = config.Train(epochs=EPOCHS, batch_size=BATCH, workers=SIZE, optimizer=config.Optimizer(name="sgd", lr=0.01))
    indices = np.arange(count)
    job = Job("a", Classifier(10, name), indices, indices % 10, plan, (MEAN,) * 3, (STD,) * 3, 1, 2)
    found = []
    for form in (by_wrapper, by_engine):
        distributed.barrier()
        found.append(statistics.median(form(job, ArrayImages(pixels), rank)[1:]))
    if rank == 0:
        torch.save(found, f"{folder}/seconds.pt")
    distributed.barrier()
    os._exit(0)  # gloo's threads may abort Python's own end


def by_engine(job: Job, images: ArrayImages, rank: int) -> list[float]:
    seconds: list[float] = []

    def heard(epoch: Epoch) -> None:
        seconds.append(epoch.seconds)

    train(job, images, Team(rank=rank, size=SIZE), NoKeeper(heard))
    return seconds


def by_wrapper(job: Job, images: ArrayImages, rank: int) -> list[float]:
    """The same batches, each process its part, gradients averaged while the backward pass runs."""
    torch.manual_seed(job.init_seed)
    network = nn.parallel.DistributedDataParallel(job.learner.build(images.shape).to(memory_format=torch.channels_last))
    optimizer = torch.optim.SGD(network.parameters(), lr=job.plan.optimizer.lr)
    seconds = []
    for epoch in range(job.plan.epochs):
        begin = time.perf_counter()
        for batch in batches.of_epoch(len(job.indices), job.plan, job.order_seed, epoch):
            mine = batch[rank::SIZE]
            inputs = torch.from_numpy(images.load(job.indices[mine])).permute(0, 3, 1, 2).float() / 255
            loss = functional.cross_entropy(network((inputs - MEAN) / STD), torch.from_numpy(job.targets[mine]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        seconds.append(time.perf_counter() - begin)
    return seconds


if __name__ == "__main__":
    main()
