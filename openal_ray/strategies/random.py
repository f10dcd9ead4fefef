"""The reference that every strategy must beat."""

import numpy as np

from openal_ray.selection.halves import Picks
from openal_ray.strategies.strategy import Strategy
from openal_ray.strategies.view import View


def random() -> Strategy:
    """Random sampling: uniform without replacement. Reads nothing from the network."""

    def pick(view: View, budget: int, rng: np.random.Generator) -> Picks:
        return view.draw(budget, rng)

    return Strategy(pick=pick, needs_start=False)
