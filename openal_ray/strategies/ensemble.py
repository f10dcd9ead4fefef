"""Query by committee: strategies that ask where several classifiers, trained on the same labels, disagree."""

from collections.abc import Callable

import numpy as np

from openal_ray.selection import scores
from openal_ray.signal_store import Signals
from openal_ray.strategies.strategy import Helpers, Round, Strategy


def ensemble_entropy(members: int = 5) -> Strategy:
    """Entropy of a deep ensemble's mean prediction (Lakshminarayanan et al. 2017; Beluch et al. 2018, §3)."""
    return _committee(members, lambda probs: scores.entropy(probs.mean(axis=1)))


def ensemble_bald(members: int = 5) -> Strategy:
    """Mutual information of a deep ensemble (Houlsby et al. 2011; Beluch et al. 2018, §3), members as samples."""
    return _committee(members, scores.bald)


def ensemble_variation_ratio(members: int = 5) -> Strategy:
    """Variation ratio of a deep ensemble (Freeman 1965; Beluch et al. 2018, §3): share of votes not for the mode."""
    return _committee(members, scores.variation_ratio)


def qbc(members: int = 5) -> Strategy:
    """Query by committee (Seung et al. 1992) by vote entropy (Dagan & Engelson 1995)."""
    return _committee(members, scores.vote_entropy)


def _committee(members: int, score: Callable[[np.ndarray], np.ndarray]) -> Strategy:
    """The classifier is a member; the others differ in their first weights and the order of batches.

    Members are trained at the same time where train.at_once allows, and read together: each image is decoded once.
    """
    if members < 2:
        raise ValueError(f"members must be at least 2, got {members}")
    others = [f"member{number}" for number in range(2, members + 1)]
    needs = ("probs", *(f"{name}.probs" for name in others))

    def prepare(round: Round) -> Helpers:
        pool = round.pool
        return {name: round.job(name, round.classifier, pool.labelled, pool.classes) for name in others}

    def disagreement(read: Signals) -> np.ndarray:
        return score(np.stack([read[need] for need in needs], axis=1))

    return Strategy(needs=needs, score=disagreement, prepare=prepare)
