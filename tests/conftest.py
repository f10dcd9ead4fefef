"""Settings of every test: one thread for each library, asked for before torch is imported; and an S3 server."""

import itertools
import logging
import os
import signal
from collections.abc import Iterator

os.environ["OMP_NUM_THREADS"] = "1"
S3 = {"AWS_ACCESS_KEY_ID": "someone", "AWS_SECRET_ACCESS_KEY": "anything", "AWS_EC2_METADATA_DISABLED": "true"}
os.environ |= S3  # before Ray starts, whose workers find them

import pytest  # noqa: E402
import torch  # noqa: E402

from openal_ray.storage.url import Url, place  # noqa: E402

torch.set_num_threads(1)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and all it starts would
NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    """The address of the server."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The environment in which pyarrow, here and in processes that a test starts, finds the server."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    return endpoint


@pytest.fixture
def bucket(s3: str) -> Url:
    """An empty bucket of its own for each test."""
    from pyarrow import fs

    name = f"bucket-{next(NUMBERS)}"
    fs.FileSystem.from_uri(f"s3://{name}?allow_bucket_creation=true")[0].create_dir(name)
    found = place(f"s3://{name}")
    assert isinstance(found, Url)
    return found
