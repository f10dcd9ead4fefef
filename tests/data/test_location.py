"""Tests of data/location.py: local paths and object-store URLs."""

import errno
import os
import uuid
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from openal_ray.data import location
from openal_ray.data.location import is_remote, join, parent, read_bytes
from openal_ray.errors import DataError


def test_what_is_remote() -> None:
    assert is_remote("s3://bucket/a.png")
    assert not is_remote("/data/a.png")
    assert not is_remote("a::b.png")


@pytest.mark.parametrize(
    ("root", "path", "expected"),
    [
        ("/data", "cat/1.png", "/data/cat/1.png"),
        ("/data", "/other/1.png", "/other/1.png"),
        ("/data", "s3://b/1.png", "s3://b/1.png"),
        ("s3://b/set", "cat/1.png", "s3://b/set/cat/1.png"),
        ("s3://b/set/", "s3://c/1.png", "s3://c/1.png"),
        ("", "cat/1.png", "cat/1.png"),
    ],
)
def test_join(root: str, path: str, expected: str) -> None:
    assert join(root, path) == expected


def test_parent_of_a_path_and_of_a_url() -> None:
    assert parent("/data/m.csv") == "/data"
    assert parent("m.csv") == "."
    assert parent("s3://b/set/m.csv") == "s3://b/set"


def test_a_local_name_is_taken_as_it_is(tmp_path: Path) -> None:
    for name in ("a::b.bin", "star*.bin", "[1].bin"):
        (tmp_path / name).write_bytes(name.encode())
        assert read_bytes(str(tmp_path / name)) == name.encode()


def test_a_file_of_an_object_store() -> None:
    location = f"memory://{uuid.uuid4()}/a.bin"
    with fsspec.open(location, "wb") as file:
        file.write(b"abc")
    assert read_bytes(location) == b"abc"


def test_an_absent_file_is_told_from_a_store_that_fails() -> None:
    with pytest.raises(FileNotFoundError):
        read_bytes(f"memory://{uuid.uuid4()}/a.bin")
    with pytest.raises(DataError, match=r"the store of nosuch://a/b does not answer: Protocol not known.*credentials"):
        read_bytes("nosuch://a/b")


class _Refusing(MemoryFileSystem):  # type: ignore[misc]
    """A store whose credentials have run out."""

    protocol = "refusing"

    def _open(self, *_: object, **__: object) -> None:
        raise PermissionError("token expired")


def test_expired_credentials_say_nothing_about_the_file() -> None:
    fsspec.register_implementation("refusing", _Refusing, clobber=True)
    with pytest.raises(DataError, match="the store of refusing://a.bin does not answer: token expired"):
        read_bytes("refusing://a.bin")


class _Flaky(MemoryFileSystem):  # type: ignore[misc]
    """A store that fails at every third reading of a file."""

    protocol = "flaky"
    asked = 0

    def _open(self, path: str, mode: str = "rb", **others: Any) -> Any:
        if mode == "rb":
            _Flaky.asked += 1
            if _Flaky.asked % 3 == 1:
                raise ConnectionResetError("connection reset by peer")
        return super()._open(path, mode, **others)


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made."""
    pauses: list[float] = []
    monkeypatch.setattr(location.time, "sleep", pauses.append)
    return pauses


def test_a_store_that_fails_once_is_asked_again(waited: list[float], caplog: pytest.LogCaptureFixture) -> None:
    fsspec.register_implementation("flaky", _Flaky, clobber=True)
    with fsspec.open("flaky://a.bin", "wb") as file:
        file.write(b"abc")
    assert [read_bytes("flaky://a.bin") for _ in range(4)] == [b"abc"] * 4
    assert waited == [0.5, 0.5]
    assert "connection reset by peer" in caplog.text and "asking again in 0.5 s" in caplog.text


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE])
def test_a_disk_that_fails_is_no_bad_picture(number: int, waited: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """With data.bad_images=skip it would silently leave the experiment."""

    def fail(path: Path) -> bytes:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(DataError, match="a.png cannot be read at present"):
        read_bytes("a.png")
    assert waited == [0.5, 1.0, 2.0]


def test_a_file_that_may_not_be_read_is_not_asked_for_again(waited: list[float], tmp_path: Path) -> None:
    for problem in (tmp_path, tmp_path / "absent", tmp_path / ("x" * 300)):
        with pytest.raises(OSError):
            read_bytes(str(problem))
    with pytest.raises(DataError):
        read_bytes("nosuch://a/b")
    assert not waited
