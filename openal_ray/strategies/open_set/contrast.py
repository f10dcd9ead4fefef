"""CCAL and MQ-Net: how much an image is like the labelled ones, by an encoder's features."""

from dataclasses import replace

import numpy as np

from openal_ray import seeds
from openal_ray.models.contrastive import Looks
from openal_ray.models.encoders import PUBLISHED, tells_shifts
from openal_ray.record import PastQuery
from openal_ray.selection import scores
from openal_ray.selection.halves import Picks
from openal_ray.selection.purity.ccal import CcalHalf, CcalPlan, Form, LabelledViews, pick_ccal
from openal_ray.selection.purity.meta_net import MetaNet, MetaPlan, fit_meta_net, worth
from openal_ray.selection.purity.mqnet import MqnetHalf, labelled_similarity, pick_mqnet
from openal_ray.selection.quotas import even_quotas
from openal_ray.shard import Part
from openal_ray.strategies.features import OWN_NETWORK, Features, needs_of
from openal_ray.strategies.learned_loss import learning_loss
from openal_ray.strategies.strategy import Strategy
from openal_ray.strategies.view import View

_SEEN = "view_projections"  # what CCAL compares images by
_LEAST = 1e-12  # a probability below counts as this, so that a loss stays finite


def ccal(
    semantic: str = OWN_NETWORK, distinctive: str = OWN_NETWORK, encoder_weights: str = PUBLISHED,
    form: Form = "official", k: float = 100.0, t: float = 0.9, views: int = 10, crop: float = 0.54,
) -> Strategy:  # fmt: skip
    """CCAL (Du et al. 2021, §3): like a class at large, yet unlike its labelled images; a share for each class.

    semantic         the encoder that says what images are like at large; the paper pre-trains SimCLR on the pool
    distinctive      the encoder that says how images of a class differ; the paper pre-trains CSI, whose quarter turns
                     of an image have a say each
    encoder_weights  of both, where they are timm's; for all three see `openal_ray.strategies.features`
    form             official, or openal: see `openal_ray.selection.purity.ccal`
    k, t             steepness and threshold of the semantic score
    views            of an image that an encoder of `openal-ray pretrain` looks at; OpenAL: 1
    crop             share of an image that such a view shows
    Differs: see `openal_ray.models.contrastive.ContrastiveNetwork.forward_views`. Other encoders, and the round's own
    features where none is given, see an image once, as it is.
    """
    if form not in ("official", "openal"):
        raise ValueError(f"form must be official or openal, got {form!r}")
    looks, plan = Looks(views, crop), CcalPlan(form, k, t)
    shifted = "shift_projections" if tells_shifts(distinctive, "distinctive") else _SEEN
    alike = Features(semantic, encoder_weights, of_pretrained=_SEEN, name="semantic", looks=looks)
    unlike = Features(distinctive, encoder_weights, of_pretrained=shifted, name="distinctive", looks=looks)

    def pick(view: View, budget: int, rng: np.random.Generator) -> Picks:
        rows, shifts = alike.labelled(view), unlike.labelled(view)
        if rows is None or shifts is None:
            return view.draw(budget, rng)
        labelled = LabelledViews(rows, _by_shift(shifts), view.labelled_classes)
        quotas = even_quotas(budget, view.n_classes, rng)
        return pick_ccal(view.open(_ccal_half, alike, unlike, labelled, view.n_classes, plan), quotas)

    return Strategy(**needs_of(alike, unlike), pick=pick)


def mqnet(
    encoder: str = OWN_NETWORK, encoder_weights: str = PUBLISHED, informativeness: str = "least_confidence",
    epochs: int = 100, pairs: str = "flip",
) -> Strategy:  # fmt: skip
    """MQ-Net (Park et al. 2022, §4): learns from every query how to weigh purity against informativeness.

    encoder, encoder_weights  see `openal_ray.strategies.features`; the paper pre-trains one by CSI
    informativeness           least_confidence, or learning_loss as in the paper's tables
    epochs                    of the network that weighs, 100 steps each
    pairs                     flip (official) or next (openal)
    Differs: see `openal_ray.selection.purity.mqnet` and `meta_net`.
    """
    if informativeness not in ("least_confidence", "learning_loss") or pairs not in ("flip", "next") or epochs < 1:
        raise ValueError(
            "informativeness is least_confidence or learning_loss, pairs flip or next and epochs at least 1, got "
            f"{informativeness!r}, {pairs!r} and {epochs}"
        )
    features = Features(encoder, encoder_weights, of_pretrained="projection")
    loss = learning_loss() if informativeness == "learning_loss" else None
    plan = MetaPlan(epochs=epochs, pairs="flip" if pairs == "flip" else "next")

    def pick(view: View, budget: int, rng: np.random.Generator) -> Picks:
        labelled = features.labelled(view)
        net = _taught(view.history, plan)
        return pick_mqnet(view.open(_mqnet_half, features, labelled, loss is not None), budget, net)

    declared = features.needs
    needs = ("probs", *(("predicted_loss",) if loss else ()), *declared.pop("needs", ()))
    strategy = Strategy(needs=needs, **declared, pick=pick)
    return replace(strategy, classifier=loss.classifier) if loss else strategy


def _taught(history: tuple[PastQuery, ...], plan: MetaPlan) -> MetaNet | None:
    """The network as the last query's answers teach it; None before the first."""
    last = history[-1] if history else None
    if last is None or "inputs" not in last.notes or not len(last.indices):
        return None
    value = worth(last.notes["log_probs"], last.answers)
    return fit_meta_net(last.notes["inputs"], value, seeds.rng(0, last.round, "meta net"), plan)


def _by_shift(rows: np.ndarray) -> np.ndarray:
    """[n, S, D], also where an encoder sees images only as they are."""
    return rows if rows.ndim == 3 else rows[:, None]


def _ccal_half(
    part: Part, semantic: Features, distinctive: Features, labelled: LabelledViews, n_classes: int, plan: CcalPlan
) -> CcalHalf:
    rows, shifts = semantic.of(part.signals), _by_shift(distinctive.of(part.signals))
    return CcalHalf(rows, shifts, labelled, n_classes, part.indices, plan)


def _mqnet_half(part: Part, features: Features, labelled: np.ndarray | None, by_loss: bool) -> MqnetHalf:
    probs, rows = part.signals["probs"], features.of(part.signals)
    informative = part.signals["predicted_loss"] if by_loss else scores.least_confidence(probs)
    purity = labelled_similarity(rows, rows[:0] if labelled is None else labelled)
    return MqnetHalf(informative, purity, np.log(np.maximum(probs, _LEAST)), part.indices)
