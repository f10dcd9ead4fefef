"""Everything that can be refused before an experiment does any work."""

import logging

import torch

from openal_ray import start_set
from openal_ray.config import Config
from openal_ray.data.dataset import Dataset
from openal_ray.errors import ConfigError
from openal_ray.hyperparameters import check_reuse
from openal_ray.models import backbones, clip, signals
from openal_ray.models.learners import Classifier
from openal_ray.models.monte_carlo import Sampling
from openal_ray.strategies import catalogue
from openal_ray.strategies.strategy import Strategy
from openal_ray.training.loop import check_plan
from openal_ray.tuning.space import check_space

log = logging.getLogger(__name__)


def check(config: Config, dataset: Dataset, begun: bool = False) -> Strategy | None:
    """Everything that can be refused before any work: strategy, model, training plan, start set.

    begun    the start set is behind us: labels that came since are no reason to refuse it
    raises  ConfigError
    """
    backbones.check_name(config.model.name)
    check_plan(config.train, dataset.train.shape)
    _check_validation(config, dataset)
    if config.tune and config.tune.reuse_from:
        check_reuse(config)
    elif config.tune:
        check_space(config, dataset.train.shape)
    if config.strategy is None:
        return None
    strategy = catalogue.build(config.strategy.name, config.strategy.parameters)
    signals.check_names(strategy.all_needs)
    clip.check(config.clip, dataset.classes, strategy.all_needs)
    _check_network(config, dataset, strategy)
    if not begun:
        noise_ratio = config.open_set.noise_ratio if config.open_set else None
        start_set.check(config.budget, len(dataset.classes), dataset.labels, noise_ratio or 0.0)
    if config.budget.start == "none" and strategy.needs_start:
        raise ConfigError(
            f"budget.start=none: {config.strategy.name} needs a start set to train on; "
            "choose stratified or random, or a strategy that needs none, such as random"
        )
    return strategy


def _check_validation(config: Config, dataset: Dataset) -> None:
    """Raises ConfigError for a key that needs a validation split where there is none."""
    if config.data.validation or len(dataset.validation):
        return
    wanting = {
        f"train.weights={config.train.weights}": config.train.weights != "last",
        "train.patience": config.train.patience,
        "tune": config.tune and not config.tune.reuse_from,
    }
    for key in (key for key, wants in wanting.items() if wants):
        raise ConfigError(f"{key} needs a validation split: set data.validation, for example to 0.1")


def _check_network(config: Config, dataset: Dataset, strategy: Strategy) -> None:
    """One image through a fresh network; raises ConfigError if it cannot take it, or lacks a signal or dropout."""
    learner = strategy.classifier(Classifier(len(dataset.classes), config.model.name, params=config.model.params))
    needs = [need for need in strategy.all_needs if signals.split(need)[0] == signals.CLASSIFIER]
    height, width, channels = dataset.train.shape
    image = torch.zeros(1, channels, height, width)
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        network = learner.build(dataset.train.shape).eval()
        try:
            logits = signals.read(network, image, (*needs, "logits"), Sampling(min(strategy.passes, 1)))["logits"]
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise ConfigError(
                f"model.name: {config.model.name} cannot take images of {height}×{width}×{channels}: {error} "
                "Set data.image_size, or choose another network."
            ) from error
    if logits.shape != (1, len(dataset.classes)):
        raise ConfigError(
            f"model.name: {config.model.name} must give {len(dataset.classes)} numbers an image, one a class, "
            f"got an output of shape {list(logits.shape)}"
        )
