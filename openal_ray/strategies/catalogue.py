"""Every strategy by name, with its facts; and the one way from a name and parameters to a Strategy."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from openal_ray.errors import ConfigError, unknown_name
from openal_ray.strategies.alpha_mix import alpha_mix
from openal_ray.strategies.density import cluster_margin, k_means, max_herding, prob_cover, typiclust
from openal_ray.strategies.diversity import badge, k_center, k_center_balanced
from openal_ray.strategies.ensemble import ensemble_bald, ensemble_entropy, ensemble_variation_ratio, qbc
from openal_ray.strategies.learned_loss import learning_loss
from openal_ray.strategies.monte_carlo import (
    bald,
    batch_bald,
    mc_entropy,
    mc_least_confidence,
    mc_margin,
    mc_ratio,
    mean_std,
    variation_ratio,
)
from openal_ray.strategies.open_set.composition import clipnal, openset_auto, purity_filter
from openal_ray.strategies.open_set.contrast import ccal, mqnet
from openal_ray.strategies.open_set.eaoa import eaoa
from openal_ray.strategies.open_set.eoal import eoal
from openal_ray.strategies.open_set.lfosa import av_based, av_uncertainty, lfosa, max_av
from openal_ray.strategies.random import random
from openal_ray.strategies.strategy import Strategy, drawn_scores, highest_scores
from openal_ray.strategies.uncertainty import entropy, least_confidence, margin, ratio
from openal_ray.user_code import user_function


@dataclass(frozen=True)
class Entry:
    """The facts of one strategy.

    cost     beyond reading the signals; N unlabelled, L labelled, B budget, C classes, D features, S shards
    aliases      names that other tools use for it
    needs_files  it needs published weights, which no package brings
    """

    build: Callable[..., Strategy]
    family: str
    paper: str
    cost: str
    aliases: tuple[str, ...] = ()
    needs_files: bool = False

    @property
    def name(self) -> str:
        return self.build.__name__

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameter names with their defaults."""
        own = {name: parameter.default for name, parameter in inspect.signature(self.build).parameters.items()}
        return own | (BATCH if _is_ranking(self.build()) else {})

    def facts(self) -> dict[str, Any]:
        """Everything that `openal-ray strategies` prints, as plain data."""
        strategy = self.build()
        return {
            "name": self.name,
            "aliases": list(self.aliases),
            "family": self.family,
            "needs": list(strategy.all_needs),
            "paper": self.paper,
            "parameters": self.parameters,
            "cost": self.cost,
            "guarantee": strategy.guarantee,
            "needs_start": strategy.needs_start,
            "description": inspect.getdoc(self.build) or "",
        }


_SCORE_COST = "O(N·C) time, S·B candidates to the driver"
_PASSES_COST = "T head passes, or T whole ones if dropout lies deeper; O(N·C) memory whatever T; S·B candidates"
_DETECTOR_COST = "one further training a round, at the same time with train.at_once, and one further forward pass"
_COMMITTEE_COST = (
    "members - 1 further trainings a round, at the same time with train.at_once; members forward passes of "
    "one decoding; O(N·members·C) memory; S·B candidates"
)

