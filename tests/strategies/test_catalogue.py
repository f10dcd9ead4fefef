"""Tests of strategies/catalogue.py: every strategy by each of its names, and every wrong name or parameter refused."""

import inspect
import json
from pathlib import Path

import numpy as np
import pytest

from openal_ray.errors import ConfigError
from openal_ray.models import signals
from openal_ray.strategies import catalogue
from openal_ray.strategies.catalogue import ENTRIES, STRATEGIES, build, find
from openal_ray.strategies.strategy import Strategy
from openal_ray.testing.pools import case

OWN = '''
from openal_ray.strategies.strategy import Strategy

def mine(share, layers=2):
    """Mine."""
    if share > 1:
        raise ValueError(f"share must be at most 1, got {share}")
    return Strategy(needs=("probs",), score=lambda read: read["probs"][:, 0] * share)

def wrong():
    return "margin"
'''


@pytest.fixture
def own(tmp_path: Path) -> str:
    file = tmp_path / "own.py"
    file.write_text(OWN)
    return str(file)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_name_and_alias_leads_to_its_strategy(entry: catalogue.Entry) -> None:
    for name in (entry.name, *entry.aliases):
        for spelling in (name, name.upper(), name.lower(), name.replace("_", "-")):
            assert find(spelling) is entry
    assert STRATEGIES[entry.name] is entry
    assert isinstance(build(entry.name), Strategy)


def test_no_two_strategies_share_a_name() -> None:
    names = [{name.lower().replace("_", "") for name in (entry.name, *entry.aliases)} for entry in ENTRIES]
    assert sum(map(len, names)) == len(set().union(*names))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_the_facts_of_every_strategy_are_plain_and_true(entry: catalogue.Entry) -> None:
    facts = entry.facts()
    assert json.loads(json.dumps(facts)) == facts
    strategy = build(entry.name, facts["parameters"])
    assert set(facts["needs"]) == set(strategy.needs) | set(strategy.needs_labelled) | set(strategy.needs_pool)
    assert all(signals.split(name)[1] in signals.NAMES for name in facts["needs"])
    assert facts["needs_start"] is strategy.needs_start
    assert facts["description"] == inspect.getdoc(entry.build)
    assert facts["paper"] and facts["cost"] and facts["family"]


@pytest.mark.parametrize(
    ("name", "openal"),
    [("random", "RandomSampling"), ("least_confidence", "LeastConfidence"), ("margin", "MarginSampling"),
     ("entropy", "EntropySampling"), ("k_center", "KCenterGreedy"), ("badge", "BADGE")],
)  # fmt: skip
def test_openals_names_are_known(name: str, openal: str) -> None:
    assert find(openal).name == name


@pytest.mark.parametrize(
    ("name", "guess"), [("margn", "margin"), ("K-Centre", "k_center"), ("EntropySamplin", "entropy"), ("xyzzy", None)]
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, guess: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        build(name)
    start = f"strategy: unknown strategy {name!r}." + (f" Did you mean {guess!r}?" if guess else "")
    assert str(caught.value) == f"{start} Valid: {', '.join(sorted(STRATEGIES))}."


def test_an_unknown_parameter_is_refused_by_its_key(own: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build("margin", {"temperature": 1})
    assert str(caught.value) == "strategy.temperature: unknown parameter of margin 'temperature'. Valid: none."
    with pytest.raises(ConfigError, match="strategy.layer: unknown .* Did you mean 'layers'. Valid: layers, share"):
        build(f"{own}:mine", {"share": 1, "layer": 3})


def test_a_strategy_of_ones_own(own: str) -> None:
    strategy = build(f"{own}:mine", {"share": 0.5})
    assert strategy.needs == ("probs",)


@pytest.mark.parametrize(
    ("function", "parameters", "message"),
    [
        ("mine", {"share": 2}, "share must be at most 1, got 2"),
        ("mine", {}, "missing 1 required positional argument: 'share'"),
        ("wrong", {}, "must return a Strategy, got str"),
    ],
)
def test_what_a_strategy_refuses_is_told_with_its_name(
    own: str, function: str, parameters: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        build(f"{own}:{function}", parameters)
    assert str(caught.value).startswith(f"strategy: {own}:{function}")
    assert str(caught.value).endswith(message)


def test_a_file_or_function_that_is_not_there(own: str) -> None:
    with pytest.raises(ConfigError, match="^strategy.name: .*mein.* Did you mean 'mine'"):
        build(f"{own}:mein")
    with pytest.raises(ConfigError, match="^strategy.name: .*there is no such file"):
        build("nowhere.py:mine")


@pytest.mark.parametrize("form", ["power", "softmax", "softrank"])
def test_every_ranking_can_draw_its_batch(form: str) -> None:
    chosen = build("margin", {"batch": form, "beta": 2.0})
    drawn, again = (case().ask(chosen, 40).indices for _ in range(2))
    highest = case().ask("margin", 40).indices
    assert np.array_equal(drawn, again) and not np.array_equal(drawn, highest)
    cold = case().ask(build("margin", {"batch": form, "beta": 1e9}), 40).indices
    np.testing.assert_array_equal(cold, highest)
    assert STRATEGIES["margin"].parameters == {"batch": "top", "beta": 1.0}


def test_batch_forms_are_for_rankings() -> None:
    with pytest.raises(ConfigError, match="strategy: badge: it does not rank images by a score"):
        build("badge", {"batch": "power"})
    with pytest.raises(ConfigError, match="margin: form must be one of power, softmax, softrank, got 'hot'"):
        build("margin", {"batch": "hot"})
    assert "batch" not in STRATEGIES["badge"].parameters


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_no_strategy_is_without_a_test_of_its_own(entry: catalogue.Entry) -> None:
    """A strategy belongs into the test module of its file, or of its folder, under its name."""
    here = Path(__file__).parent
    *folders, module = entry.build.__module__.split(".")[2:]
    modules = sorted((here / "/".join(folders)).glob("test_*.py")) if folders else [here / f"test_{module}.py"]
    text = "".join(file.read_text() for file in modules if file.exists())
    assert f'"{entry.name}"' in text, f"{modules}: nothing about {entry.name}"
