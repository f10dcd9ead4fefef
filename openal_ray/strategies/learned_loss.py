"""Strategies whose network says itself where it will be wrong."""

from typing import Any

from openal_ray.models.learners import Classifier, Learner
from openal_ray.models.loss_prediction import LossPrediction
from openal_ray.strategies.strategy import Strategy


def learning_loss(
    weight: float = 1.0,
    margin: float = 1.0,
    hidden: int = 128,
    detach_share: float = 0.6,
    pairing: str = "neighbours",
    ranking: str = "margin",
) -> Strategy:
    """Learning Loss (Yoo & Kweon 2019, §3): ask where a head, trained along, predicts the largest loss.

    weight        of the ranking loss beside the cross-entropy
    margin        by which the larger of two predicted losses shall lead
    hidden        units of the head for each of the network's last four stages
    detach_share  share of the epochs after which the head no longer teaches the classifier (1: never)
    pairing       neighbours (the paper) or ends (TA-VAAL, Kim et al. 2021)
    ranking       margin (the paper) or logistic (TA-VAAL)
    Differs from the paper: all candidates are scored, not 10,000 of them (budget.n_subset=10000 does that).
    """
    for name, value, valid in (
        ("pairing", pairing, ("neighbours", "ends")), ("ranking", ranking, ("margin", "logistic")),
    ):  # fmt: skip
        if value not in valid:
            raise ValueError(f"{name} must be {' or '.join(valid)}, got {value!r}")
    if weight < 0 or margin < 0 or not 0 <= detach_share <= 1 or hidden < 1:
        raise ValueError(
            "weight and margin must be >= 0, detach_share between 0 and 1 and hidden >= 1, "
            f"got {weight}, {margin}, {detach_share} and {hidden}"
        )
    options: dict[str, Any] = {"pairing": pairing, "ranking": ranking}

    def classifier(plain: Classifier) -> Learner:
        return LossPrediction(plain, weight, margin, hidden, detach_share, **options)

    return Strategy(needs=("predicted_loss",), score=lambda read: read["predicted_loss"], classifier=classifier)
