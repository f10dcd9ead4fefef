"""Every strategy by name, with its facts; and the one way from a name and parameters to a Strategy."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from openal_ray.errors import ConfigError, unknown_name
from openal_ray.strategies.diversity import badge, k_center
from openal_ray.strategies.monte_carlo import (
    bald,
    mc_entropy,
    mc_least_confidence,
    mc_margin,
    mc_ratio,
    mean_std,
    variation_ratio,
)
from openal_ray.strategies.random import random
from openal_ray.strategies.strategy import Strategy
from openal_ray.strategies.uncertainty import entropy, least_confidence, margin, ratio
from openal_ray.user_code import user_function


@dataclass(frozen=True)
class Entry:
    """The facts of one strategy.

    cost     beyond reading the signals; N unlabelled, L labelled, B budget, C classes, D features, S shards
    aliases  names that other tools use for it
    """

    build: Callable[..., Strategy]
    family: str
    paper: str
    cost: str
    aliases: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.build.__name__

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameter names with their defaults."""
        return {name: parameter.default for name, parameter in inspect.signature(self.build).parameters.items()}

    def facts(self) -> dict[str, Any]:
        """Everything that `openal-ray strategies` prints, as plain data."""
        strategy = self.build()
        return {
            "name": self.name,
            "aliases": list(self.aliases),
            "family": self.family,
            "needs": list(dict.fromkeys(strategy.needs + strategy.needs_labelled)),
            "paper": self.paper,
            "parameters": self.parameters,
            "cost": self.cost,
            "guarantee": strategy.guarantee,
            "needs_start": strategy.needs_start,
            "description": inspect.getdoc(self.build) or "",
        }


_SCORE_COST = "O(N·C) time, S·B candidates to the driver"
_PASSES_COST = "T head passes, or T whole ones if dropout lies deeper; O(N·C) memory whatever T; S·B candidates"

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
        k_center, "diversity", "Sener & Savarese 2018 (arXiv 1708.00489)",
        "O(N·D·(L+B)) time at most, O(N·D) memory in the shards, O((L+B)·D) in the driver",
        ("KCenterGreedy", "CoreSet"),
    ),
    Entry(
        badge, "hybrid", "Ash et al. 2020 (arXiv 1906.03671)",
        "O(N·B·(C+D)) time at most, O(N·(C+D)) memory in the shards, O(B·(C+D)) in the driver", ("BADGE",),
    ),
)  # fmt: skip

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
    for parameter in given:
        if parameter not in known:
            raise ConfigError(f"strategy.{parameter}: {unknown_name(f'parameter of {name}', parameter, known)}")
    try:
        strategy = function(**given)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"strategy: {name}: {error}") from None
    if not isinstance(strategy, Strategy):
        raise ConfigError(f"strategy: {name} must return a Strategy, got {type(strategy).__name__}")
    return strategy


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
