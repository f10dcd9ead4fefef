"""The files of launch/ and cluster.yaml: valid by Ray's own rules, and safe where Ray does not look."""

import copy
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from openal_ray.secrecy import find_secret

ROOT = Path(__file__).parents[1]
RAY_UP = ("cluster.yaml", "launch/gcp.yaml", "launch/on-premise.yaml")
CLOUDS = RAY_UP[:2]
SCRIPTS = ("environment", "quickstart", "slurm.sh", "submit", "test")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RAY = next(re.search(r"==(.+)", each) for each in PROJECT["dependencies"] if each.startswith("ray["))[1]  # type: ignore[index]


def read(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / name).read_text()))


def validate(cluster: dict[str, Any]) -> None:
    """By Ray's own, private functions."""
    ray = pytest.importorskip("ray")
    if ray.__version__ != RAY:
        pytest.skip(f"written for Ray {RAY}, this is {ray.__version__}")
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(copy.deepcopy(cluster)))


@pytest.mark.parametrize("name", RAY_UP)
def test_ray_up_takes_the_file(name: str) -> None:
    validate(read(name))


def test_rays_validation_would_find_a_wrong_key() -> None:
    with pytest.raises(Exception, match="idle_timeout"):
        validate(read("cluster.yaml") | {"idle_timeout": 5})
    wrong = read("cluster.yaml")
    wrong["available_node_types"]["gpu_spot"]["min_worker"] = 1
    with pytest.raises(Exception, match="min_worker"):
        validate(wrong)


@pytest.mark.parametrize("name", RAY_UP)
def test_nothing_is_left_to_rays_defaults_that_are_not_safe(name: str) -> None:
    cluster = read(name)
    heads, workers = cluster["head_start_ray_commands"], cluster["worker_start_ray_commands"]
    starts = [command for command in heads + workers if "ray start" in command]
    assert len(starts) == 2 and all("RAY_AUTH_MODE=token" in command for command in starts)
    assert re.findall(r"--dashboard-host=(\S+)", " ".join(heads + workers)) == ["127.0.0.1"]
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in " ".join(heads)
    assert any("pip install -c" in command and "constraints.txt" in command for command in cluster["setup_commands"])
    assert all(cluster[key] == [] for key in ("head_setup_commands", "worker_setup_commands"))
    assert "~/.ray/auth_token" in cluster["file_mounts"].values()
    assert cluster["idle_timeout_minutes"] >= 5
    excluded = cluster["rsync_exclude"]
    assert {"**/.git", "**/.venv", "**/runs"} <= set(excluded)


@pytest.mark.parametrize("name", CLOUDS)
def test_a_cloud_has_a_head_without_work_and_workers_that_come_and_go(name: str) -> None:
    cluster = read(name)
    types = dict(cluster["available_node_types"])
    head = types.pop(cluster["head_node_type"])
    assert head["resources"] == {"CPU": 0}
    assert all(each["min_workers"] == 0 < each["max_workers"] for each in types.values())
    assert all(each["resources"]["GPU"] == 1 for each in types.values())
    spot, fallback = types["gpu_spot"], types["gpu_ondemand"]
    assert fallback["priority"] < spot.get("priority", 0)  # the higher one is tried first
    said = {key: str(each["node_config"]).lower() for key, each in types.items()}
    assert "'spot'" in said["gpu_spot"] and "'spot'" not in said["gpu_ondemand"]
    assert any("--shm-size=" in option for option in cluster["docker"]["run_options"])


def test_nodes_of_aws_reach_s3_by_a_role() -> None:
    for each in read("cluster.yaml")["available_node_types"].values():
        assert set(each["node_config"]["IamInstanceProfile"]) == {"Name"}


def test_the_local_provider_says_the_setting_without_which_no_worker_starts() -> None:
    assert "RAY_UP_enable_autoscaler_v2=0 ray up" in (ROOT / "launch/on-premise.yaml").read_text()
    assert "RAY_UP_enable_autoscaler_v2=0" in (ROOT / "launch/README.md").read_text()


def test_every_image_is_of_the_ray_that_the_package_needs() -> None:
    images = [read(name)["docker"]["image"] for name in CLOUDS]
    images += re.findall(r"^FROM (\S+)", (ROOT / "launch/Dockerfile").read_text(), re.MULTILINE)
    assert images == [f"rayproject/ray:{RAY}-py311-gpu"] * 3
    assert read("launch/kuberay-job.yaml")["spec"]["rayClusterSpec"]["rayVersion"] == RAY
    extras = PROJECT["optional-dependencies"]
    assert f"ray[default]=={RAY}" in extras["cluster"] and f"ray[default]=={RAY}" in extras["dev"]
    assert f"ray=={RAY}\n" in (ROOT / "launch/constraints.txt").read_text()


@pytest.mark.parametrize("path", [*RAY_UP, "launch/kuberay-job.yaml"])
def test_no_file_holds_what_looks_like_a_secret(path: str) -> None:
    assert find_secret({key: value for key, value in read(path).items() if key != "file_mounts"}) is None


def test_the_kubernetes_job_is_one_that_grows_ends_and_is_guarded() -> None:
    job = read("launch/kuberay-job.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec, cluster = job["spec"], job["spec"]["rayClusterSpec"]
    assert spec["shutdownAfterJobFinishes"] and spec["activeDeadlineSeconds"] > 0 and spec["backoffLimit"] > 0
    assert cluster["enableInTreeAutoscaling"] and cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    workers = cluster["workerGroupSpecs"][0]
    assert workers["minReplicas"] == 0 < workers["maxReplicas"]
    for group in (cluster["headGroupSpec"], workers):
        pod = group["template"]["spec"]
        mounts = {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
        assert mounts == {volume["name"] for volume in pod["volumes"]} and "shm" in mounts
    _parses(spec["entrypoint"])
    assert "python -m openal_ray resume" in spec["entrypoint"]  # a retry is a new cluster


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_parse_and_may_be_run(name: str) -> None:
    path = ROOT / "launch" / name
    assert path.stat().st_mode & 0o111
    _parses(path.read_text())


def test_the_slurm_script_refuses_a_run_without_a_place() -> None:
    done = subprocess.run(
        ["bash", ROOT / "launch/slurm.sh", "configs/digits.yaml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "out=DIR must be given" in done.stderr


def test_the_script_for_ray_submit_is_the_command_itself(tmp_path: Path) -> None:
    """It is copied to the head's home folder and run there, the repository beside it."""
    script = tmp_path / "run.py"
    script.write_text((ROOT / "launch/run.py").read_text())
    done = subprocess.run(
        [sys.executable, script, "run", "configs/digits.yaml", "no.key=1"], cwd=tmp_path,
        env={"OPENAL_RAY_HOME": str(ROOT), "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "no: unknown key 'no'" in done.stderr, done.stderr


def test_the_readme_names_every_file() -> None:
    text = (ROOT / "launch/README.md").read_text()
    for path in (ROOT / "launch").iterdir():
        if path.suffix != ".png" and path.name != "README.md":
            assert f"`{path.name}`" in text, path.name


def _parses(script: str) -> None:
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
