"""EOAL: sure of a known class, far from all clusters of rejected images, spread over clusters."""

from typing import Any

import numpy as np

from openal_ray.models.detectors import OpenDetector, OpenNetwork, own_optimizer
from openal_ray.models.learners import Classifier
from openal_ray.selection.distances import nearest
from openal_ray.selection.grouped import GroupedHalf
from openal_ray.selection.halves import Halves, Picks
from openal_ray.selection.inner import Inner
from openal_ray.selection.k_means import KMeansHalf, fit_k_means
from openal_ray.selection.purity.clusters import Clusterer
from openal_ray.selection.purity.energies import known_log_odds
from openal_ray.selection.purity.eoal import Form, eoal_score, query_groups
from openal_ray.selection.purity.finch import cluster_means, finest_partition
from openal_ray.selection.quotas import pick_by_cluster
from openal_ray.selection.similarity import directions
from openal_ray.shard import Part
from openal_ray.strategies.open_set.detection import NAME, Plan, check_plan, trained
from openal_ray.strategies.strategy import Strategy
from openal_ray.strategies.view import View

LOGITS, BINARY, FEATURES = f"{NAME}.logits", f"{NAME}.binary_logits", f"{NAME}.features"


def eoal(
    form: Form = "official", diverse: bool = True, clusterer: Clusterer = "kmeans", rejected: float = 0.8,
    recluster: int = 10, binary_lr: float | None = 0.01, train: Plan | None = None,
) -> Strategy:  # fmt: skip
    """EOAL (Safaei et al. 2024, §3): low entropy of binary classifiers, high entropy of distances to rejected images.

    form       official, or openal, whose first entropy is in nats and whose binary classifiers go without Nesterov
    diverse    spread the query over clusters of the images that are predicted known
    clusterer  of these and of rejected images: kmeans, or finch as the authors, a package that is not free for
               commercial use; with finch the candidates' features travel to the driver
    rejected   share alpha of rejected images in the detector's loss
    recluster  epochs between clusterings of the rejected images (the authors: 1)
    binary_lr  constant rate of the SGD that trains the binary classifiers; null: as the detector
    train      keys of `train` for the detector; otherwise it trains as the classifier does
    Differs: see `openal_ray.models.detectors.OpenDetector` and `openal_ray.selection.quotas`.
    """
    if form not in ("official", "openal") or clusterer not in ("kmeans", "finch"):
        raise ValueError(f"form is official or openal and clusterer kmeans or finch, got {form!r} and {clusterer!r}")
    if not 0 <= rejected <= 1 or recluster < 1:
        raise ValueError(f"rejected must be in 0 … 1 and recluster at least 1, got {rejected} and {recluster}")
    if binary_lr is not None and binary_lr <= 0:
        raise ValueError(f"binary_lr must be above 0, got {binary_lr}")
    check_plan(train)
    binary = own_optimizer(binary_lr, nesterov=form == "official") if binary_lr else None

    def pick(view: View, budget: int, rng: np.random.Generator) -> Picks:
        halves = view.open(_Half, form)
        centres = _centres(halves, budget, clusterer, rng) if diverse else None
        halves.ask("rank", centres)
        return pick_by_cluster(Inner(halves, "ranked"), budget, spare=True)

    def build(wider: Classifier) -> OpenDetector:
        return OpenDetector(wider, rejected=rejected, recluster=recluster, clusterer=clusterer, binary=binary)

    return Strategy(
        needs=(LOGITS, BINARY, FEATURES), pick=pick, prepare=trained(build, train),
        purity=lambda read: known_log_odds(read[LOGITS]),
    )  # fmt: skip


class _Half:
    """One shard's rows; those predicted known are clustered."""

    def __init__(self, part: Part, form: Form) -> None:
        network = part.networks[NAME]
        assert isinstance(network, OpenNetwork)
        self._indices, self._logits = part.indices, part.signals[LOGITS]
        self._rows = directions(part.signals[FEATURES])
        centres = network.centres[: int(network.n_centres)].cpu().numpy()
        self._scores = eoal_score(part.signals[BINARY], part.signals[FEATURES], centres, form)
        self._known = self._logits.argmax(axis=1) < self._logits.shape[1] - 1
        self._halves: dict[str, Any] = {
            "known": KMeansHalf(self._rows[self._known], self._indices[self._known], part.device)
        }

    def known(self) -> tuple[np.ndarray, np.ndarray]:
        """Dataset indices and unit features of the rows predicted known."""
        return self._indices[self._known], self._rows[self._known]

    def rank(self, centres: np.ndarray | None) -> None:
        """Takes the clusters' centres (None: one cluster); makes the ranking by clusters."""
        count = 1 if centres is None or not len(centres) else len(centres)
        clusters = np.zeros(len(self._indices), dtype=np.int64)
        if count > 1:
            clusters = nearest(self._rows, centres)[0]  # type: ignore[arg-type]
        groups = query_groups(self._logits, clusters, count)
        self._halves["ranked"] = GroupedHalf(self._scores, groups, self._indices, count + 1)

    def inner(self, name: str, verb: str, *args: Any) -> Any:
        return getattr(self._halves[name], verb)(*args)


def _centres(halves: Halves, budget: int, clusterer: Clusterer, rng: np.random.Generator) -> np.ndarray:
    known = Inner(halves, "known")
    count = min(budget, sum(known.ask("size")))
    if not count:
        return np.empty((0, 1))
    if clusterer == "kmeans":
        return fit_k_means(known, count, rng)
    indices, rows = (np.concatenate(part) for part in zip(*halves.ask("known"), strict=True))
    rows = rows[np.argsort(indices)]  # FINCH goes by the order of the rows
    return cluster_means(rows, finest_partition(rows, count))
