"""What the labels of some images could be, and which passes each possibility speaks for: the joint part of BatchBALD.

Given one pass (a sample of the weights), labels are independent; the probability of a configuration, one class for each
image, is the mean over the T passes of a product of T × C tables.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Configurations:
    """Configurations of classes of the images picked so far.

    weights    float64 [M] probability of each, sum 1
    posterior  float64 [T, M] probability of each pass if that configuration is true; columns sum to one
    exact      True if all configurations of positive probability are here, False if they are a sample
    """

    weights: np.ndarray
    posterior: np.ndarray
    exact: bool


def of_nothing(passes: int) -> Configurations:
    """The one configuration of no image: all `passes` are as likely."""
    return Configurations(np.ones(1), np.full((passes, 1), 1 / passes), exact=True)


def with_all_classes(known: Configurations, probs: np.ndarray) -> Configurations:
    """Every known configuration followed by every class of one more image, whose probabilities are `probs` [T, C]."""
    joint = known.posterior[:, :, None] * probs[:, None, :]
    joint = joint.reshape(len(probs), -1)  # [T, M * C]
    likelihood = joint.sum(axis=0)
    possible = likelihood > 0
    weights = np.repeat(known.weights, probs.shape[1]) * likelihood
    return Configurations(weights[possible], joint[:, possible] / likelihood[possible], exact=True)


def sampled(probs: np.ndarray, count: int, rng: np.random.Generator) -> Configurations:
    """About `count` configurations of images with probabilities `probs` [b, T, C], each as often as it is likely."""
    classes = drawn_classes(probs, count, rng)
    likelihoods = _log_likelihoods(probs, classes)
    posterior = np.exp(likelihoods - likelihoods.max(axis=0))
    posterior /= posterior.sum(axis=0)
    return Configurations(np.full(len(classes), 1 / len(classes)), posterior, exact=False)


def drawn_classes(probs: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Classes int64 [M, b]: from each of the T passes, count // T draws (at least one) for every image."""
    n_images, passes, _ = probs.shape
    origin = np.repeat(np.arange(passes), max(1, count // passes))
    classes = np.empty((len(origin), n_images), dtype=np.int64)
    for image in range(n_images):
        running = np.cumsum(probs[image], axis=1)
        running /= running[:, -1:]  # so that every class after the last possible one stands at 1 exactly
        classes[:, image] = (running[origin] <= rng.random((len(origin), 1))).sum(axis=1)
    return classes


def _log_likelihoods(probs: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """[T, M] of every configuration in every pass; logarithms, as the product over many images would vanish."""
    logs = np.log(probs, out=np.full(probs.shape, -np.inf), where=probs > 0)
    total = np.zeros((probs.shape[1], len(classes)))
    for image in range(len(probs)):
        total += logs[image][:, classes[:, image]]
    return total
