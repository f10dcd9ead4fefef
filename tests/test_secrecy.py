"""What looks like a secret is found by its key and never shown; what a configuration really holds is none."""

from pathlib import Path

import pytest

from openal_ray import config, config_file
from openal_ray.errors import ConfigError
from openal_ray.secrecy import find_secret

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"data": {"name": "manifest:https://me:hunter22@host/images.csv"}}, "data.name"),
        ({"out": "s3://AKIAIOSFODNN7EXAMPLE:abc@bucket/run"}, "out"),
        ({"data": {"name": "manifest:https://b.example/x.csv?X-Amz-Signature=0a1b"}}, "data.name"),
        ({"model": {"params": {"api_key": "0123456789"}}}, "model.params.api_key"),
        ({"model": {"params": {"auth": [{"hf_token": "hf_0123456789"}]}}}, "model.params.auth.hf_token"),
        ({"tracking": {"project": "ghp_0123456789012345678901"}}, "tracking.project"),
    ],
)
def test_a_secret_is_refused_by_its_key_without_its_value(values: dict, key: str) -> None:
    assert find_secret(values) == key
    with pytest.raises(ConfigError, match=f"{key}: looks like a secret") as refused:
        config.parse(values)
    for secret in ("hunter22", "AKIA", "0a1b", "0123456789"):
        assert secret not in str(refused.value)


@pytest.mark.parametrize(
    "values",
    [
        {"model": {"params": {"class_token": False, "reg_tokens": 4, "global_pool": "token"}}},
        {"model": {"params": {"token": "avg"}}},
        {"out": "s3://bucket/user@2024/run", "data": {"name": "manifest:https://host:8080/a.csv?version=3"}},
        {"seed": 0, "strategy": {"name": "badge"}},
    ],
)
def test_what_is_none_is_let_through(values: dict) -> None:
    assert find_secret(values) is None


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_shipped_configurations_hold_none(path: Path) -> None:
    assert find_secret(config_file.read_file(path)) is None
