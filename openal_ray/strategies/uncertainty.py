"""Strategies that ask where the classifier's predicted distribution is least sure: a score each, the highest win."""

from openal_ray.selection import scores
from openal_ray.strategies.strategy import Strategy


def least_confidence() -> Strategy:
    """Least confidence (Lewis & Gale 1994; Settles 2009, §3.1): ask where the likeliest class is least likely."""
    return Strategy(needs=("probs",), score=lambda read: scores.least_confidence(read["probs"]))


def margin() -> Strategy:
    """Margin sampling (Scheffer et al. 2001; Settles 2009, §3.1): ask where the two likeliest classes are closest."""
    return Strategy(needs=("probs",), score=lambda read: scores.margin(read["probs"]))


def ratio() -> Strategy:
    """Ratio of confidence (Settles 2009, §3.1, as a quotient): ask where the second class over the first is largest."""
    return Strategy(needs=("probs",), score=lambda read: scores.ratio(read["probs"]))


def entropy() -> Strategy:
    """Entropy sampling (Shannon 1948; Settles 2009, §3.1): ask where the predicted distribution is flattest."""
    return Strategy(needs=("probs",), score=lambda read: scores.entropy(read["probs"]))
