"""A strategy as frozen data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from openal_ray import config, seeds
from openal_ray.models.learners import Classifier, Fitted, Learner
from openal_ray.pool import Pool
from openal_ray.selection.halves import Picks
from openal_ray.selection.stochastic import check_form
from openal_ray.strategies.view import Score, View
from openal_ray.training.job import Job


def highest_scores(view: View, budget: int, rng: np.random.Generator) -> Picks:
    """The default `pick`: the candidates of highest score, ties to the lower index."""
    if view.score is None:
        raise TypeError("a strategy without a score needs a pick of its own")
    return view.top_k(view.score, budget)


def drawn_scores(form: str, beta: float) -> Callable[[View, int, np.random.Generator], Picks]:
    """A `pick` that draws by the score instead of taking the highest (Kirsch et al. 2023); raises ValueError."""
    check_form(form, beta)

    def pick(view: View, budget: int, rng: np.random.Generator) -> Picks:
        assert view.score is not None
        return view.stochastic(view.score, budget, rng, form, beta)

    return pick


@dataclass(frozen=True)
class Round:
    """What `prepare` sees of a round: its labelled set, and how its classifier is trained.

    classifier  how the classifier is built, before any strategy changed it
    validation  indices and classes of the validation split; may be empty
    classes     class names; empty where nobody knows them
    clip        how CLIP is to be had, for strategies that need it
    """

    number: int
    pool: Pool
    n_classes: int
    classifier: Classifier
    plan: config.Train
    mean: tuple[float, ...]
    std: tuple[float, ...]
    seed: int
    validation: tuple[np.ndarray, np.ndarray]
    classes: tuple[str, ...] = ()
    clip: config.Clip = field(default_factory=config.Clip)

    def job(self, name: str, learner: Learner, indices: np.ndarray, targets: np.ndarray, **plan: Any) -> Job:
        """The training of a helper, with the classifier's plan but for the keys given.

        indices, targets  [n] the images it learns from and what it is to say of them
        """
        return Job(
            name=f"{name} of round {self.number}", learner=learner, indices=indices, targets=targets,
            plan=self.plan.model_copy(update={"continue_": False, **plan}), mean=self.mean, std=self.std,
            init_seed=seeds.derive(self.seed, 0, f"{name} weights"),
            order_seed=seeds.derive(self.seed, self.number, f"{name} order"), validation=self.validation,
        )  # fmt: skip

    def answered(self) -> tuple[np.ndarray, np.ndarray]:
        """Labelled and rejected images [L + R], and their classes; n_classes for rejected ones."""
        return self.pool.answered, np.append(self.pool.classes, np.full(len(self.pool.rejected), self.n_classes))


Helpers = Mapping[str, Job | Fitted]
"""Helper networks by name: trainings, or networks that are ready. A job that was done before is not done again."""


def no_helpers(round: Round) -> Helpers:
    """The default `prepare`."""
    return {}


def same_classifier(classifier: Classifier) -> Learner:
    """The default `classifier`."""
    return classifier


@dataclass(frozen=True)
class Strategy:
    """A rule that turns signals into a query.

    needs           signals of the unlabelled images; helper.signal is read from that helper
    needs_labelled  signals of the labelled images, and of rejected ones
    needs_pool      signals of all images, of networks that stay the same; read once, and kept from round to round
    score           signals to acquisition scores, on the shard; higher = more wanted
    pick            (view, budget, rng) to picks, on the driver, best first
    passes          stochastic forward passes behind the Monte Carlo signals among the needs
    needs_start     False if it can choose the very first labels
    prepare         the helpers that it needs beside the classifier; they are trained at the same time as that
    classifier      replaced by a strategy that changes how the classifier trains
    purity          signals to how surely each image is in-distribution [n], on the shard; measured, not asked for
    parts           images whose blocks' numbers agree modulo this lie on one shard together; 0: each block by itself
    guarantee       what its picks are: "exact", as its description says, or by how much an approximation may miss
    """

    needs: tuple[str, ...] = ()
    needs_labelled: tuple[str, ...] = ()
    needs_pool: tuple[str, ...] = ()
    score: Score | None = None
    pick: Callable[[View, int, np.random.Generator], Picks] = highest_scores
    passes: int = 0
    needs_start: bool = True
    prepare: Callable[[Round], Helpers] = no_helpers
    classifier: Callable[[Classifier], Learner] = same_classifier
    purity: Score | None = None
    parts: int = 0
    guarantee: str = "exact"

    @property
    def all_needs(self) -> tuple[str, ...]:
        """Every need once."""
        return tuple(dict.fromkeys(self.needs + self.needs_labelled + self.needs_pool))

    @property
    def reads(self) -> bool:
        """Whether it looks at the images at all."""
        return bool(self.needs or self.needs_pool)
