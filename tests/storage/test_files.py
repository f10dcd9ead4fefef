"""Files appear whole, on a disk and in a store, and the one that grows has one writer."""

from pathlib import Path

import pytest

from openal_ray.errors import RunError
from openal_ray.storage import files
from openal_ray.storage.url import Place, Url
from tests.storage.conftest import Faulty


@pytest.fixture(params=["disk", "store"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, store: Url) -> Place:
    return store if request.param == "store" else tmp_path


def test_a_file_appears_when_it_is_complete(folder: Place) -> None:
    for content in (b"old", b"new"):
        with files.complete(folder / "a.csv") as here:
            assert not here.exists() or content == b"new"
            here.write_bytes(content)
            if content == b"new":
                assert (folder / "a.csv").read_bytes() == b"old"
        assert (folder / "a.csv").read_bytes() == content
    with files.opened(folder / "a.csv") as stream:
        assert stream.read(2) == b"ne"


def test_a_file_that_fails_half_way_never_was(folder: Place) -> None:
    (folder / "a.csv").write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), files.complete(folder / "a.csv") as here:
        here.write_bytes(b"ne")
        raise KeyboardInterrupt
    assert (folder / "a.csv").read_bytes() == b"old"
    assert [each.name for each in folder.iterdir() if each.is_file()] == ["a.csv"]


def test_a_folder_is_filled_beside_what_is_there(folder: Place) -> None:
    (folder / "kept").write_bytes(b"") if isinstance(folder, Url) else None
    with files.filled(folder / "report") as here:
        (here / "report.html").write_text("page")
    with files.filled(folder / "report") as here:
        (here / "curves.png").write_text("figure")
    assert sorted(each.name for each in (folder / "report").iterdir()) == ["curves.png", "report.html"]
    files.remove(folder / "report")
    files.remove(folder / "report")
    assert not (folder / "report").exists()


def test_lines_are_added_and_a_beginning_is_left(folder: Place) -> None:
    file = folder / "rounds.jsonl"
    files.append(file, b"one\n", b"")
    files.append(file, b"two\nthr", b"one\n")
    assert file.read_bytes() == b"one\ntwo\nthr"
    files.truncate(file, b"one\ntwo\n")
    assert file.read_bytes() == b"one\ntwo\n"


def test_of_two_writers_to_a_store_the_second_stops(store: Url) -> None:
    file = store / "rounds.jsonl"
    files.append(file, b"one\n", b"")
    with pytest.raises(RunError, match="rounds.jsonl: another process has written .* has written nothing; wait for"):
        files.append(file, b"mine\n", b"")
    assert file.read_bytes() == b"one\n"


def test_lines_that_do_not_reach_the_store_were_never_added(faulty: Faulty, store: Url) -> None:
    file = store / "rounds.jsonl"
    files.append(file, b"one\n", b"")

    def fail(kind: str, path: str) -> None:
        if kind == "move":
            raise OSError("gone")

    faulty.failing = fail
    with pytest.raises(RunError, match="did not answer 4 times: gone"):
        files.append(file, b"two\n", b"one\n")
    assert file.read_bytes() == b"one\n"


def test_what_ray_is_told(tmp_path: Path, bucket: Url) -> None:
    assert files.for_ray(tmp_path / "x" / ".." / "training") == {"storage_path": str(tmp_path / "training")}
    told = files.for_ray(bucket / "run" / "training")
    assert told["storage_path"] == f"{bucket.host}/run/training" and told["storage_filesystem"].type_name == "s3"
