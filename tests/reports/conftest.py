"""The fixture that writes run folders for the tests of reports."""

from pathlib import Path
from typing import Any

import pytest

from tests.reports.run_folders import MakeRun, write_run


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """A function that writes a run folder under tmp_path; see `write_run`."""

    def make(strategy: str | None, seed: int = 0, **options: Any) -> Path:
        folder = tmp_path / options.pop("parent", "runs") / options.pop("folder", f"{strategy}-{seed}")
        return write_run(folder, strategy, seed, **options)

    return make
