"""Strategies that ask where networks thinned by dropout disagree, or are unsure on average."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from openal_ray.selection import scores
from openal_ray.selection.batch_bald import CONFIGURATIONS, BatchBaldHalf, pick_batch_bald
from openal_ray.selection.halves import Picks
from openal_ray.shard import Part
from openal_ray.signal_store import Signals
from openal_ray.strategies.strategy import Strategy
from openal_ray.strategies.view import View


def bald(passes: int = 10) -> Strategy:
    """BALD (Houlsby et al. 2011; Gal et al. 2017, §3): the information that the label holds about the weights.

    Entropy of the mean prediction minus the mean entropy of `passes` predictions under dropout. Masks are the same for
    all images of a pass, as one sample of the weights means; the paper's code draws them anew for each image.
    """
    return _sampled(
        passes, ("mc_mean", "mc_entropy"), lambda read: scores.entropy(read["mc_mean"]) - read["mc_entropy"]
    )


def mean_std(passes: int = 10) -> Strategy:
    """Mean standard deviation (Kampffmeyer et al. 2016; Gal et al. 2017, §5): how far the passes spread, over classes.

    Differs from OpenAL: population deviation, as in the paper, so that one pass gives 0 and not NaN.
    """
    return _sampled(passes, ("mc_std",), lambda read: read["mc_std"].mean(axis=1))


def variation_ratio(passes: int = 10) -> Strategy:
    """Variation ratio (Freeman 1965; Gal et al. 2017, §3): share of the passes that do not vote for the modal class.

    Differs from OpenAL, whose VarRatio is least_confidence under another name.
    """
    return _sampled(passes, ("mc_votes",), lambda read: 1.0 - read["mc_votes"].max(axis=1))


def mc_entropy(passes: int = 10) -> Strategy:
    """Entropy of the mean prediction under dropout (Gal et al. 2017, §3, max entropy)."""
    return _sampled(passes, ("mc_mean",), lambda read: scores.entropy(read["mc_mean"]))


def mc_least_confidence(passes: int = 10) -> Strategy:
    """Least confidence (Lewis & Gale 1994) of the mean prediction under dropout (Gal et al. 2017)."""
    return _sampled(passes, ("mc_mean",), lambda read: scores.least_confidence(read["mc_mean"]))


def mc_margin(passes: int = 10) -> Strategy:
    """Margin (Scheffer et al. 2001) of the mean prediction under dropout (Gal et al. 2017)."""
    return _sampled(passes, ("mc_mean",), lambda read: scores.margin(read["mc_mean"]))


def mc_ratio(passes: int = 10) -> Strategy:
    """Ratio of confidence (Settles 2009) of the mean prediction under dropout (Gal et al. 2017)."""
    return _sampled(passes, ("mc_mean",), lambda read: scores.ratio(read["mc_mean"]))


def batch_bald(passes: int = 10, configurations: int = CONFIGURATIONS) -> Strategy:
    """BatchBALD (Kirsch et al. 2019, Alg. 1): the batch whose labels together say most about the weights.

    configurations  label combinations of a batch that are told apart: all of them while there are so few, then a sample
    Differs from the paper: masks as in `bald`. For batches of some tens; draw candidates first (budget.n_subset).
    """
    if configurations < 1:
        raise ValueError(f"configurations must be at least 1, got {configurations}")

    def pick(view: View, budget: int, rng: np.random.Generator) -> Picks:
        return pick_batch_bald(view.open(_batch_bald_half), budget, rng, configurations)

    return replace(_sampled(passes, ("mc_probs",), None), pick=pick)


def _sampled(passes: int, needs: tuple[str, ...], score: Callable[[Signals], np.ndarray] | None) -> Strategy:
    if passes < 1:
        raise ValueError(f"passes must be at least 1, got {passes}")
    return Strategy(needs=needs, score=score, passes=passes)


def _batch_bald_half(part: Part) -> BatchBaldHalf:
    return BatchBaldHalf(part.signals["mc_probs"], part.indices)
