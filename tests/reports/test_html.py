"""The HTML report, read back as a browser's parser would see it."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from openal_ray.errors import RunError
from openal_ray.reports.curves import PHASES
from openal_ray.reports.html import write_report
from tests.reports.run_folders import MakeRun

_VOID = {"meta", "link", "br", "img", "input"}


class _Page(HTMLParser):
    """Collects elements and text, and checks that every element is closed in its place."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self._open[-1] if self._open else "", data.strip()))

    def within(self, tag: str) -> list[str]:
        return [text for parent, text in self.texts if parent == tag]

    def tags(self) -> list[str]:
        return [tag for tag, _ in self.elements]

    def values(self, attribute: str) -> list[str]:
        return [value for _, attributes in self.elements if (value := attributes.get(attribute)) is not None]


@pytest.fixture
def runs(make_run: MakeRun) -> list[Path]:
    return [
        make_run("random", seed=0, accuracy=(0.4, 0.5, 0.6)),
        make_run("random", seed=1, accuracy=(0.4, 0.6, 0.8)),
        make_run("badge", seed=0, accuracy=(0.4, 0.8, 0.9)),
        make_run(None, labelled=[1397], accuracy=[0.95]),
    ]


def test_many_runs_become_one_report_with_its_files(runs: list[Path], tmp_path: Path) -> None:
    written = write_report(runs, tmp_path / "out" / "all.html")

    assert written == tmp_path / "out" / "all.html"
    assert sorted(each.name for each in written.parent.iterdir()) == ["all.html", "comparison.csv", "curves.png"]
    assert (tmp_path / "out" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "out" / "comparison.csv").read_text().startswith("dataset,strategy,")
    page = _Page(written)
    assert page.within("h1") == ["Strategies compared on digits"]
    assert page.within("h2") == ["Accuracy against labels", "Strategies compared", "Where the seconds went", "Runs"]
    assert page.within("h3") == [
        "random on digits, seed 0",
        "random on digits, seed 1",
        "badge on digits, seed 0",
        "supervised on digits, seed 0",
    ]
    assert page.within("dd")[0] == "badge"
    assert "125 (42\N{NO-BREAK SPACE}%)" in page.within("dd") and "125 (42\N{NO-BREAK SPACE}%)" in page.within("td")
    assert any(text.startswith("badge is best, with mean accuracy 72.5 %") for text in page.within("p"))
    assert "55.0 ± 7.1" in page.within("td") and "90.0" in page.within("strong")
    assert page.tags().count("svg") == 2


