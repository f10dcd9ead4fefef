"""LfOSA and the baselines of its code: a mixture of two for each class tells strong activations from weak ones."""

from collections.abc import Callable

import numpy as np

from openal_ray.models.detectors import Detector
from openal_ray.selection.grouped import GroupedHalf, pick_ranked
from openal_ray.selection.halves import Halves, Picks
from openal_ray.selection.inner import Inner
from openal_ray.selection.purity import post_hoc
from openal_ray.selection.purity.energies import known_log_odds
from openal_ray.selection.purity.lfosa import (
    LfosaGroups,
    activation_log_odds,
    activations,
    lfosa_keys,
    uncertain_activations,
)
from openal_ray.selection.purity.mixture import MixtureHalf, Mixtures, fit_mixtures
from openal_ray.shard import Part
from openal_ray.signal_store import Signals
from openal_ray.strategies.open_set.detection import NAME, Plan, check_plan, trained
from openal_ray.strategies.strategy import Strategy
from openal_ray.strategies.view import View

LOGITS = f"{NAME}.logits"


def lfosa(temperature: float = 0.5, monotone: bool = False, train: Plan | None = None) -> Strategy:
    """LfOSA (Ning et al. 2022, §3): ask for what a detector is surest to know, class by class.

    temperature  of the detector's training
    monotone     images below the lower mean of their class's mixture count as unknown
    train        keys of `train` for the detector, such as {epochs: 100}; otherwise it trains as the classifier does
    Differs: see `openal_ray.selection.purity.lfosa`; the detector is the classifier's network, where the paper puts two
    numbers before the last layer.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    check_plan(train)

    def pick(view: View, budget: int, rng: np.random.Generator) -> Picks:
        n = view.n_classes
        keys = _Keys(
            lambda read: activations(read[LOGITS], n), lambda read, fit: lfosa_keys(read[LOGITS], n, fit, monotone)
        )
        return _pick(view, budget, keys)

    return Strategy(
        needs=(LOGITS,), prepare=trained(lambda wider: Detector(wider, temperature), train), pick=pick,
        purity=lambda read: known_log_odds(read[LOGITS]), needs_start=True,
    )  # fmt: skip


def av_based() -> Strategy:
    """AV_based (baseline of Ning et al. 2022): as LfOSA on the classifier's own activations, without a detector."""

    def pick(view: View, budget: int, rng: np.random.Generator) -> Picks:
        groups = lambda read: activations(read["logits"], view.n_classes)  # noqa: E731
        return _pick(view, budget, _Keys(groups, lambda read, fit: activation_log_odds(groups(read), fit)))

    return Strategy(needs=("logits",), pick=pick, purity=lambda read: post_hoc.max_logit(read["logits"]))


def av_uncertainty() -> Strategy:
    """AV_uncertainty (baseline of Ning et al. 2022): as AV_based, activations times the entropy of the prediction."""

    def pick(view: View, budget: int, rng: np.random.Generator) -> Picks:
        groups = lambda read: uncertain_activations(read["logits"], read["probs"])  # noqa: E731
        return _pick(view, budget, _Keys(groups, lambda read, fit: activation_log_odds(groups(read), fit)))

    return Strategy(needs=("logits", "probs"), pick=pick, purity=lambda read: post_hoc.max_logit(read["logits"]))


def max_av() -> Strategy:
    """Max_AV (baseline of Ning et al. 2022): ask where the classifier's largest logit is largest."""
    return Strategy(
        needs=("logits",), score=lambda read: post_hoc.max_logit(read["logits"]),
        purity=lambda read: post_hoc.max_logit(read["logits"]),
    )  # fmt: skip


class _Keys:
    """From signals to what the mixtures are fitted to, and from these to keys that rank."""

    def __init__(
        self, groups: Callable[[Signals], LfosaGroups], keys: Callable[[Signals, Mixtures], np.ndarray]
    ) -> None:
        self.groups, self.keys = groups, keys


class _Half:
    """One shard's rows: first the mixtures' numbers, then the ranking."""

    def __init__(self, part: Part, keys: _Keys, n_classes: int) -> None:
        self._part, self._keys = part, keys
        self._halves: dict[str, MixtureHalf | GroupedHalf] = {
            "mixtures": MixtureHalf(*keys.groups(part.signals), part.indices, n_classes)
        }

    def rank(self, fit: Mixtures) -> None:
        keys = self._keys.keys(self._part.signals, fit)
        none = np.zeros(len(self._part.indices), dtype=np.int64)
        self._halves["ranked"] = GroupedHalf(keys, none, self._part.indices)

    def inner(self, name: str, verb: str, *args: object) -> object:
        return getattr(self._halves[name], verb)(*args)


def _pick(view: View, budget: int, keys: _Keys) -> Picks:
    halves: Halves = view.open(_Half, keys, view.n_classes)
    halves.ask("rank", fit_mixtures(Inner(halves, "mixtures")))
    return pick_ranked(Inner(halves, "ranked"), budget)
