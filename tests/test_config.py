"""Tests of config.py and config_problems.py: a wrong key is named as users write it; a dump is read back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from openal_ray import config, config_file
from openal_ray.errors import ConfigError
from openal_ray.storage.url import Url

SHIPPED = sorted((Path(__file__).parent.parent / "configs").rglob("*.yaml"))


def refusal(values: Mapping[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        config.parse(values)
    return str(caught.value)


def test_nothing_given_is_the_supervised_reference_on_digits() -> None:
    parsed = config.parse({})
    assert parsed == config.Config()
    assert (parsed.strategy, parsed.data.name, parsed.model.name, parsed.seed) == (None, "digits", "small_cnn", 0)


def test_a_bare_strategy_name_and_one_with_parameters() -> None:
    bare = config.parse({"strategy": "margin"}).strategy
    full = config.parse({"strategy": {"name": "lfosa", "temperature": 0.5, "layers": [1, 2]}}).strategy
    assert bare is not None and full is not None
    assert (bare.name, bare.parameters) == ("margin", {})
    assert (full.name, full.parameters) == ("lfosa", {"temperature": 0.5, "layers": [1, 2]})


def test_shards_are_so_many_or_from_least_to_most() -> None:
    fixed, elastic = config.parse({"shards": 3}), config.parse({"shards": [1, 4]})
    assert (fixed.fewest_shards, fixed.most_shards) == (3, 3)
    assert (elastic.fewest_shards, elastic.most_shards) == (1, 4)
    assert elastic.model_dump(mode="json")["shards"] == [1, 4]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (1, 1, 1)),
        ({"workers": 3}, (3, 3, 3)),
        ({"workers": [2, 2]}, (2, 2, 2)),
        ({"workers": [1, 4]}, (1, 4, 4)),
        ({"workers": [1, 4], "micro_batches": 8}, (1, 4, 8)),
        ({"micro_batches": 2}, (1, 1, 2)),
    ],
)
def test_as_many_micro_batches_as_the_most_workers_unless_given(
    given: dict[str, Any], expected: tuple[int, int, int]
) -> None:
    train = config.parse({"train": given}).train
    assert (train.fewest_workers, train.most_workers, train.micro_batches) == expected
    # A run that goes on with fewer workers keeps the micro-batches that it was begun with.
    written = train.model_dump(mode="json", by_alias=True)
    assert config.parse({"train": written | {"workers": 1}}).train.micro_batches == expected[2]


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        config.Config().seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trian": {}}, "trian: unknown key 'trian'. Did you mean 'train'? Valid: budget, checkpoints, clip, cluster, "
                        "data, model, open_set, out, pretrain, read, seed, shards, strategy, tracking, train, tune."),
        ({"train": {"scheduler": {"name": "step", "nmae": 1}}},
         "train.scheduler.nmae: unknown key 'nmae'. Did you mean 'name'? Valid: name, params."),
        ({"tracking": {"wandbb": 1}},
         "tracking.wandbb: unknown key 'wandbb'. Did you mean 'wandb'? Valid: entity, project, wandb."),
        ({"strategy": {"temperature": 1}}, "strategy.name: required, but not given"),
        ({"strategy": 5}, "strategy: has keys of its own, such as strategy.name; got 5"),
        ({"train": 5}, "train: has keys of its own, such as train.epochs; got 5"),
        ({"train": {"scheduler": "cosine"}},
         "train.scheduler: has keys of its own, such as train.scheduler.name; got 'cosine'"),
        ({"train": {"optimizer": {"lr": -1}}}, "train.optimizer.lr: must be greater than 0, got -1"),
        ({"train": {"precision": "fp16"}},
         "train.precision: must be 'float32', 'bfloat16' or 'float16', got 'fp16'"),
        ({"train": {"augment": "RandomCrop"}}, "train.augment: must be a list, got 'RandomCrop'"),
        ({"data": {"params": 3}}, "data.params: must hold keys and values, got 3"),
        ({"data": {"mean": [0.5, "x"]}},
         "data.mean.1: must be a valid number, unable to parse string as a number, got 'x'"),
        ({"budget": {"n_subset": 1.5}}, "budget.n_subset must be a share below 1 or a whole number, got 1.5"),
        ({"budget": {"n_subset": float("inf")}}, "budget.n_subset must be a share below 1 or a whole number, got inf"),
        ({"strategy": "margin", "budget": {"n_start": 50, "n_end": 40}},
         "budget.n_end (40) must not be below budget.n_start (50)"),
        ({"shards": 0}, "shards: must be a whole number above 0, or [least, most] of them, got 0"),
        ({"shards": [3, 2]}, "shards: must be a whole number above 0, or [least, most] of them, got [3, 2]"),
        ({"shards": True}, "shards: must be a whole number above 0, or [least, most] of them, got True"),
        ({"train": {"workers": 0}}, "train.workers: must be a whole number above 0, or [least, most] of them, got 0"),
        ({"train": {"workers": 3, "micro_batches": 2}},
         "train.workers: 3 cannot share 2 micro-batches; lower it, or set train.micro_batches, on which the weights "
         "depend"),
        ({"train": {"workers": [1, 16], "batch_size": 10}},
         "train.batch_size=10: too few images for 16 micro-batches (as many as the most workers, unless "
         "train.micro_batches says otherwise)"),
        ({"pretrain": {"train": {"workers": 4, "batch_size": 7}}},
         "pretrain.train.batch_size=7: too few images for 4 micro-batches (as many as the most workers, unless "
         "pretrain.train.micro_batches says otherwise)"),
        ({"train": {"workers": [1, 2], "mode": "session"}},
         "train.mode=session keeps its workers for the whole run; where their number follows the cluster, leave it "
         "out, or set per_round"),
        ({"train": {"workers": [1, 2], "gpus_per_worker": 0.5}},
         "train.workers: Ray Train counts whole CPUs and GPUs where it chooses 1 to 2 workers; set whole "
         "train.cpus_per_worker and train.gpus_per_worker, or one number of workers"),
        ({"strategy": "margin", "budget": {"n_start": 0}},
         "budget.n_start must be above 0, or set budget.start=none to begin without labels"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_by_its_path(values: dict[str, Any], message: str) -> None:
    assert refusal(values) == message


def test_where_several_kinds_are_allowed_the_path_is_still_the_users() -> None:
    lines = refusal({"budget": {"start": 5, "n_subset": "few"}, "train": {"augment": ["RandomCrop", 3]}}).splitlines()
    assert {line.partition(": ")[0] for line in lines} == {"budget.start", "budget.n_subset", "train.augment.1"}
    assert "budget.start: must be 'stratified', 'random', 'given' or 'none', got 5" in lines


def test_a_transform_is_one_name_so_that_none_is_dropped() -> None:
    assert config.parse({"train": {"augment": ["A", {"B": {"size": 4}}]}}).train.augment == ("A", {"B": {"size": 4}})
    assert "train.augment.0: " in refusal({"train": {"augment": [{"A": {}, "B": {}}]}})


def test_all_problems_are_told_at_once() -> None:
    lines = refusal({"sed": 1, "train": {"epochs": 0}, "shards": "many"}).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["train.epochs", "shards", "sed"]


@pytest.mark.parametrize(
    "values",
    [
        {"train": {"patience": 3}, "data": {"validation": 0.1}},
        {"budget": {"n_start": 0, "n_end": 1}},  # without a strategy all labels are used
        {"strategy": "random", "budget": {"start": "none", "n_start": 0}},
        {"strategy": "random", "budget": {"start": "rows.txt", "n_start": 0}},
        {"budget": {"n_subset": 0.25}},
        {"budget": {"n_subset": 300.0}},
        {"train": {"continue": True}},
    ],
)
def test_what_makes_sense_is_accepted(values: dict[str, Any]) -> None:
    config.parse(values)


@pytest.mark.parametrize(
    ("values", "folder"),
    [
        ({}, "runs/digits-supervised-0"),
        ({"strategy": "badge", "seed": 3, "data": {"name": "cifar10"}}, "runs/cifar10-badge-3"),
        ({"strategy": "./my/rules.py:mine", "data": {"name": "folder:/my/pictures"}},
         "runs/pictures-rules.py-mine-0"),
        ({"out": "elsewhere/here"}, "elsewhere/here"),
    ],
)  # fmt: skip
def test_the_run_folder_is_named_after_the_experiment(values: dict[str, Any], folder: str) -> None:
    assert config.parse(values).folder == Path(folder)


def test_overrides_reach_any_depth_and_leave_the_given_values_alone() -> None:
    values = {"strategy": "margin", "train": {"epochs": 5}}
    assignments = ["train.epochs=7", "train.optimizer.lr=1e-2", "seed=2", "out=", "data.mean=[0.5]"]
    found = config_file.override(values, assignments)
    assert found == {
        "strategy": "margin", "seed": 2, "out": None, "data": {"mean": [0.5]},
        "train": {"epochs": 7, "optimizer": {"lr": 0.01}},
    }  # fmt: skip
    assert values == {"strategy": "margin", "train": {"epochs": 5}}


def test_a_bare_strategy_name_takes_parameters() -> None:
    found = config_file.override({}, ["strategy=lfosa", "strategy.temperature=0.5", "strategy.name=mqnet"])
    assert found == {"strategy": {"name": "mqnet", "temperature": 0.5}}


@pytest.mark.parametrize(
    ("text", "value"),
    [("5e-4", 5e-4), ("1E3", 1000.0), ("-2e+1", -20.0), ("1.5e-3", 0.0015), ("3", 3), ("resnet50e4", "resnet50e4"),
     ("5e", "5e"), ("e5", "e5"), ("1e-4x", "1e-4x"), ('"5e-4"', "5e-4"), ("true", True), ("a=b", "a=b")],
)  # fmt: skip
def test_numbers_are_numbers_however_they_are_written(text: str, value: object, tmp_path: Path) -> None:
    found = config_file.override({}, [f"train.optimizer.params.weight_decay={text}"])["train"]["optimizer"]["params"]
    file = tmp_path / "one.yaml"
    file.write_text(f"weight_decay: {text}\n")
    for given_value in (found["weight_decay"], config_file.read_file(file)["weight_decay"]):
        assert given_value == value
        assert type(given_value) is type(value)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("seed", "'seed': an override is written key=value, for example seed=1"),
        ("=1", "'=1': an override is written key=value, for example seed=1"),
        ("train.lr.max=1", "train.lr.max: lr is 0.1, which has no keys of its own"),
        ("seed=[1", "seed: '[1' is not a YAML value: "),
    ],
)
def test_a_wrong_override_is_refused(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config_file.override({"train": {"lr": 0.1}}, [assignment])
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"train: {epochs: 5\nseed: 1", "not a YAML file: .*line 2"),
        (b"name: \xff", "not a YAML file: .*utf-8"),
        (b"- 1\n- 2\n", "expected keys and values, such as seed: 0, got list"),
        (b"# nothing yet\n", "expected keys and values, such as seed: 0, got an empty file"),
        (b"!!python/object/apply:os.getcwd []", "not a YAML file: could not determine a constructor"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=f"(?s)^{file}: {message}"):
        config_file.read_file(file)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.yaml: no such configuration file. Those shipped are in configs/"):
        config_file.read_file(tmp_path / "none.yaml")


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
def test_the_shipped_files_are_read(file: Path) -> None:
    assert config_file.read_file(file) == yaml.safe_load(file.read_text(encoding="utf-8"))


WORDS = st.text(st.characters(exclude_categories=["C", "Z"])) | st.sampled_from(["5e-4", "no", "a b", "1: 2", "- x"])
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(WORDS, PLAIN, max_size=3), st.floats(1e-9, 1e9))
def test_what_is_dumped_is_read_back_equal(tmp_path: Path, params: dict[str, Any], lr: float) -> None:
    values = {
        "strategy": {"name": "mine", "params": params}, "seed": 3, "out": "a/b",
        "data": {"mean": [0.5], "params": params},
        "train": {"continue": True, "optimizer": {"lr": lr, "params": params}, "augment": ["A", {"B": {"size": 4}}]},
        "budget": {"start": "rows.txt", "n_subset": 0.5}, "cluster": {"wait_seconds": float("inf")},
    }  # fmt: skip
    parsed, file = config.parse(values), tmp_path / "config.yaml"
    file.write_text(config.dump(parsed), encoding="utf-8")
    assert config.parse(config_file.read_file(file)) == parsed


def test_a_dump_is_read_back_from_a_file(tmp_path: Path) -> None:
    parameters = {"word": "1e-4", "number": 1e-4, "cap": float("inf")}
    parsed = config.parse({"strategy": {"name": "mine", **parameters}, "train": {"continue": True}})
    file = tmp_path / "config.yaml"
    file.write_text(config.dump(parsed))
    assert config.parse(config_file.read_file(file)) == parsed
    assert yaml.safe_load(file.read_text())["train"]["continue"] is True


def test_choices_are_taken_from_a_folder_or_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for named, meant in (("s3://bucket/runs/a", "s3://bucket/runs/a"), ("runs/a", f"{tmp_path}/runs/a")):
        configuration = config.parse({"tune": {"reuse_from": named}})
        assert configuration.tune is not None and str(configuration.tune.reuse_from) == meant
        assert config.parse(yaml.safe_load(config.dump(configuration))) == configuration
    assert isinstance(config.parse({"tune": {"reuse_from": "s3://bucket/a"}}).tune.reuse_from, Url)  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="^tune.reuse_from: ftp://host/run: unknown scheme 'ftp'"):
        config.parse({"tune": {"reuse_from": "ftp://host/run"}})
