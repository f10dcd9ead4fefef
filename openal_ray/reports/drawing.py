"""How every figure looks, and how it leaves as PNG or as SVG that follows the page's light or dark theme."""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from sklearn.isotonic import isotonic_regression

INK, MUTED, GRID = "#1a1f26", "#5a6470", "#d9dee5"

SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#785ef0")
"""Told apart by colour-blind readers, and at a contrast of 3 or more on white and on near-black.

The first four are Okabe and Ito's (jfly.uni-koeln.de/color, 2008), the last is of IBM's palette; their other colours
are too light for a white page.
"""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""Seven against five colours, so that 35 strategies look different."""

_THEMED = {INK: "currentColor", MUTED: "var(--muted)", GRID: "var(--grid)"}


@contextmanager
def style() -> Iterator[None]:
    """Within it, and as a decorator, figures are made and saved in the project's look.

    Names come from users: `$` is no formula here, and a letter that the font lacks is no reason to warn.
    """
    look: Any = {
        "font.size": 11, "font.family": "sans-serif", "svg.fonttype": "none", "svg.hashsalt": "openal_ray",
        "text.parse_math": False, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": MUTED,
        "xtick.color": MUTED, "ytick.color": MUTED, "axes.spines.top": False, "axes.spines.right": False,
        "axes.titlelocation": "left", "axes.titlesize": 12, "axes.titleweight": "bold", "axes.axisbelow": True,
        "grid.color": GRID, "grid.linewidth": 0.8, "legend.frameon": False,
    }  # fmt: skip
    with matplotlib.rc_context(look), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


def canvas(width: float, height: float) -> Figure:
    """An empty figure of so many inches, bound to no window and no global state."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def count_axis(axes: Axes, axis: str) -> None:
    """Whole numbers with thousands separators along "x" or "y"."""
    side = getattr(axes, f"{axis}axis")
    side.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10], integer=True))
    side.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def spread(heights: np.ndarray, gap: float) -> np.ndarray:
    """[k] heights in 0 … 1 moved as little as possible (in squares) so that no two are nearer than `gap`, order kept.

    More than fit are laid out from 0 upwards, beyond 1 if need be.
    """
    order = np.argsort(heights, kind="stable")
    steps = gap * np.arange(len(heights))
    moved = np.empty(len(heights))
    moved[order] = isotonic_regression(heights[order] - steps, y_min=0, y_max=max(0, 1 - steps[-1])) + steps
    return moved


@style()
def png(figure: Figure, path: Path) -> None:
    """Writes the figure for papers and slides, on white."""
    figure.savefig(path, dpi=200, facecolor="white", metadata={"Software": "openal_ray"})


@style()
def svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an SVG element for an HTML page.

    name         a prefix for its ids, unique on the page
    description  what a screen reader says in its place
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Type": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    for colour, themed in _THEMED.items():
        text = text.replace(colour, themed)
    label = escape(description, {'"': "&quot;"})
    return text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
