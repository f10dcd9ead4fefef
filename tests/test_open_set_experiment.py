"""Whole open-set experiments: what is known, paid for and measured, and a crash in a detector's training."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openal_ray import runs
from openal_ray.networks import Networks
from openal_ray.record import Record
from tests.experiments import experiment, small
from tests.test_experiment import finish, rows

FOUR = "open_set.known=[0,1,2,3]"


def ran(folder: Path, *overrides: str) -> tuple[Path, list[dict[str, str]]]:
    path = finish(experiment(small(folder, FOUR, *overrides)))
    return path, rows(path)


def test_the_budget_pays_for_every_answer_and_only_known_images_are_learnt(tmp_path: Path) -> None:
    folder, table = ran(tmp_path / "run", "strategy=random")
    state = Record(folder / "rounds.jsonl", read_only=True).state
    pool = state.pool()
    assert state.begin["classes"] == ["0", "1", "2", "3"]
    assert state.bought == 50 and len(pool.labelled) + len(pool.rejected) == 50 and len(pool.rejected) > 5
    labels = runs.load_dataset(small(tmp_path / "x", FOUR)).labels
    assert (labels[pool.rejected] == -1).all() and (labels[pool.labelled] == pool.classes).all()
    last = table[-1]
    assert int(last["labelled"]) == len(pool.labelled) and int(last["annotated"]) == 50
    asked = state.answered[2]["answers"]
    assert float(last["purity"]) == pytest.approx(np.mean(np.array(asked) >= 0))
    assert float(last["recall_id"]) == pytest.approx(len(pool.labelled) / (labels >= 0).sum())
    assert float(last["wasted"]) == pytest.approx(len(pool.rejected) / 50)
    start = np.array(state.answered[0]["answers"])
    assert (start >= 0).all() and len(start) == 20  # the mismatch family starts from known images alone


def test_a_noise_ratio_is_that_of_pool_and_start_set(tmp_path: Path) -> None:
    folder, _ = ran(tmp_path / "run", "strategy=random", "open_set.noise_ratio=0.4")
    state = Record(folder / "rounds.jsonl", read_only=True).state
    labels = runs.load_dataset(small(tmp_path / "x", FOUR, "open_set.noise_ratio=0.4")).labels
    inside = np.setdiff1d(np.arange(len(labels)), state.outside)
    assert len(state.outside) > 0 and abs((labels[inside] < 0).mean() - 0.4) < 0.001
    answers = np.array(state.answered[0]["answers"])
    assert (answers >= 0).sum() == 12 and (answers < 0).sum() == 8
    assert not np.isin(state.outside, [i for line in state.asked.values() for i in line["indices"]]).any()


def test_rejected_images_return_to_the_pool_only_if_asked_to(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        "import numpy as np\nfrom openal_ray.selection.halves import Picks\n"
        "from openal_ray.strategies.strategy import Strategy\n"
        "def lowest():\n"
        "    def pick(view, budget, rng):\n"
        "        return Picks(view.candidates.between(0, 400)[:budget], np.zeros(budget))\n"
        "    return Strategy(pick=pick)\n"
    )
    asked = {}
    for returned in ("false", "true"):
        folder, _ = ran(tmp_path / returned, f"strategy={file}:lowest", f"open_set.return_rejected={returned}")
        state = Record(folder / "rounds.jsonl", read_only=True).state
        asked[returned] = [set(state.asked[number]["indices"]) for number in (1, 2)]
        assert state.bought == 50
    assert not asked["false"][0] & asked["false"][1]
    assert asked["true"][0] & asked["true"][1]


def test_a_detector_is_measured_where_the_truth_is_at_hand(tmp_path: Path) -> None:
    folder, table = ran(tmp_path / "run", "strategy=lfosa", "train.epochs=10")
    assert table[0].get("detector_auroc", "") == "" and 0.5 < float(table[-1]["detector_auroc"]) <= 1
    line = [json.loads(text) for text in (folder / "rounds.jsonl").read_text().splitlines()][4]
    assert set(line["detection"]) == {"auroc", "aupr", "aupr_ood", "fpr95"}


@pytest.mark.parametrize("strategy", ["lfosa", "mqnet", "eaoa", "openset_auto"])
def test_a_stop_while_a_detector_trains_changes_no_query(
    strategy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = (f"strategy={strategy}", "train.epochs=5")
    undisturbed, _ = ran(tmp_path / "whole", *overrides)

    class Stop(Exception):
        pass

    calls, real = [], Networks.train

    def stop(self: Networks, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise Stop
        return real(self, *arguments)

    monkeypatch.setattr(Networks, "train", stop)
    with pytest.raises(Stop):
        ran(tmp_path / "run", *overrides)
    monkeypatch.undo()
    folder, _ = ran(tmp_path / "run", *overrides)
    assert (folder / "selections.csv").read_bytes() == (undisturbed / "selections.csv").read_bytes()


def test_a_sigkill_in_the_middle_of_a_detectors_training_changes_no_query(tmp_path: Path) -> None:
    overrides = ("strategy=lfosa", "train.epochs=5")
    undisturbed, _ = ran(tmp_path / "whole", *overrides)
    code = (
        "import os, signal, sys\n"
        "from openal_ray.models.detectors import Detector\n"
        "from tests.test_open_set_experiment import Path, ran\n"
        "real, steps = Detector.loss, []\n"
        "def loss(self, *arguments):\n"
        "    steps.append(1)\n"
        "    if len(steps) == 75:  # each round's training has 50\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(self, *arguments)\n"
        "Detector.loss = loss\n"
        "ran(Path(sys.argv[1]), *sys.argv[2:])\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run"), *overrides], check=False)
    record = (tmp_path / "run" / "rounds.jsonl").read_text()
    assert killed.returncode == -signal.SIGKILL
    assert record.count('"answered"') == 2 and '"round": 2' not in record
    folder, _ = ran(tmp_path / "run", *overrides)
    assert (folder / "selections.csv").read_bytes() == (undisturbed / "selections.csv").read_bytes()


def test_people_may_answer_none_of_these(tmp_path: Path) -> None:
    from PIL import Image
    from sklearn.datasets import load_digits

    data, lines = load_digits(), ["id,path,label,split"]
    for number in range(80):
        Image.fromarray((data.images[number] * 15.9).astype("uint8")).save(tmp_path / f"{number}.png")
        name = str(data.target[number]) if data.target[number] < 4 else "none_of_these"
        split = "test" if number >= 60 else "train"
        lines.append(f"a{number},{number}.png,{name if number < 40 or split == 'test' else ''},{split}")
    (tmp_path / "images.csv").write_text("\n".join(lines))
    own = [
        f"data.name=manifest:{tmp_path / 'images.csv'}", "data.image_size=8", "budget.start=given", "strategy=lfosa",
        "budget.n_query=10", "budget.n_end=60", "open_set.unknown=[none_of_these]",
    ]  # fmt: skip
    from openal_ray.pool import AnswersPending

    with pytest.raises(AnswersPending):
        finish(experiment(small(tmp_path / "run", *own)))
    state = Record(tmp_path / "run" / "rounds.jsonl", read_only=True).state
    assert len(state.begin["classes"]) == 4
    assert -1 in state.answered[0]["answers"] and len(state.pending["indices"]) == 10
