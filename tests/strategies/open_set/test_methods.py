"""Published methods as strategies: each query against its algorithm on all signals in one place."""

import numpy as np
import pytest
from sklearn.mixture import GaussianMixture

from openal_ray import seeds
from openal_ray.pool import Listed
from openal_ray.record import PastQuery
from openal_ray.selection.halves import LocalHalves
from openal_ray.selection.purity.eaoa import EaoaHalf, pick_eaoa
from openal_ray.selection.purity.meta_net import worth
from openal_ray.shard import ReadOrder
from openal_ray.strategies import catalogue
from openal_ray.strategies.open_set import contrast, eaoa, eoal
from openal_ray.testing.pools import N_CLASSES, ROUND, SEED, case, digits
from tests.strategies.read_all import signals

REJECTED = np.flatnonzero(case().labels == 9)[:60]
FIRST = np.setdiff1d(np.flatnonzero(case().labels != 9)[:120], REJECTED)
POOL = type(case().pool)(case().pool.size, FIRST, case().labels[FIRST]).annotate(REJECTED, np.full(len(REJECTED), -1))
TRAIN = {"train": {"epochs": 40}}


def probabilities(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Posterior of the larger-mean component by scikit-learn, per group; 0 outside all groups."""
    found = np.zeros(len(values))
    for group in np.unique(groups[groups >= 0]):
        mine = groups == group
        if mine.sum() < 2:
            continue
        fit = GaussianMixture(2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=0).fit(values[mine][:, None])
        found[mine] = fit.predict_proba(values[mine][:, None])[:, int(np.argmax(fit.means_[:, 0]))]
    return found


def test_lfosa_asks_where_scikit_learns_mixtures_are_sure() -> None:
    strategy = catalogue.build("lfosa", TRAIN)
    indices, read, _ = signals(case(), strategy, POOL)
    logits = read["detector.logits"].astype(np.float64)
    groups = np.where(logits.argmax(1) < N_CLASSES, logits.argmax(1), -1)
    sure = probabilities(logits.max(1), groups)
    found = np.searchsorted(indices, case().ask(strategy, 100, case().shards(2), POOL).indices)
    assert (groups[found] >= 0).all() and np.median(sure[found]) > 0.99
    assert (case().labels[indices[found]] == 9).mean() < 0.05  # nines are the rejected kind


@pytest.mark.parametrize("name", ["av_based", "av_uncertainty"])
def test_the_baselines_use_the_classifier_alone(name: str) -> None:
    strategy, spread = catalogue.build(name), digits(scale=50)  # logits of a trained network's size
    indices, read, _ = signals(spread, strategy, POOL)
    logits = read["logits"].astype(np.float64)
    probs = read.get("probs")
    values = logits.max(1)
    if name == "av_uncertainty":
        p = np.asarray(probs, np.float64)
        values = values * -(p * np.log(p)).sum(1)
    sure = probabilities(values, logits.argmax(1))
    found = np.searchsorted(indices, spread.ask(strategy, 60, pool=POOL).indices)
    assert np.median(sure[found]) >= np.quantile(sure, 0.9)


def test_max_av_is_the_largest_logit() -> None:
    indices, read, _ = signals(case(), catalogue.build("max_av"), POOL)
    expected = indices[np.argsort(-read["logits"].max(1), kind="stable")[:30]]
    assert case().ask("max_av", 30, pool=POOL).indices.tolist() == expected.tolist()


def test_eoal_takes_sure_images_of_known_classes_from_many_clusters() -> None:
    parameters = {"diverse": False, **TRAIN}
    strategy = catalogue.build("eoal", parameters)
    indices, read, _ = signals(case(), strategy, POOL)
    gap = (read["detector.binary_logits"][:, 1] - read["detector.binary_logits"][:, 0]).astype(np.float64)
    p = 1 / (1 + np.exp(-gap))
    closed = (-(p * np.log(p) + (1 - p) * np.log1p(-p))).mean(axis=1) / np.log(2)
    known = read["detector.logits"].argmax(1) < N_CLASSES
    found = np.searchsorted(indices, case().ask(strategy, 60, case().shards(2), POOL).indices)
    assert known[found].all()
    assert np.median(closed[found]) < np.median(closed[known])
    spread = case().ask(catalogue.build("eoal", TRAIN), 60, pool=POOL).indices
    assert len(np.unique(case().labels[spread])) >= len(np.unique(case().labels[indices[found]]))


def test_eaoas_candidates_follow_the_purity_of_earlier_queries() -> None:
    def past(number: int, share: float) -> PastQuery:
        answers = np.where(np.arange(100) < 100 * share, 0, -1)
        return PastQuery(number, np.arange(100), answers)

    # The specification's trace: k_1 = 5; purities .9, .9, .4, .62 give 6, 7, 6, 6.
    history = (past(0, 1.0), *(past(number, share) for number, share in enumerate((0.9, 0.9, 0.4, 0.62), 1)))
    assert [eaoa._factor(history[: number + 2], 5.0, 0.6) for number in range(4)] == [6, 7, 6, 6]


def test_eaoa_is_its_algorithm_on_all_signals_in_one_place() -> None:
    strategy = catalogue.build("eaoa", TRAIN)
    indices, read, _ = signals(case(), strategy, POOL)
    shards = case().shards()
    case().load(strategy, shards, POOL)
    shards.read(ReadOrder("answered", "train", Listed(POOL.answered), ("detector.features",)))
    answered = shards.gather("answered")
    classes = np.where(np.isin(answered.indices, REJECTED), N_CLASSES, case().labels[answered.indices])
    half = EaoaHalf(read["logits"], read["detector.logits"], read["detector.features"], indices)
    rng = seeds.rng(SEED, ROUND, "pick")
    features = answered.signals["detector.features"]
    expected = pick_eaoa(LocalHalves([half]), 50, features, classes, N_CLASSES, 5.0, rng).indices
    assert case().ask(strategy, 50, case().shards(2), POOL).indices.tolist() == expected.tolist()
    assert (case().labels[expected] == 9).mean() < 0.2  # nines are the rejected kind


def test_ccal_gives_every_pseudo_label_its_share() -> None:
    indices, read, labelled = signals(case(), catalogue.build("ccal"), POOL)
    rows, known = (
        each / np.linalg.norm(each, axis=1, keepdims=True) for each in (read["features"], labelled["features"])
    )
    classes = POOL.classes[np.argsort(POOL.labelled)]
    pseudo = classes[(rows @ known.T).argmax(1)]
    found = np.searchsorted(indices, case().ask("ccal", 45, pool=POOL).indices)
    assert np.bincount(pseudo[found], minlength=10)[:9].tolist() == [5] * 9 or len(set(pseudo[found])) >= 7


def test_mqnet_learns_from_its_last_query_and_notes_what_it_needs() -> None:
    strategy = catalogue.build("mqnet", {"epochs": 5})
    first = case().ask(strategy, 40, pool=POOL)
    assert first.notes["inputs"].shape == (40, 2) and first.notes["log_probs"].shape == (40, N_CLASSES)
    answers = np.where(case().labels[first.indices] == 9, -1, case().labels[first.indices])
    history = (PastQuery(0, FIRST, POOL.classes), PastQuery(1, first.indices, answers, first.notes))
    net = contrast._taught(history, contrast.MetaPlan(epochs=5))
    assert net is not None and contrast._taught(history[:1], contrast.MetaPlan()) is None
    value = worth(first.notes["log_probs"], answers)
    assert (value[answers < 0] == 0).all() and (value[answers >= 0] > 0).all()
    taught = case().ask(strategy, 40, pool=POOL.annotate(first.indices, answers), history=history)
    plain = case().ask(strategy, 40, pool=POOL.annotate(first.indices, answers))
    assert set(taught.indices.tolist()) != set(plain.indices.tolist())


def test_finch_sees_the_rows_in_the_order_of_the_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    class Half:
        def __init__(self, indices: list[int]) -> None:
            self._indices = np.array(indices)

        def inner(self, name: str, verb: str) -> int:
            return len(self._indices)

        def known(self) -> tuple[np.ndarray, np.ndarray]:
            return self._indices, np.eye(6)[self._indices]

    monkeypatch.setattr(eoal, "finest_partition", lambda rows, count: np.arange(len(rows)))
    one, other = Half([0, 3, 4]), Half([1, 2, 5])
    for halves in ([one, other], [other, one]):
        centres = eoal._centres(LocalHalves(halves), 6, "finch", np.random.default_rng(0))
        np.testing.assert_array_equal(centres, np.eye(6))
