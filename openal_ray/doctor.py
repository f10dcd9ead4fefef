"""What `openal-ray doctor` looks at: this machine, and a data set image by image."""

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

from openal_ray.config import Cluster, Config, Data
from openal_ray.data.dataset import Dataset
from openal_ray.errors import MOST_NAMES, BadImages, UserError
from openal_ray.pool import UNLABELLED
from openal_ray.run_folder import PACKAGES
from openal_ray.runs import load_dataset
from openal_ray.selection.halves import BLOCK

LEAST_FREE_DISK = 2 * 2**30
LEAST_SHARED_MEMORY = 128 * 2**20  # below it Ray keeps objects in files, which is slow


@dataclass(frozen=True)
class Finding:
    """One thing that was examined: what, what was found (and what to do), and whether it is good."""

    what: str
    found: str
    good: bool = True


def examine(data: str | None = None, with_ray: bool = True) -> list[Finding]:
    """Everything, in order; `data` names a data set, folder:PATH or manifest:FILE whose images are all decoded."""
    findings = [_python(), *_packages(), _torch(), _disk(), _shared_memory()]
    if with_ray:
        findings.append(_ray())
    if data:
        findings += _data(data)
    return findings


def _python() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Finding("machine", f"Python {platform.python_version()}, {platform.platform()}, {cores} CPU cores")


def _packages() -> Iterator[Finding]:
    for package in PACKAGES:
        try:
            yield Finding(package, metadata.version(package))
        except metadata.PackageNotFoundError:
            yield Finding(package, f"not installed; pip install {package}", good=False)


def _torch() -> Finding:
    if not torch.cuda.is_available():
        return Finding("GPUs", "none; everything runs on the CPU")
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return Finding("GPUs", f"{', '.join(names)} (CUDA {torch.version.cuda})")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    good = free >= LEAST_FREE_DISK
    return Finding("disk", f"{free / 2**30:.1f} GiB free here" + ("" if good else ", checkpoints may not fit"), good)


def _shared_memory() -> Finding:
    shared = Path("/dev/shm")
    if not shared.exists():
        return Finding("shared memory", "no /dev/shm on this system; Ray uses files")
    size = shutil.disk_usage(shared).total
    good = size >= LEAST_SHARED_MEMORY
    advice = "" if good else "; in a container start it with a larger --shm-size, or Ray is slow"
    return Finding("shared memory", f"{size / 2**30:.1f} GiB in /dev/shm{advice}", good)


def _ray() -> Finding:
    from openal_ray.cluster.connect import connected, resources

    try:
        with connected(Cluster()):
            there = resources()
    except Exception as error:  # whatever Ray raises, the finding is that it does not start
        return Finding("Ray", f"does not start: {error}", good=False)
    return Finding("Ray", "starts and answers: " + ", ".join(f"{amount:g} {name}s" for name, amount in there.items()))


def _data(name: str) -> Iterator[Finding]:
    try:
        dataset = load_dataset(Config(data=Data(name=name)))
    except UserError as error:
        yield Finding(name, str(error), good=False)
        return
    unlabelled = int((dataset.labels == UNLABELLED).sum())
    yield Finding(
        name,
        f"{len(dataset.train)} train images ({unlabelled} without label), {len(dataset.test)} test images, "
        f"{len(dataset.classes)} classes, {'×'.join(map(str, dataset.train.shape))}",
    )
    yield Finding("labels", _labels(dataset))
    for split, images in (("train", dataset.train), ("test", dataset.test)):
        reasons: list[str] = []
        for start in range(0, len(images), BLOCK):
            try:
                images.load(np.arange(start, min(start + BLOCK, len(images))))
            except BadImages as error:
                reasons += error.reasons
        yield Finding(f"{split} images", "\n  ".join(reasons) or "all can be decoded", good=not reasons)


def _labels(dataset: Dataset) -> str:
    """How many labelled train and test images each class has, and which classes no test image tells about."""
    train, test = (
        np.bincount(labels[labels >= 0], minlength=len(dataset.classes))
        for labels in (dataset.labels, dataset.test_labels)
    )
    each = [f"{name} {n} + {m}" for name, n, m in zip(dataset.classes, train, test, strict=True)]
    more = f" and {len(each) - MOST_NAMES} classes more" if len(each) > MOST_NAMES else ""
    untested = [name for name, count in zip(dataset.classes, test, strict=True) if not count]
    told = f"train + test: {', '.join(each[:MOST_NAMES])}{more}"
    if untested:
        names = ", ".join(untested[:MOST_NAMES])
        told += f"; {len(untested)} without a test image, so that nothing measures them: {names}"
    return told
