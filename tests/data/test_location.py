"""Tests of data/location.py: local paths and object-store URLs."""

import uuid
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

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
