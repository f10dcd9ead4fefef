"""The acceptance runs of an autoscaled cluster, as tests."""

import subprocess
import sys

import pytest

from tests.acceptance import autoscale

pytest.importorskip("aiohttp", reason="Ray's dashboard needs openal-ray[cluster]")
pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.acceptance]


def test_a_run_has_its_workers_come_and_go(capsys: pytest.CaptureFixture[str]) -> None:
    assert autoscale.main() == 0, capsys.readouterr().out


def test_shards_come_in_the_middle_of_a_read_and_go_with_their_nodes() -> None:
    command = [sys.executable, "-m", "tests.acceptance.elastic"]  # its driver is a process that knows no other Ray
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
