"""One Ray for all tests of this folder: starting it costs five CPU-seconds."""

from collections.abc import Iterator

import pytest

from openal_ray.cluster.connect import connected
from openal_ray.config import Cluster


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "1")  # not on loopback alone: a test's own nodes may join
        with connected(Cluster(cpus=4)):
            patch.undo()
            yield