def test_two_strategies_of_three_seeds_are_tested(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [
        make_run(name, seed, accuracy=(0.4, 0.5 + gain, 0.6 + gain + seed / 100))
        for name, gain in (("random", 0.0), ("<b>badge", 0.2), ("margin", 0.1))
        for seed in range(3)
    ]
    page = _Page(write_report(runs, tmp_path / "report.html"))
    beside = {"pairwise.csv", "penalty.csv", "ranks.csv", "labels_saved.csv", "penalty.png", "ranks.png", "profile.png"}
    assert beside <= {each.name for each in tmp_path.iterdir()} and beside <= set(page.within("code"))
    assert "Statistics" in page.within("h2")
    assert [text for text in page.within("h3") if " on " not in text] == [
        "Who beats whom",
        "Mean ranks",
        "Labels needed",
    ]
    assert any("<b>badge over random by 15.0 points" in text for text in page.within("p"))
    assert "3 shared seeds are weak evidence" in " ".join(page.within("p"))
    assert "b" not in page.tags()
    ids = page.values("id")
    assert len(ids) == len(set(ids)) and set(page.values("aria-labelledby")) <= set(ids)
    told = page.values("aria-label")
    assert "Mean ranks: <b>badge 1.00, margin 2.00, random 3.00." in told
    assert any(each.startswith("Pairwise penalties: <b>badge beats margin in 1;") for each in told)
    assert ["train", "read", "select", "evaluate"] == [text for text in page.within("th") if text in PHASES]


def test_two_seeds_have_no_test_and_no_matrix(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run(name, seed) for name in ("random", "badge") for seed in (0, 1)]
    page = _Page(write_report(runs, tmp_path / "report.html"))
    assert "2 shared seeds are too few for any test" in " ".join(page.within("p"))
    assert [text for text in page.within("h3") if " on " not in text] == ["Labels needed"]
    assert not (tmp_path / "penalty.png").exists()


def test_open_set_runs_have_their_panels(make_run: MakeRun, tmp_path: Path) -> None:
    rounds = {"annotated": (100, 200, 300), "purity": (1.0, 0.4, 0.6), "recall_id": (0.1, 0.14, 0.2)}
    folder = make_run("lfosa", labelled=(100, 140, 200), columns=rounds)
    page = _Page(write_report([folder], folder))
    assert "Open set: purity, recall and accuracy" in page.within("h2")
    assert (folder / "open_set.png").exists() and "open_set.csv" in page.within("code")
    assert "annotated images (labelled and rejected)" in page.within("text")
    assert "300 labels" in " ".join(page.within("p"))
    assert any(
        each.startswith(
            "Open set on digits, at the end (300 annotated images). purity of the round's query: lfosa 60.0 %"
        )
        for each in page.values("aria-label")
    )


def test_a_single_run_reports_into_its_own_folder(make_run: MakeRun) -> None:
    folder = make_run("badge", answers=True)
    written = write_report([folder], folder)
    assert written == folder / "report.html"
    assert (folder / "curves.png").exists() and (folder / "comparison.csv").exists()
    page = _Page(written)
    assert page.within("h1") == ["badge on digits, seed 0"]
    assert page.within("h4") == ["What was asked", "Classes", "Environment", "Configuration"]
    assert page.tags().count("svg") == 4
    assert [attributes for tag, attributes in page.elements if tag == "details"][-1] == {"open": None}
    descriptions = page.values("aria-label")
    assert "Images asked: 100 in round 0, 100 in round 1, 100 in round 2." in descriptions
    assert "Labelled images of each class: zero 75, one 75, two 75, three 75." in descriptions
    assert "Seconds a run by phase. badge: train 30.0, read 2.00, select 1.00, evaluate 0.75." in descriptions


def test_a_report_is_repeatable(make_run: MakeRun) -> None:
    folder = make_run("badge")
    assert write_report([folder], folder).read_bytes() == write_report([folder], folder).read_bytes()


def test_runs_without_times_have_no_figure_of_them(make_run: MakeRun) -> None:
    page = _Page(write_report([folder := make_run("badge", seconds=0)], folder))
    assert "Where the seconds went" not in page.within("h2")


def test_each_data_set_has_its_own_headline(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run("badge", folder=name, dataset=name) for name in ("digits", "mnist")]
    page = _Page(write_report(runs, tmp_path / "report.html"))
    assert page.within("h1") == ["Strategies compared on digits, mnist"]
    assert page.within("h2")[:2] == ["digits", "mnist"]


def test_a_supervised_run_alone(make_run: MakeRun) -> None:
    page = _Page(write_report([folder := make_run(None, labelled=[1397], accuracy=[0.95])], folder))
    assert "supervised reaches 95.0 % accuracy with 1,397 labels, trained on all of them." in page.within("p")


def test_names_of_users_are_text_everywhere(make_run: MakeRun) -> None:
    attack = "--></style></svg><script>alert(1)</script>"
    picture = '"><img src=x onerror=alert(1)>'
    folder = make_run(attack, folder="a", classes=(picture, "b"), dataset=picture, answers=True)
    page = _Page(write_report([folder], folder))
    assert not {"script", "img"} & set(page.tags())
    assert f"{attack} on {picture}, seed 0" in page.within("h1")
    assert picture in page.within("th") and picture[:19] + "…" in page.within("text")
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]


def test_nothing_is_fetched_and_nothing_runs(runs: list[Path], tmp_path: Path) -> None:
    written = write_report(runs, tmp_path / "report.html")
    page = _Page(written)
    assert not {"script", "iframe", "object", "img"} & set(page.tags())
    links = page.values("href") + page.values("xlink:href") + page.values("src")
    assert links and all(link.startswith(("#", "data:")) for link in links)
    assert "default-src 'none'" in "".join(page.values("content"))
    assert not re.search(r"@import|url\((?!#)", written.read_text(encoding="utf-8"))


def test_screen_readers_find_names_for_everything(runs: list[Path], tmp_path: Path) -> None:
    page = _Page(write_report(runs, tmp_path / "report.html"))
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert set(page.values("aria-labelledby")) <= set(ids)
    assert page.tags().count("caption") == page.tags().count("table")
    headings = [int(tag[1]) for tag in page.tags() if re.fullmatch(r"h[1-6]", tag)]
    assert headings[0] == 1 and all(after - before <= 1 for before, after in zip(headings, headings[1:], strict=False))
    pictures = [attributes for tag, attributes in page.elements if tag == "svg"]
    assert all(each["role"] == "img" and each["aria-label"] for each in pictures)
    assert ("html", {"lang": "en"}) in page.elements
    scrolled = [attributes for _, attributes in page.elements if (attributes.get("class") or "").startswith("scroll")]
    assert scrolled and all(each["tabindex"] == "0" and each["role"] == "region" for each in scrolled)


def test_no_run_no_report(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run"):
        write_report([tmp_path], tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []
