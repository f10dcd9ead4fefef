"""The helper that most open-set methods train: a network with one class more, for rejected images."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from openal_ray import config
from openal_ray.config_problems import sentence
from openal_ray.models.detectors import Detector, OpenDetector
from openal_ray.models.learners import Classifier
from openal_ray.strategies.strategy import Helpers, Round

NAME = "detector"
Plan = Mapping[str, Any]
"""Keys of `train` in which a detector's training differs from the classifier's."""


def trained(build: Callable[[Classifier], Detector | OpenDetector], plan: Plan | None) -> Callable[[Round], Helpers]:
    """A `prepare` that trains the detector on labelled and rejected images, at the same time as the classifier.

    build  a classifier of n_classes + 1 classes to the learner
    """

    def prepare(round: Round) -> Helpers:
        wider = replace(round.classifier, n_classes=round.n_classes + 1, class_weights=())
        return {NAME: round.job(NAME, build(wider), *round.answered(), **_changes(round.plan, plan or {}))}

    return prepare


def check_plan(plan: Plan | None) -> None:
    """Raises ValueError for keys or values that `train` would not take."""
    _changes(config.Train(), plan or {})


def _changes(plan: config.Train, given: Plan) -> dict[str, Any]:
    for key in ("micro_batches", *config.WHERE_IT_TRAINS):
        if key in given:
            raise ValueError(f"train.{key}: a detector trains where the classifier does; leave it out of its plan")
    try:
        made = config.Train.model_validate({**plan.model_dump(by_alias=True), **given})
    except config.ValidationError as error:
        raise ValueError("; ".join(f"train: {sentence(problem, config.Train)}" for problem in error.errors())) from None
    return {name: getattr(made, name) for name in config.Train.model_fields}
