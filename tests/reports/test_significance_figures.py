"""What the figures of the statistics show."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from openal_ray.reports import drawing
from openal_ray.reports.significance import Significance
from openal_ray.reports.significance_figures import penalty_matrix, profile, rank_diagram
from openal_ray.reports.statistics import Ranking, rank

NAMES = ("badge", "margin", "random")
LOOKS = {name: {"color": colour} for name, colour in zip(NAMES, drawing.SERIES, strict=False)}


def _found(ratios: np.ndarray, ranking: Ranking | None = None) -> Significance:
    penalty = np.array([[0, 0.5, 2], [0, 0, 0.25], [0, 0, 0]])
    return Significance(NAMES, ("digits", "mnist"), (), (), penalty, ratios, ranking, True, 3)


def _texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_the_matrix_shows_rows_beating_columns_and_the_sums() -> None:
    figure = penalty_matrix(_found(np.ones((1, 3))))
    cells = {
        (text.get_position()[1] - 0.5, text.get_position()[0] - 0.5): text.get_text() for text in figure.axes[0].texts
    }
    assert [cells[0, column] for column in (0, 1, 2)] == ["–", "0.5", "2"]
    assert [cells[row, 2] for row in (1, 2)] == ["0.25", "–"]
    beats = [text for (_, column), text in cells.items() if column == pytest.approx(3.1)]
    beaten = [text for (row, _), text in cells.items() if row == pytest.approx(3.1)]
    assert (beats, beaten) == (["2.5", "0.25", "0"], ["0", "0.5", "2.25"])
    alphas = [each.get_facecolor()[0][3] for each in figure.axes[0].collections]
    assert max(alphas) == alphas[2] == pytest.approx(0.6)


def test_a_profile_is_the_share_of_problems_within_a_ratio() -> None:
    ratios = np.array([[1, 1.5, np.inf], [1, 2.0, np.inf], [1.2, 1, np.inf], [1, 1, 3.0]])
    figure = profile(_found(ratios), LOOKS)
    badge, margin, random = figure.axes[0].lines

    def share(line: object, ratio: float) -> float:
        x, y = line.get_xydata().T  # type: ignore[attr-defined]
        return float(y[x <= ratio][-1])

    assert [share(badge, ratio) for ratio in (1, 1.19, 1.2)] == [75, 75, 100]
    assert [share(margin, ratio) for ratio in (1, 1.5, 2)] == [50, 75, 100]
    assert [share(random, ratio) for ratio in (1, 2.9, 3.1)] == [0, 0, 25]
    assert sorted(_texts(figure)) == sorted(NAMES)


def test_a_profile_of_problems_that_nobody_solved_is_empty() -> None:
    figure = profile(_found(np.full((2, 3), np.inf)), LOOKS)
    assert all(line.get_ydata().max() == 0 for line in figure.axes[0].lines)


def test_the_rank_diagram_names_ranks_and_joins_what_cannot_be_told_apart() -> None:
    scores = np.array([[0.9, 0.8, 0.1], [0.8, 0.9, 0.1]] * 10)
    ranking = rank(scores)  # 1.5 1.5 3, and a critical difference of 2.343 √(12 / 120) = 0.74
    figure = rank_diagram(_found(np.ones((1, 3)), ranking), ranking)
    texts = _texts(figure)
    assert {"badge  1.50", "margin  1.50", "random  3.00", "critical difference 0.74"} <= set(texts)
    bars = [each.get_segments()[0] for each in figure.axes[0].collections if each.get_linewidth()[0] == 4]
    assert len(bars) == 1 and np.asarray(bars[0])[:, 0].mean() == pytest.approx(1.5)
    drawing.svg(figure, "ranks", "d")


def test_a_critical_difference_beyond_the_axis_is_told() -> None:
    ranking = rank(np.array([[3, 2, 1.0]] * 2))  # 2.343 √(12 / 12)
    texts = _texts(rank_diagram(_found(np.ones((1, 3)), ranking), ranking))
    assert "critical difference 2.34, more than any two ranks can differ" in texts
