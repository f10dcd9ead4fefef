"""How figures leave: PNG on white, SVG that takes the page's colours; and labels that do not overlap."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from openal_ray.reports.drawing import INK, MUTED, SERIES, canvas, png, spread, style, svg


@style()
def _figure(text: str) -> Figure:
    figure = canvas(3, 2)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], marker="o")
    axes.set_title(text)
    return figure


def test_heights_that_are_far_enough_apart_stay() -> None:
    heights = np.array([0.9, 0.1, 0.5])
    np.testing.assert_allclose(spread(heights, 0.2), heights)


def test_near_heights_move_by_the_least_squares() -> None:
    np.testing.assert_allclose(spread(np.array([0.5, 0.5]), 0.2), [0.4, 0.6])
    # .5 .55 .9 with a gap of .3: the first two move apart around .525, then all three share what is still missing.
    moved = spread(np.array([0.55, 0.5, 0.9]), 0.3)
    assert (moved[1], moved[0], moved[2]) == pytest.approx((0.35, 0.65, 0.95))


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_heights_stay_inside_and_in_order(count: int) -> None:
    heights = np.random.default_rng(count).uniform(0.9, 1.2, size=count)
    moved = spread(heights, 0.1)
    assert moved.min() >= 0 and moved.max() <= 1 + 1e-12
    np.testing.assert_array_equal(np.argsort(moved), np.argsort(heights))
    assert (np.diff(np.sort(moved)) >= 0.1 - 1e-12).all()


def test_more_labels_than_fit_keep_their_gap() -> None:
    np.testing.assert_allclose(spread(np.full(5, 0.5), 0.5), [0, 0.5, 1, 1.5, 2])


def _luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    channels = np.array([int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("page", ["#ffffff", "#14171b"])
def test_lines_stand_out_on_light_and_dark_pages(page: str) -> None:
    for colour in SERIES:
        darker, lighter = sorted((_luminance(colour), _luminance(page)))
        assert (lighter + 0.05) / (darker + 0.05) >= 3, colour


def test_svg_takes_the_colours_of_the_page_and_says_what_it_shows() -> None:
    text = svg(_figure("a"), "first", 'Accuracy of "a" & b')
    root = ElementTree.fromstring(text)
    assert (root.get("role"), root.get("aria-label")) == ("img", 'Accuracy of "a" & b')
    assert "currentColor" in text and "var(--muted)" in text
    assert INK not in text and MUTED not in text
    assert "<metadata" not in text and "<!DOCTYPE" not in text


def test_names_are_text_and_never_markup_or_formulas() -> None:
    name = "--></text><script>x</script> $\\alpha$ 猫"
    root = ElementTree.fromstring(svg(_figure(name), "first", "d"))
    assert name in [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert not list(root.iter("{http://www.w3.org/2000/svg}script"))


def test_two_figures_on_a_page_share_no_id_and_refer_to_their_own() -> None:
    documents = [svg(_figure("a"), name, "d") for name in ("first", "second")]
    ids = [{e.get("id") for e in ElementTree.fromstring(each).iter() if e.get("id")} for each in documents]
    assert ids[0] and not ids[0] & ids[1]
    for document, own in zip(documents, ids, strict=True):
        links = {e.get("{http://www.w3.org/1999/xlink}href") for e in ElementTree.fromstring(document).iter()} - {None}
        assert links and links <= {f"#{each}" for each in own}


def test_drawing_is_repeatable_and_leaves_global_settings_alone(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    png(_figure("a"), tmp_path / "a.png")
    assert svg(_figure("a"), "x", "d") == svg(_figure("a"), "x", "d")
    assert dict(matplotlib.rcParams) == before


def test_png_is_written_on_white(tmp_path: Path) -> None:
    png(_figure("a"), tmp_path / "a.png")
    pixels = matplotlib.image.imread(tmp_path / "a.png")
    assert pixels.shape[:2] == (400, 600)
    np.testing.assert_array_equal(pixels[0, 0], [1, 1, 1, 1])