ENTRIES = (
    Entry(random, "reference", "–", "O(B); no forward pass", ("RandomSampling",)),
    Entry(least_confidence, "uncertainty", "Lewis & Gale 1994", _SCORE_COST, ("LeastConfidence",)),
    Entry(margin, "uncertainty", "Scheffer et al. 2001", _SCORE_COST, ("MarginSampling",)),
    Entry(ratio, "uncertainty", "Settles 2009", _SCORE_COST, ("RatioSampling",)),
    Entry(entropy, "uncertainty", "Settles 2009", _SCORE_COST, ("EntropySampling",)),
    Entry(bald, "Monte Carlo", "Gal et al. 2017 (arXiv 1703.02910)", _PASSES_COST, ("BALD",)),
    Entry(
        mean_std, "Monte Carlo", "Kampffmeyer et al. 2016", _PASSES_COST, ("MeanSTD", "MeanSTDSampling")
    ),
    Entry(
        variation_ratio, "Monte Carlo", "Gal et al. 2017 (arXiv 1703.02910)", _PASSES_COST,
        ("VarRatio", "VarRatioSampling"),
    ),
    Entry(mc_entropy, "Monte Carlo", "Gal et al. 2017 (arXiv 1703.02910)", _PASSES_COST),
    Entry(mc_least_confidence, "Monte Carlo", "Gal et al. 2017 (arXiv 1703.02910)", _PASSES_COST),
    Entry(mc_margin, "Monte Carlo", "Gal et al. 2017 (arXiv 1703.02910)", _PASSES_COST),
    Entry(mc_ratio, "Monte Carlo", "Gal et al. 2017 (arXiv 1703.02910)", _PASSES_COST),
    Entry(
        batch_bald, "Monte Carlo", "Kirsch et al. 2019 (arXiv 1906.08158)",
        "T head passes, or T whole ones; O(N·T·C) memory in the shards; O(B·N·M·T·C) time, M configurations of labels; "
        "B exchanges of M·T numbers", ("BatchBALD",),
    ),
    Entry(
        ensemble_entropy, "committee", "Beluch et al. 2018", _COMMITTEE_COST, ("EnsembleEntropy",),
    ),
    Entry(ensemble_bald, "committee", "Beluch et al. 2018", _COMMITTEE_COST, ("EnsembleBALD",)),
    Entry(ensemble_variation_ratio, "committee", "Beluch et al. 2018", _COMMITTEE_COST, ("EnsembleVarRatio",)),
    Entry(qbc, "committee", "Dagan & Engelson 1995", _COMMITTEE_COST, ("QBC", "QueryByCommittee")),
    Entry(
        learning_loss, "learned", "Yoo & Kweon 2019 (arXiv 1905.03677)",
        "a small head in training and reading; then as a score", ("LearningLoss", "LearningLossAL"),
    ),
    Entry(
        k_center, "diversity", "Sener & Savarese 2018 (arXiv 1708.00489)",
        "O(N·D·(L+B)) time at most, O(N·D) memory in the shards, O((L+B)·D) in the driver",
        ("KCenterGreedy", "CoreSet"),
    ),
    Entry(
        k_center_balanced, "diversity", "Bengar et al. 2022 (arXiv 2110.04543)",
        "as k_center, and O(N·C) time and memory in the shards; few exchanges", ("KCenterGreedyCB",),
    ),
    Entry(
        k_means, "diversity", "Lloyd 1982",
        "O(I·N·D·B) time for I <= 30 steps, O(N·D) memory in the shards, O(B·D) in the driver; I + 4 exchanges or so",
        ("KMeans", "KMeansSampling"),
    ),
    Entry(
        typiclust, "density", "Hacohen et al. 2022 (arXiv 2202.02794)",
        "k-means with min(L + B, 500) clusters, then O(M²·D) time for each cluster of M images that is asked; "
        "S·2048 rows an exchange", ("TypiClust",),
    ),
    Entry(
        prob_cover, "density", "Yehuda et al. 2022 (arXiv 2205.11320)",
        "O(N²·D) time once a query, O(N·D) memory in the shards, 2048 rows an exchange", ("ProbCover",),
    ),
    Entry(
        max_herding, "density", "Bae et al. 2024 (arXiv 2407.12212)",
        "O(N²·D) time once a query, O(N·D) memory in the shards, 2048 rows an exchange", ("MaxHerding",),
    ),
    Entry(
        cluster_margin, "hybrid", "Citovsky et al. 2021 (arXiv 2107.14263)",
        "as a score, then O(M²·D) time and O(M²) memory in the driver for M = 10·B candidates, at most 20,000",
        ("ClusterMargin",),
    ),
    Entry(
        alpha_mix, "hybrid", "Parvaneh et al. 2022 (arXiv 2203.07034)",
        "O(N·C·D) time for a linear head, up to C/cap head passes for others; then k-means of the candidates, which "
        "stay in the shards", ("AlphaMixSampling", "ALFAMix", "AlphaMix"),
    ),
    Entry(
        badge, "hybrid", "Ash et al. 2020 (arXiv 1906.03671)",
        "O(N·B·(C+D)) time at most, O(N·(C+D)) memory in the shards, O(B·(C+D)) in the driver", ("BADGE",),
    ),
    Entry(
        openset_auto, "open set", "ours", _DETECTOR_COST + "; then as its inner strategy, on what passes the filter",
    ),
    Entry(
        purity_filter, "open set", "after arXiv 2408.04917",
        "of the purity score (a detector's training, or nothing); then as its inner strategy",
    ),
    Entry(
        lfosa, "open set", "Ning et al. 2022 (CVPR)",
        _DETECTOR_COST + "; O(N) time a step of EM, 10 steps of a few numbers a class", ("LfOSA",),
    ),
    Entry(
        eoal, "open set", "Safaei et al. 2024 (arXiv 2312.14126)",
        _DETECTOR_COST + "; k-means of the images predicted known, with B clusters", ("EOAL",),
    ),
    Entry(
        eaoa, "open set", "Zong et al. 2025 (CVPR)",
        _DETECTOR_COST + "; O(N·(L+R)·D) time for reverse neighbours, 250 a labelled image and shard to the driver",
        ("EAOA",),
    ),
    Entry(
        ccal, "open set", "Du et al. 2021 (ICCV)",
        "O(N·L·D) time; S·B candidates; an encoder's features once a run", ("CCAL",),
    ),
    Entry(
        mqnet, "open set", "Park et al. 2022 (arXiv 2210.07805)",
        "O(N·L·D) time; a network of 64 units in the driver; B·C numbers in the record", ("MQNet",),
    ),
    Entry(
        clipnal, "open set", "arXiv 2408.04917",
        "CLIP's image tower over all images once a run, 2·templates·C texts once; then as its inner strategy",
        ("CLIPNAL", "VLPureAL"), needs_files=True,
    ),
    Entry(av_based, "open set", "Ning et al. 2022 (CVPR)", "as a score, and 10 steps of EM", ("AV_based",)),
    Entry(av_uncertainty, "open set", "Ning et al. 2022 (CVPR)", "as a score, and 10 steps of EM", ("AV_uncertainty",)),
    Entry(max_av, "open set", "Ning et al. 2022 (CVPR)", _SCORE_COST, ("Max_AV",)),
)  # fmt: skip

