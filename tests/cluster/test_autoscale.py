"""The acceptance run of an autoscaled cluster, as a test."""

import pytest

from tests.acceptance import autoscale

pytest.importorskip("aiohttp", reason="Ray's dashboard needs openal-ray[cluster]")
pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.acceptance]


def test_a_run_has_its_workers_come_and_go(capsys: pytest.CaptureFixture[str]) -> None:
    assert autoscale.main() == 0, capsys.readouterr().out
