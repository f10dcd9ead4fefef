"""A disk that is really full: a small file system of the test's own, which gets more room afterwards."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.sameness import differences, undisturbed
from tests.experiments import SMALL

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system"),
]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """300 KB, which is no room for the weights of three rounds."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def openal_ray(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "openal_ray", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_a_full_disk_stops_a_run_in_words_and_room_lets_it_go_on(disk: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(json.dumps(SMALL | {"checkpoints": "all"}))
    stopped = openal_ray("run", str(tmp_path / "config.yaml"), f"out={disk / 'run'}")
    assert stopped.returncode == 2, stopped.stderr
    assert "make room and resume" in " ".join(stopped.stderr.split()) and "Traceback" not in stopped.stderr
    assert '"kind": "evaluated", "round": 0' in (disk / "run" / "rounds.jsonl").read_text()
    subprocess.run(["mount", "-o", "remount,size=50m", disk], check=True)
    resumed = openal_ray("resume", str(disk / "run"))
    assert resumed.returncode == 0, resumed.stderr
    assert not differences(disk / "run", undisturbed(tmp_path / "here", SMALL))