TOP = "top"
BATCH: dict[str, Any] = {"batch": TOP, "beta": 1.0}
"""Parameters of every strategy that ranks images by a score: the highest scores, or a draw by them: power, softmax or
softrank (Kirsch et al. 2023, `selection.stochastic`), the colder the larger beta."""

STRATEGIES = {entry.name: entry for entry in ENTRIES}


def find(name: str) -> Entry:
    """The entry of a name or alias, whatever its case; raises ConfigError with the nearest valid name."""
    folded = {_fold(known): entry for entry in ENTRIES for known in (entry.name, *entry.aliases)}
    if _fold(name) not in folded:
        raise ConfigError(f"strategy: {unknown_name('strategy', name, STRATEGIES)}")
    return folded[_fold(name)]


def build(name: str, parameters: Mapping[str, Any] | None = None) -> Strategy:
    """The strategy `name` with these parameters; `path.py:function` names one of the user's own.

    raises  ConfigError  for an unknown name or parameter, or a value that the strategy refuses
    """
    function = user_function(name, "strategy.name") if ":" in name else find(name).build
    given, known = dict(parameters or {}), inspect.signature(function).parameters
    batch = {key: given.pop(key) for key in BATCH if key in given and key not in known}
    for parameter in given:
        if parameter not in known:
            raise ConfigError(f"strategy.{parameter}: {unknown_name(f'parameter of {name}', parameter, known)}")
    try:
        strategy = function(**given)
        if not isinstance(strategy, Strategy):
            raise TypeError(f"it must return a Strategy, got {type(strategy).__name__}")
        return _with_batch(strategy, **BATCH | batch) if batch else strategy
    except (TypeError, ValueError) as error:
        raise ConfigError(f"strategy: {name}: {error}") from None


def _is_ranking(strategy: Strategy) -> bool:
    return strategy.score is not None and strategy.pick is highest_scores


def _with_batch(strategy: Strategy, batch: str, beta: float) -> Strategy:
    if not _is_ranking(strategy):
        raise ValueError("it does not rank images by a score, so batch and beta have no meaning")
    return strategy if batch == TOP else replace(strategy, pick=drawn_scores(batch, beta))


def markdown_table() -> str:
    """The table of strategies in README.md."""
    lines = ["| strategy | also called | family | needs | source |", "|---|---|---|---|---|"]
    for entry in ENTRIES:
        facts = entry.facts()
        also, needs = (", ".join(f"`{name}`" for name in facts[key]) for key in ("aliases", "needs"))
        lines.append(f"| `{entry.name}` | {also} | {entry.family} | {needs or '–'} | {entry.paper} |")
    return "\n".join(lines)


def _fold(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")
