"""Joining or starting a Ray cluster."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray._private import ray_constants
from ray.exceptions import AuthenticationError

from openal_ray import config
from openal_ray.errors import ResourceError

REACH_SECONDS = 10


@contextmanager
def connected(cluster: config.Cluster, verbose: bool = False) -> Iterator[None]:
    """A Ray to work on: the one that is running already, the cluster's address, RAY_ADDRESS, or one started here.

    Only what was started here is stopped at the end. Signal handlers stay as they are, so that Ctrl-C works.
    """
    if ray.is_initialized():
        yield
        return
    try:
        with signals_kept():
            _start(cluster, verbose)
        yield
    finally:
        ray.shutdown()


def resources() -> dict[str, float]:
    """CPUs and GPUs of the connected cluster."""
    return {name: ray.cluster_resources().get(name, 0.0) for name in ("CPU", "GPU")}


def memory() -> float:
    """Bytes that Ray's workers may use in the connected cluster."""
    return float(ray.cluster_resources().get("memory", 0.0))


def free_resources() -> dict[str, float]:
    """CPUs and GPUs that nobody holds at present."""
    return {name: ray.available_resources().get(name, 0.0) for name in ("CPU", "GPU")}


def free_in_words() -> str:
    """The same as text."""
    return ", ".join(f"{amount:g} {name}s" for name, amount in free_resources().items())


def cluster_address(cluster: config.Cluster) -> str | None:
    """The running cluster to join, or None to start a Ray here."""
    return cluster.address or os.environ.get("RAY_ADDRESS")


def _start(cluster: config.Cluster, verbose: bool) -> None:
    quiet = {"log_to_driver": verbose, "logging_level": "INFO" if verbose else "ERROR"}
    address = cluster_address(cluster)
    if not address:
        with _on_loopback():
            ray.init(address="local", num_cpus=cluster.cpus, include_dashboard=False, **quiet)
        return
    _check_reachable(address)
    try:
        ray.init(address=address, **quiet)
    except ConnectionError as error:
        raise ResourceError(
            f"cluster.address: no Ray cluster answers at {address!r}, or it refuses this machine's token "
            f"(RAY_AUTH_TOKEN or ~/.ray/auth_token): {error}"
        ) from None
    except AuthenticationError as error:
        raise ResourceError(
            f"cluster.address: {address!r} refuses this driver: {error} Both must use the same token "
            "(RAY_AUTH_MODE=token and RAY_AUTH_TOKEN or ~/.ray/auth_token); for a cluster without tokens, set "
            "RAY_AUTH_MODE=disabled here."
        ) from None


@contextmanager
def _on_loopback() -> Iterator[None]:
    """A Ray that starts within listens on loopback alone; by itself it would on all interfaces.

    Ray has this switch for Windows and macOS, where it wants no clusters, but no argument for it. Whoever sets Ray's
    variable for that, to 1, lets nodes of other machines join.
    """
    kept = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = os.environ.get(ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR) == "1"
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = kept


def _check_reachable(address: str) -> None:
    """Raises ResourceError if nobody listens at host:port; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        return
    try:
        socket.create_connection((host, int(port)), timeout=REACH_SECONDS).close()
    except OSError as error:
        raise ResourceError(f"cluster.address: no Ray cluster answers at {address!r}: {error}") from None


@contextmanager
def signals_kept() -> Iterator[None]:
    """Puts the handlers of SIGINT and SIGTERM back afterwards: Ray replaces them and would swallow a Ctrl-C."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
