"""A store that fails when a test says so, and leases in quick motion."""

from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from openal_ray.storage import hold, url
from openal_ray.storage.url import Url, place


class Faulty(fs.FileSystemHandler):
    """A folder as a store whose calls fail as long as `failing` has something to say of them.

    failing  gets the kind of call (write, move, read, look, delete) and the path; what it raises, the store answers
    """

    def __init__(self, folder: Path) -> None:
        self.inner = fs.SubTreeFileSystem(str(folder), fs.LocalFileSystem())
        self.calls: list[tuple[str, str]] = []
        self.failing: Any = lambda kind, path: None

    def _called(self, kind: str, path: str) -> None:
        self.calls.append((kind, path))
        self.failing(kind, path)

    def get_type_name(self) -> str:
        return "faulty"

    def normalize_path(self, path: str) -> str:
        return str(self.inner.normalize_path(path))

    def get_file_info(self, paths: list[str]) -> Any:
        self._called("look", paths[0])
        return self.inner.get_file_info(paths)

    def get_file_info_selector(self, selector: Any) -> Any:
        self._called("look", selector.base_dir)
        return self.inner.get_file_info(selector)

    def create_dir(self, path: str, recursive: bool) -> None:
        self.inner.create_dir(path, recursive=recursive)

    def delete_file(self, path: str) -> None:
        self._called("delete", path)
        self.inner.delete_file(path)

    def open_input_stream(self, path: str) -> Any:
        self._called("read", path)
        return self.inner.open_input_stream(path)

    def open_output_stream(self, path: str, metadata: Any) -> Any:
        self._called("write", path)
        return self.inner.open_output_stream(path)

    def move(self, source: str, target: str) -> None:
        self._called("move", target)
        self.inner.move(source, target)

    def delete_dir(self, path: str) -> None:
        self.inner.delete_dir(path)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool) -> None:
        raise NotImplementedError

    delete_root_dir_contents = copy_file = open_input_file = open_append_stream = delete_dir_contents


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Faulty:
    """What lies behind `store`."""
    (tmp_path / "store").mkdir()
    handler = Faulty(tmp_path / "store")
    filesystem = fs.PyFileSystem(handler)
    monkeypatch.setattr(url, "connect", lambda scheme, host, query: (filesystem, ""))
    monkeypatch.setattr(url, "WAITS", (0.0, 0.0, 0.0))
    return handler


@pytest.fixture
def store(faulty: Faulty) -> Url:
    """The URL of a store on this disk, quicker than S3, which fails when a test says so."""
    found = place("s3://store")
    assert isinstance(found, Url)
    return found


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases that are renewed often, and watched for long enough on a busy machine."""
    monkeypatch.setattr(hold, "RENEW_SECONDS", 0.05)
    monkeypatch.setattr(hold, "WATCH_SECONDS", 10.0)
    monkeypatch.setattr(hold, "POLL_SECONDS", 0.02)
