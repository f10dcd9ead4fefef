"""How numbers are spelt for people: counts, percentages and seconds, each in one way everywhere."""

import math

from openal_ray.reports.groups import Estimate


def count(value: float) -> str:
    """12,345; means over seeds are rounded to whole labels."""
    return f"{value:,.0f}"


def percent(estimate: Estimate) -> str:
    """A share as a percentage without its sign, 91.2 ± 0.3; one seed has no deviation, and no number is a dash."""
    if math.isnan(estimate.mean):
        return "–"
    spread = "" if math.isnan(estimate.sd) else f" ± {100 * estimate.sd:.1f}"
    return f"{100 * estimate.mean:.1f}{spread}"


def seconds(value: float) -> str:
    """Three significant digits are enough for a time: 0.04, 8.31, 83.1, 1,234."""
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def short(name: str, letters: int = 36) -> str:
    """A name cut to what a figure has room for."""
    return name if len(name) <= letters else f"{name[: letters - 1]}…"
