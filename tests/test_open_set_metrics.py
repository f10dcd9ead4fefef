"""Tests of open_set_metrics.py: hand-worked rounds, LfOSA's published identity, detection against its definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openal_ray.open_set_metrics import Answered, areas, class_balance, detection, oscr, selection


def rounds_of(*answers: list[int]) -> list[Answered]:
    """Rounds whose images are numbered on."""
    starts = np.cumsum([0, *map(len, answers)])
    return [
        Answered(np.arange(start, start + len(one)), np.array(one, dtype=np.int64))
        for start, one in zip(starts, answers, strict=False)
    ]


def test_hand_worked_rounds() -> None:
    start, first, second = selection(rounds_of([0, 1, -1, -1], [0, 0, 1, -1], [-1, -1]), 2, n_id=10, cost_ood=3.0)
    assert (start.purity, start.recall, start.wasted) == (0.5, 0.2, 6 / 8)
    assert np.isnan(start.cumulative_purity)
    assert (first.id_asked, first.ood_asked, first.id_found, first.ood_found) == (3, 1, 5, 3)
    assert (first.purity, first.cumulative_purity, first.recall) == (0.75, 0.75, 0.5)
    assert first.wasted == 9 / 14
    assert first.per_class.tolist() == [2, 1]
    assert first.balance == pytest.approx(-(2 / 3 * np.log2(2 / 3) + 1 / 3 * np.log2(1 / 3)))
    assert (second.purity, second.cumulative_purity, second.recall) == (0.0, 0.5, 0.5)
    assert np.isnan(second.balance)


def test_recall_of_lfosa_on_cifar100() -> None:
    # 800 labels at the start, 5912 found in 10 queries of 1500, 10000 ID images: .671 (specification, 5.1).
    found = [591] * 9 + [593]
    queries = [[0] * n + [-1] * (1500 - n) for n in found]
    last = selection(rounds_of([0] * 800, *queries), 20, n_id=10_000)[-1]
    assert last.id_found == 800 + 5912
    assert last.recall == pytest.approx(0.6712)
    assert round(last.recall, 3) == 0.671
    assert last.cumulative_purity == pytest.approx(5912 / 15_000)


def test_images_that_return_to_the_pool_are_found_once_but_cost_twice() -> None:
    twice = [Answered(np.array([0]), np.array([0])), *[Answered(np.array([5, 6]), np.array([-1, -1]))] * 2]
    last = selection(twice, 1)[-1]
    assert (last.ood_found, last.wasted) == (2, 0.8)
    assert np.isnan(last.recall)
    assert selection([], 1) == []


def test_empty_rounds_have_no_purity() -> None:
    nothing = selection(rounds_of([], [1]), 2, n_id=0)
    assert np.isnan([nothing[0].purity, nothing[0].wasted, nothing[0].recall]).all()
    assert nothing[1].purity == 1.0


def test_class_balance() -> None:
    assert class_balance(np.array([5, 5, 5, 5])) == pytest.approx(1.0)
    assert class_balance(np.array([5, 0, 0])) == 0.0
    assert class_balance(np.array([3])) == 1.0


def test_areas_over_annotated_and_over_id_labels() -> None:
    found = selection(rounds_of([0, 1], [0, -1, -1, -1], [0, 1, 0, 1]), 2)
    # Annotated 2, 6, 10: (.2+.4)/2·4 + (.4+.8)/2·4 over 8; ID labels 2, 3, 7: .3·1 + .6·4 over 5.
    assert areas(found, np.array([0.2, 0.4, 0.8])) == pytest.approx((0.45, 0.54))
    assert areas(found, np.ones(3)) == (1.0, 1.0)


def test_detection_by_hand() -> None:
    # ID scores 4 3 1, OOD scores 2 0: pairs won 2 + 2 + 1 of 6.
    found = detection(np.array([4.0, 2.0, 3.0, 1.0, 0.0]), np.array([False, True, False, False, True]))
    assert found.auroc == pytest.approx(5 / 6)
    assert found.aupr == pytest.approx((1 + 1 + 3 / 4) / 3)
    assert found.aupr_ood == pytest.approx((1 + 2 / 3) / 2)
    assert found.fpr95 == 0.5  # all three ID images pass at 1, as does the OOD image at 2


def test_detection_of_one_kind_alone_is_unknown() -> None:
    for flag in (True, False):
        assert np.isnan(detection(np.arange(3.0), np.full(3, flag)).auroc)
    assert np.isnan(detection(np.empty(0), np.empty(0, bool)).fpr95)
    with pytest.raises(ValueError, match="NaN at 1 place"):
        detection(np.array([np.nan, 1.0]), np.array([True, False]))
    with pytest.raises(ValueError, match=r"must both be \[n\], got \[2\] and \[1\]"):
        detection(np.zeros(2), np.array([True]))


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40))
def test_detection_is_its_definition(images: list[tuple[int, bool]]) -> None:
    purity, is_ood = np.array([one[0] for one in images], float), np.array([one[1] for one in images])
    if is_ood.all() or not is_ood.any():
        return
    purity[purity == 3] = np.inf
    known, ood = purity[~is_ood], purity[is_ood]
    found = detection(purity, is_ood)
    won = (known[:, None] > ood).mean() + (known[:, None] == ood).mean() / 2
    assert found.auroc == pytest.approx(won)
    threshold = max(t for t in purity if (known >= t).mean() >= 0.95)
    assert found.fpr95 == pytest.approx((ood >= threshold).mean())


def test_oscr_by_hand() -> None:
    # Right at 3 and 1, wrong at 2; OOD at 2 and 0: 3 beats both, 1 beats one: (1 + .5) / 3.
    right, purity, ood = np.array([True, False, True]), np.array([3.0, 2.0, 1.0]), np.array([2.0, 0.0])
    assert oscr(right, purity, ood) == pytest.approx(0.5)
    assert oscr(np.ones(3, bool), purity, ood) == pytest.approx((1 + 0.75 + 0.5) / 3)  # then it is the AUROC
    assert oscr(np.ones(3, bool), purity, ood) == detection(np.append(purity, ood), np.arange(5) > 2).auroc
    assert np.isnan(oscr(right, purity, ood[:0]))
