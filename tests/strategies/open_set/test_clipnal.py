"""CLIPNAL with a tiny CLIPN: the query against the rule written out, on one and on three shards."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from openal_ray.pool import Pool
from openal_ray.record import Record
from openal_ray.selection.purity.clipn import SCALES
from openal_ray.shard import ReadOrder
from openal_ray.strategies import catalogue
from openal_ray.strategies.query import query
from openal_ray.strategies.strategy import Helpers, Round
from openal_ray.testing import CHECKS, pools
from openal_ray.testing.pools import LEARNER, MEAN, N_CLASSES, PLAN, SEED, STD, case
from tests.experiments import experiment, small
from tests.models import clips
from tests.models.test_clip import section
from tests.test_experiment import finish

REJECTED, KNOWN = np.arange(1, 41, 2), np.arange(0, 80, 2)
POOL = Pool(case().pool.size, KNOWN, case().labels[KNOWN], held_out=np.arange(600, case().pool.size)).annotate(
    REJECTED, np.full(len(REJECTED), -1)
)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("clip")
    file = clips.save(folder / "clipn.pt", clips.clipn_state(clips.clip(1), clips.clip(2), clips.prompts()))
    return section(folder, checkpoint=file)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def accepted(yes: np.ndarray, no: np.ndarray, scale: float) -> np.ndarray:
    """The rule without prototypes, as the specification's 2.5 writes it."""
    pair = np.exp(scale * yes) / (np.exp(scale * yes) + np.exp(scale * no))
    a = pair * softmax(scale * yes)
    return a.max(axis=1) > 1 - a.sum(axis=1)


def test_the_inner_strategy_picks_among_what_clipn_accepts(asked) -> None:
    strategy = catalogue.build("clipnal", {"prototypes": False})
    none = (np.empty(0, np.int64), np.empty(0, np.int64))
    names = tuple(f"digit {number}" for number in range(N_CLASSES))
    round = Round(3, POOL, N_CLASSES, LEARNER, PLAN, MEAN, STD, SEED, none, names, asked)
    found = {}
    for count in (1, 3):
        shards = case().shards(count)
        shards.load(LEARNER, case().weights())
        for name, helper in strategy.prepare(round).items():
            with pools.torch.random.fork_rng(devices=[]):
                shards.load(helper.learner.reader(), helper.learner.build((8, 8, 1)).state_dict(), name)
        purposes = lambda purpose: pools.seeds.rng(SEED, 3, purpose)  # noqa: E731
        found[count] = query(strategy, shards, POOL, N_CLASSES, 30, purposes).indices
    assert found[1].tolist() == found[3].tolist()
    signals = shards.gather("pool").signals
    indices = shards.gather("pool").indices
    yes, no = (signals[f"clip.{name}"].astype(np.float64) for name in ("yes", "no"))
    known, rejected = np.isin(indices, KNOWN), np.isin(indices, REJECTED)
    quality = [
        (accepted(yes[known], no[known], s).mean() + (~accepted(yes[rejected], no[rejected], s)).mean()) / 2
        for s in SCALES
    ]
    good = accepted(yes, no, float(SCALES[int(np.argmax(quality))])) & ~known & ~rejected
    shards.read(ReadOrder("all", "train", POOL.unlabelled, ("probs",)))
    reading = shards.gather("all")
    passed = np.isin(reading.indices, indices[good])
    least_confident = np.where(passed, 1 - reading.signals["probs"].max(axis=1).astype(np.float64), -np.inf)
    first = min(30, int(passed.sum()))
    expected = reading.indices[np.lexsort((reading.indices, -least_confident))[:first]]
    assert len(set(found[1][:first].tolist()) ^ set(expected.tolist())) <= 2


@pytest.mark.parametrize("check", ["counts", "labelled_sets", "open_sets"])
def test_it_keeps_the_contract_that_needs_no_files(check: str, asked) -> None:
    """Of the checks that every strategy passes, those about pools and answers; CLIP is the tiny one."""
    strategy = catalogue.build("clipnal")

    def prepare(round: Round) -> Helpers:
        names = tuple(f"digit {number}" for number in range(round.n_classes))
        return strategy.prepare(replace(round, classes=names, clip=asked))

    CHECKS[check](replace(strategy, prepare=prepare))


def test_a_whole_run_reads_clip_once(asked, tmp_path: Path) -> None:
    overrides = [
        "strategy=clipnal", "open_set.known=[0,1,2,3]", f"clip.checkpoint={asked.checkpoint}", "train.epochs=2",
        f"clip.templates={asked.templates}", f"clip.cache={tmp_path / 'texts'}", "strategy.inside=badge",
    ]  # fmt: skip
    folder = finish(experiment(small(tmp_path / "run", *overrides)))
    state = Record(folder / "rounds.jsonl", read_only=True).state
    assert state.bought == 50 and len({i for line in state.asked.values() for i in line["indices"]}) == 50
