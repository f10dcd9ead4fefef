"""LfOSA: the largest activation of a detector tells known images from unknown ones, class by class.

Ning et al. 2022 (CVPR), section 3.2. Differs: images are ranked by the log-odds of the posterior, which do not
saturate, then by activation; classes predicted for fewer than two images count as probability 0 but can be asked; among
images of probability 0 the detector's own P(known) decides, where the published code leaves it to chance.
"""

import numpy as np

from openal_ray.selection.purity.energies import known_log_odds
from openal_ray.selection.purity.mixture import Mixtures
from openal_ray.selection.scores import entropy

LfosaGroups = tuple[np.ndarray, np.ndarray]
"""Numbers float64 [n] for the mixtures, and the group int64 [n] of each: its predicted class, -1 = unknown."""


def activations(logits: np.ndarray, n_classes: int) -> LfosaGroups:
    """The largest logit of every row of `logits` [n, C] or, of a detector, [n, C+1]; raw, without a temperature.

    The second form is LfOSA; the first, of the classifier itself, is the baseline AV_based of LfOSA's code.
    """
    logits = np.asarray(logits)
    predicted = logits.argmax(axis=1)
    return logits.max(axis=1).astype(np.float64), np.where(predicted < n_classes, predicted, -1)


def uncertain_activations(logits: np.ndarray, probs: np.ndarray) -> LfosaGroups:
    """Largest logit times entropy of the classifier's probabilities: the baseline AV_uncertainty of LfOSA's code."""
    values, groups = activations(logits, logits.shape[1])
    return values * entropy(probs), groups


def activation_log_odds(rows: LfosaGroups, mixtures: Mixtures, monotone: bool = False) -> np.ndarray:
    """ln(p / (1 - p)) float64 [n] of the probability p to be known; -inf where LfOSA gives 0: predicted unknown."""
    values, groups = rows
    known = (groups >= 0) & mixtures.fitted[groups]
    return np.where(known, mixtures.log_odds(values, groups, monotone), -np.inf)


def lfosa_keys(logits: np.ndarray, n_classes: int, mixtures: Mixtures, monotone: bool = False) -> np.ndarray:
    """Keys float64 [n, 3] for `grouped.pick_ranked`: log-odds of p, log-odds of P(known), activation.

    logits   [n, C+1] of the detector; [n, C] of a classifier has no P(known), and 0 stands for it
    """
    rows = activations(logits, n_classes)
    odds = activation_log_odds(rows, mixtures, monotone)
    known = known_log_odds(logits) if logits.shape[1] > n_classes else np.zeros(len(logits))
    return np.stack([odds, np.where(np.isneginf(odds), known, 0.0), rows[0]], axis=1)
