"""Tests of ccal.py: formulas, pseudo labels, the query against the whole pool at once, shards, shortages."""

from typing import Literal

import numpy as np
import pytest

from openal_ray.selection.halves import BLOCK, LocalHalves, Picks
from openal_ray.selection.purity.ccal import CcalHalf, CcalPlan, LabelledViews, pick_ccal, semantic_score, typicality

RNG = np.random.default_rng(0)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def pick(
    semantic: np.ndarray,
    distinctive: np.ndarray,
    labelled: LabelledViews,
    quotas: list[int],
    n_shards: int = 1,
    plan: CcalPlan | None = None,
    indices: np.ndarray | None = None,
) -> Picks:
    indices = np.arange(len(semantic)) if indices is None else indices
    owner = indices // BLOCK % n_shards
    halves = [
        CcalHalf(semantic[owner == s], distinctive[owner == s], labelled, len(quotas), indices[owner == s], plan)
        for s in range(n_shards)
    ]
    return pick_ccal(LocalHalves(halves), np.array(quotas))


def scores_at_once(
    semantic: np.ndarray, distinctive: np.ndarray, labelled: LabelledViews, form: str
) -> tuple[np.ndarray, np.ndarray]:
    """Scores and pseudo labels, sample by sample as in the authors' code."""

    def scaled(one: np.ndarray) -> np.ndarray:
        return (one - one.min()) / (one.max() - one.min())

    similar = unit(semantic) @ unit(labelled.semantic).T
    pseudo = labelled.classes[similar.argmax(axis=1)]
    x = scaled(similar.max(axis=1))
    k = 100.0
    s_sem = (
        (1 - np.exp(-k * (x - 0.9))) / (1 + np.exp(-k * (x - 0.9))) if form == "official" else np.tanh(k * (x - 0.9))
    )
    score = np.empty(len(semantic))
    for label in np.unique(labelled.classes):
        mine = labelled.distinctive[labelled.classes == label]
        values = np.zeros(len(semantic))
        for i in range(len(semantic)):
            for r in range(distinctive.shape[1]):
                cos = unit(mine[:, r]) @ unit(distinctive[i, r])
                a, b = np.argsort(-cos)[:2]
                between = unit(mine[a, r]) @ unit(mine[b, r])
                values[i] += cos[a] - cos[b] + between + (cos[a] if form == "official" else 0)
        s_dis = 1 - scaled(values / distinctive.shape[1])
        score[pseudo == label] = (s_sem + s_dis)[pseudo == label]
    return score, pseudo


def random_pool(n: int, n_labelled: int = 20, n_classes: int = 3) -> tuple[np.ndarray, np.ndarray, LabelledViews]:
    classes = np.arange(n_labelled) % n_classes
    labelled = LabelledViews(RNG.normal(size=(n_labelled, 6)), RNG.normal(size=(n_labelled, 4, 5)), classes)
    return RNG.normal(size=(n, 6)), RNG.normal(size=(n, 4, 5)), labelled


@pytest.mark.parametrize("form", ["official", "openal"])
def test_the_query_is_that_of_the_whole_pool_at_once(form: Literal["official", "openal"]) -> None:
    semantic, distinctive, labelled = random_pool(150)
    score, pseudo = scores_at_once(semantic, distinctive, labelled, form)
    found = pick(semantic, distinctive, labelled, [5, 0, 7], plan=CcalPlan(form))
    expected = []
    for label, quota in ((0, 5), (2, 7)):
        mine = np.flatnonzero(pseudo == label)
        expected += mine[np.argsort(-score[mine])[:quota]].tolist()
    assert sorted(found.indices.tolist()) == sorted(expected)
    assert np.allclose(found.scores, score[found.indices])
    assert (np.diff(found.scores) <= 0).all()


@pytest.mark.parametrize("n_shards", [2, 5])
def test_shards_change_nothing(n_shards: int) -> None:
    semantic, distinctive, labelled = random_pool(5500, n_labelled=9)
    one, other = (pick(semantic, distinctive[:, :1], labelled, [30, 30, 30], n) for n in (1, n_shards))
    assert one.indices.tolist() == other.indices.tolist()
    assert one.scores.tolist() == other.scores.tolist()


def test_planted_neighbours_and_dataset_indices() -> None:
    # Images lie beside the labelled image of their class; what comes back is dataset indices, not positions.
    labelled = LabelledViews(np.eye(4)[:2], np.eye(4)[:2, None], np.array([1, 0]))
    rows = np.array([[1, 0.1, 0, 0], [1, 0.0, 0, 0], [0, 1, 0.1, 0], [0, 1, 0, 0], [0, 0.2, 1, 0]])
    found = pick(rows, rows[:, None], labelled, [1, 1, 0], indices=np.array([10, 20, 30, 40, 50]))
    assert set(found.indices.tolist()) == {10, 30}  # nearly the same, but not quite: more distinctive


def test_semantic_score() -> None:
    x = np.array([0.9, 1.0, 0.0])
    official, openal = (semantic_score(x, CcalPlan(form)) for form in ("official", "openal"))
    assert official == pytest.approx([0, np.tanh(5), -1])
    assert openal == pytest.approx([0, np.tanh(10), -1])


def test_typicality_by_hand() -> None:
    # Cosines to the two labelled images: 1 and 0.6, which have 0.6 between them.
    views, labelled = np.array([[[1.0, 0.0]]]), np.array([[[1.0, 0.0]], [[3.0, 4.0]]])
    assert typicality(views, labelled) == pytest.approx([0.4 + 0.6 + 1.0])
    assert typicality(views, labelled, "openal") == pytest.approx([1.0])


def test_a_class_with_one_label_and_a_class_without() -> None:
    views = np.array([[[0.6, 0.8]]])
    assert typicality(views, np.array([[[1.0, 0.0]]])) == pytest.approx([0 + 1 + 0.6])
    semantic, distinctive, labelled = random_pool(40, n_labelled=1)
    found = pick(semantic, distinctive, labelled, [10, 10, 10])  # all are of pseudo label 0
    assert len(set(found.indices.tolist())) == 30
    assert np.isfinite(found.scores).all()


def test_equal_images_are_no_trouble() -> None:
    labelled = LabelledViews(np.ones((2, 3)), np.ones((2, 1, 3)), np.array([0, 1]))
    assert pick(np.ones((5, 3)), np.ones((5, 1, 3)), labelled, [1, 2]).indices.tolist() == [0, 1, 2]


def test_shards_without_rows_change_nothing() -> None:
    pool = random_pool(200)
    assert pick(*pool, [9, 9, 9], n_shards=5).indices.tolist() == pick(*pool, [9, 9, 9]).indices.tolist()
