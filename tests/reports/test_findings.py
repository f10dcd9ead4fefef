"""The sentences that a comparison is put into."""

from openal_ray.reports.comparison import Comparison, compare
from openal_ray.reports.curves import load
from openal_ray.reports.findings import cautions, headline
from tests.reports.run_folders import MakeRun


def _compared(make_run: MakeRun, **strategies: tuple[tuple[float, ...], ...]) -> Comparison:
    """A comparison of strategies by name, each with the accuracies of its seeds."""
    runs = [
        make_run(name, seed=seed, accuracy=accuracy)
        for name, seeds in strategies.items()
        for seed, accuracy in enumerate(seeds)
    ]
    return compare(load(runs))[0]


def test_the_best_strategy_and_the_labels_it_saves(make_run: MakeRun) -> None:
    found = _compared(make_run, random=((0.4, 0.55, 0.7),), badge=((0.4, 0.8, 0.9),))
    assert headline(found) == (
        "badge is best, with mean accuracy 72.5 % over the label range. "
        "It reaches random's last accuracy (70.0 % with 300 labels) with 125 fewer labels (42 %)."
    )


def test_more_labels_than_random(make_run: MakeRun) -> None:
    random = make_run("random", accuracy=(0.1, 0.1, 0.7))
    better = make_run("badge", labelled=(100, 200, 300, 400), accuracy=(0.4, 0.6, 0.6, 0.8))
    assert "with 50 more labels (17 %)" in headline(compare(load([random, better]))[0])


def test_never_reaching_random(make_run: MakeRun) -> None:
    found = _compared(make_run, random=((0.1, 0.1, 0.7),), badge=((0.6, 0.6, 0.6),))
    assert headline(found).endswith("It never reaches random's last accuracy (70.0 % with 300 labels).")


def test_random_may_be_best(make_run: MakeRun) -> None:
    found = _compared(make_run, random=((0.4, 0.6, 0.8),), badge=((0.3, 0.5, 0.7),))
    assert (
        headline(found)
        == "No strategy beats random here: it has the highest mean accuracy 60.0 % over the label range."
    )


def test_one_strategy(make_run: MakeRun) -> None:
    found = _compared(make_run, badge=((0.4, 0.6, 0.8),))
    assert headline(found) == "badge reaches 80.0 % accuracy with 300 labels."
    assert cautions(found) == [
        "There is no random run, so saved labels cannot be counted. Add one with strategy=random."
    ]


def test_runs_that_cannot_be_ranked(make_run: MakeRun) -> None:
    runs = [
        make_run("random", labelled=(10, 20), accuracy=(0.1, 0.2)),
        make_run("badge", labelled=(30, 40), accuracy=(0.3, 0.4)),
    ]
    found = compare(load(runs))[0]
    assert headline(found) == "These runs have no label count in common, so they cannot be ranked."
    assert "There is one seed a strategy" in cautions(found)[0]


def test_one_seed_each_may_be_chance(make_run: MakeRun) -> None:
    found = _compared(make_run, random=((0.4, 0.6, 0.8),), badge=((0.5, 0.7, 0.8),))
    assert cautions(found) == [
        "There is one seed a strategy: a difference may be chance. Run more, with seed=1, seed=2 and so on."
    ]


def test_a_lead_within_the_spread_over_seeds(make_run: MakeRun) -> None:
    narrow = _compared(make_run, random=((0.4, 0.5, 0.6), (0.5, 0.6, 0.7)), badge=((0.4, 0.5, 0.7), (0.5, 0.6, 0.8)))
    # Areas: random .5 and .6, badge .525 and .625: a lead of .025 against a deviation of .0707.
    assert cautions(narrow) == ["Its lead over random (2.5 points) is within one standard deviation over seeds (7.1)."]


def test_a_clear_lead_needs_no_caution(make_run: MakeRun) -> None:
    same = (0.4, 0.5, 0.6)
    assert cautions(_compared(make_run, random=(same, same), badge=((0.5, 0.6, 0.7), (0.5, 0.6, 0.72)))) == []


def test_unequal_seeds_and_unequal_length(make_run: MakeRun) -> None:
    far = make_run("badge", labelled=(100, 200, 300, 400), accuracy=(0.5, 0.6, 0.7, 0.8))
    near = [make_run("random", seed=seed, accuracy=(0.4, 0.5, 0.6)) for seed in (0, 1)]
    assert cautions(compare(load([far, *near]))[0]) == [
        "The strategies have 1 to 2 seeds; those with few are less certain.",
        "Compared up to 300 labels, which all have reached; badge went further.",
    ]


def test_the_supervised_reference_is_told(make_run: MakeRun) -> None:
    runs = [make_run("random"), make_run(None, labelled=[1397], accuracy=[0.9725])]
    assert cautions(compare(load(runs))[0]) == [
        "For comparison: supervised reaches 97.2 % accuracy with 1,397 labels, trained on all of them."
    ]
