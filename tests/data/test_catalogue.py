"""Tests of data/catalogue.py: names, parameters, sizes and statistics."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from openal_ray.data.catalogue import DATASETS, find, load
from openal_ray.errors import ConfigError, DataError


@pytest.mark.parametrize("name", DATASETS)
def test_facts_fit_together(name: str) -> None:
    source = DATASETS[name]
    assert source.name == name
    assert len(source.mean) == len(source.std) == source.channels
    assert source.origin.endswith(".")
    assert source.load.__doc__


@pytest.mark.parametrize("name", DATASETS)
def test_facts_can_be_printed_for_machines(name: str) -> None:
    facts = find(name)[0].facts()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["parameters"] == DATASETS[name].parameters
    assert facts["description"]


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("MNIST", "mnist"),
        ("CIFAR10", "cifar10"),
        ("CIFAR100", "cifar100"),
        ("CIFAR10LT", "cifar10_lt"),
        ("CIFAR100LT", "cifar100_lt"),
        ("SVHN", "svhn"),
        ("Tiny_ImageNet_200", "tiny_imagenet"),
        ("ImageNet1K", "imagenet"),
        ("Fashion-MNIST", "fashion_mnist"),
        ("cifar-10", "cifar10"),
    ],
)
def test_spellings(spelling: str, name: str) -> None:
    assert find(spelling) == (DATASETS[name], "")


def test_what_follows_the_colon_is_kept_as_it_is() -> None:
    assert find("folder:/a/B_c-d:e") == (DATASETS["folder"], "/a/B_c-d:e")
    assert find("Manifest:s3://b/m.csv") == (DATASETS["manifest"], "s3://b/m.csv")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar1", r"data.name: unknown data set 'cifar1'. Did you mean 'cifar10'\? Valid: cifar10, .*folder:PATH, "),
        ("folder", "data.name: folder needs to know which: write folder:PATH"),
        ("manifest:", "data.name: manifest needs to know which: write manifest:FILE.csv"),
        ("digits:/data", "data.name: nothing may follow digits, got digits:/data"),
    ],
)
def test_wrong_names(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        load(name, root=tmp_path)


def test_parameters_come_from_the_signature() -> None:
    assert DATASETS["cifar10_lt"].parameters == {"imbalance": "exp", "factor": 100.0, "seed": 0}
    assert DATASETS["folder"].parameters == {"test_share": 0.2}
    assert DATASETS["digits"].parameters == {}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"factr": 10}, r"data.params.factr: unknown parameter of cifar10_lt 'factr'. Did you mean 'factor'\? Valid: "),
        ({"factor": "ten"}, "data.params.factor must be of type float, got 'ten'"),
        ({"seed": 1.5}, "data.params.seed must be of type int, got 1.5"),
        ({"seed": True}, "data.params.seed must be of type int, got True"),
        ({"imbalance": 1}, "data.params.imbalance must be of type str, got 1"),
    ],
)
def test_wrong_parameters(params: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        load("cifar10_lt", root=tmp_path, download=False, params=params)


def test_another_size_and_three_channels(tmp_path: Path) -> None:
    dataset = load("digits", root=tmp_path, image_size=16, channels=3)
    pictures = dataset.train.load(np.arange(3))
    assert pictures.shape == (3, 16, 16, 3)
    assert (pictures[..., 0] == pictures[..., 2]).all()
    assert dataset.mean == (0.3053,) * 3
    small = load("digits", root=tmp_path).train.load(np.arange(3))
    assert np.abs(pictures[..., 0].mean((1, 2)) - small[..., 0].mean((1, 2))).max() < 3


def test_own_statistics(tmp_path: Path) -> None:
    dataset = load("digits", root=tmp_path, mean=[0.1], std=[0.2])
    assert (dataset.mean, dataset.std) == ((0.1,), (0.2,))
    with pytest.raises(
        DataError, match=r"data set digits: mean must be one number per channel \(1\), got \(0.1, 0.1\)"
    ):
        load("digits", root=tmp_path, mean=[0.1, 0.1])


def test_wrong_sizes_and_channels(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="data.image_size must be >= 1, got 0"):
        load("digits", root=tmp_path, image_size=0)
    with pytest.raises(ConfigError, match="data.channels must be 1 or 3, got 4"):
        load("digits", root=tmp_path, channels=4)
    with pytest.raises(
        ConfigError, match=r"data.channels is 3 but data set digits has 1 channel\(s\): set data.convert"
    ):
        load("digits", root=tmp_path, channels=3, convert=False)


def test_importing_the_catalogue_costs_no_heavy_library() -> None:
    code = (
        "import sys, openal_ray.data.catalogue; print([m for m in ('torch', 'sklearn', 'pyarrow') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
