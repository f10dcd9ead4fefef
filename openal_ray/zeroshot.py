"""Zero-shot: how well CLIP or CLIPN, which saw none of a data set's labels, tells its test images apart."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from openal_ray import metrics
from openal_ray.config import Config
from openal_ray.data.dataset import Dataset
from openal_ray.errors import DataError
from openal_ray.models import clip
from openal_ray.models.clip import NAME, Clip
from openal_ray.pool import AllBut
from openal_ray.runs import load_dataset, workers_for
from openal_ray.selection.purity.clipn import CLIPN_SCALE, clipnal_margin, competition
from openal_ray.shard import ReadOrder
from openal_ray.signal_store import Reading
from openal_ray.workers import Shards

TEST = "test"


def evaluate(configuration: Config, dataset: Dataset | None = None) -> dict[str, Any]:
    """Reads the test images in the shards, with the model under `clip`; no training, no labels but to count with.

    dataset  of your own, instead of data.name
    returns  data, model, images, accuracy and the other metrics of a round; per_class, with the class names. Where
             something says no, also accepted: the share of the test images, all of a known class, that CLIPN's rules
             take for known: atd (agreeing-to-differ), ctw (competing-to-win)
    raises   UserError
    """
    data = dataset or load_dataset(configuration)
    recipe = Clip.of(configuration.clip, data.classes, data.mean, data.std)
    needs = tuple(f"{NAME}.{signal}" for signal in ("probs", *(("yes", "no") if recipe.source.says_no else ())))
    clip.check(configuration.clip, data.classes, needs)
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
        weights = dict(recipe.build(data.test.shape).state_dict())
        train = configuration.train.model_copy(update={"mode": "local"})  # nothing is trained
        plan = configuration.model_copy(update={"train": train})
        with workers_for(plan, data, Path(folder)) as workers:
            workers.shards.load(recipe.reader(), weights, NAME)
            found = _read(workers.shards, len(data.test_labels), needs)
    labels = data.test_labels[found.indices]
    measured = metrics.classification(found.signals[f"{NAME}.probs"], labels)
    rows = [{"class": name, **row} for name, row in zip(data.classes, measured.per_class_rows(), strict=True)]
    facts = {"data": data.name, "model": recipe.source.described}
    accepted = {"accepted": _accepted(found)} if recipe.source.says_no else {}
    return {**facts, "images": len(labels), **measured.scalars(), **accepted, "per_class": rows}


def _read(shards: Shards, count: int, needs: tuple[str, ...]) -> Reading:
    shards.read(ReadOrder(TEST, TEST, AllBut(count, np.empty(0, np.int64)), needs))
    found = shards.gather(TEST)
    if not len(found.indices):
        raise DataError("no test image can be decoded, so nothing can be measured")
    return found


def _accepted(found: Reading) -> dict[str, float]:
    yes, no = found.signals[f"{NAME}.yes"], found.signals[f"{NAME}.no"]
    by_rule = {"atd": clipnal_margin(yes, no, CLIPN_SCALE) > 0, "ctw": competition(yes, no) >= 0.5}
    return {rule: float(known.mean()) for rule, known in by_rule.items()}
