"""A Url means what the same name on a disk means; a store that fails is tried again, one that refuses is not."""

import logging
from pathlib import Path

import pytest

from openal_ray.errors import RunError
from openal_ray.storage.url import Place, Url, place
from tests.storage.conftest import Faulty


@pytest.mark.parametrize(
    ("text", "bucket", "key"),
    [
        ("s3://bucket/runs/a", "bucket", "runs/a"),
        ("S3://bucket//runs/a/", "bucket", "runs/a"),
        ("gs://bucket", "bucket", ""),
        ("s3://b/lr=0.01-margin,0?endpoint_override=127.0.0.1:9000&scheme=http", "b", "lr=0.01-margin,0"),
    ],
)
def test_urls(text: str, bucket: str, key: str) -> None:
    found = place(text)
    assert isinstance(found, Url) and (found.host, found.key) == (bucket, key)
    assert place(str(found)) == found == place(found)
    below = found / "x" / "y.csv"
    assert str(below).partition("?")[0] == f"{found.scheme}://{'/'.join(filter(None, [bucket, key, 'x', 'y.csv']))}"
    assert str(below).partition("?")[2] == text.partition("?")[2]
    assert below.parent.parent == found and (below.name, below.stem) == ("y.csv", "y")


@pytest.mark.parametrize(
    ("text", "path"),
    [("runs/a", "runs/a"), ("file:///shared/my%20runs", "/shared/my runs"), ("/a:b", "/a:b"), ("a?b", "a?b")],
)
def test_paths(text: str, path: str) -> None:
    assert place(text) == Path(path) == place(Path(path))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("s4://bucket/a", "s4://bucket/a: unknown scheme 's4'. Did you mean 's3'?"),
        ("s3:///runs/a", "names no bucket; write s3://BUCKET/FOLDER"),
        ("s3://AKIAME:verysecret@bucket/a", "a URL with a secret in it; Credentials come from the environment alone"),
        ("file://machine/runs", "a file:// URL has three slashes"),
        (Path("s3://bucket/a"), "s3:/bucket/a: a Path loses a slash of a URL; give the URL as text"),
        (7, "must be a folder or a URL, got 7"),
    ],
)
def test_what_is_no_place(given: object, sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        place(given)
    assert sentence in str(caught.value)
    assert "verysecret" not in str(caught.value)


def told(root: Place) -> list[object]:
    """What a folder answers to everything that run folders ask."""
    file = root / "runs" / "a.csv"
    before = [root.is_dir(), (root / "runs").exists(), file.is_file()]
    if isinstance(root, Path):
        file.parent.mkdir()
    file.write_bytes(b"one")
    file.write_bytes("zwölf".encode())
    (root / "runs" / "b=1,2.csv").write_bytes(b"")
    inside = sorted(each.name for each in (root / "runs").iterdir())
    kinds = [(each.exists(), each.is_file(), each.is_dir()) for each in (file, file.parent, root / "runs/a")]
    read = [file.read_text(encoding="utf-8"), (root / "runs" / "b=1,2.csv").read_bytes()]
    file.unlink()
    file.unlink(missing_ok=True)
    absent = []
    for attempt in (file.read_bytes, file.unlink):
        with pytest.raises(FileNotFoundError):
            attempt()
        absent.append(attempt.__name__)
    return [before[1:], inside, kinds, read, absent, file.exists(), [each.name for each in file.parent.iterdir()]]


def test_a_folder_in_s3_answers_as_one_on_a_disk(tmp_path: Path, bucket: Url) -> None:
    assert told(bucket) == told(tmp_path)
    assert list((bucket / "nowhere").iterdir()) == []


def test_any_other_store_answers_so_too(tmp_path: Path, store: Url) -> None:
    (tmp_path / "disk").mkdir()
    assert told(store) == told(tmp_path / "disk")


def failing(times: int, *kinds: str, error: str = "curlCode: 7, Could not connect to server") -> object:
    left = [times]

    def fail(kind: str, path: str) -> None:
        if kind in kinds and left[0] > 0:
            left[0] -= 1
            raise OSError(error)

    return fail


@pytest.mark.parametrize("kind", ["write", "move", "read", "look", "delete"])
def test_a_store_that_fails_three_times_is_asked_a_fourth(
    kind: str, faulty: Faulty, store: Url, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    (store / "runs" / "a").write_bytes(b"old")
    faulty.failing = failing(3, kind)
    (store / "runs" / "a").write_bytes(b"new")
    assert (store / "runs" / "a").read_bytes() == b"new" and (store / "runs" / "a").is_file()
    (store / "runs" / "a").unlink()
    assert not (store / "runs" / "a").exists()
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        "the store did not answer (curlCode: 7, Could not connect to server); trying again in 0 s"
    ] * 3


def test_a_store_that_stays_away_is_told_in_words_and_leaves_the_old_file(faulty: Faulty, store: Url) -> None:
    (store / "a").write_bytes(b"old")
    for kind in ("write", "move"):
        faulty.failing = failing(4, kind)
        with pytest.raises(RunError) as caught:
            (store / "a").write_bytes(b"new")
        assert str(caught.value) == (
            "s3://store/a: the store did not answer 4 times: curlCode: 7, Could not connect to server. Look at the "
            "bucket's name, network and AWS_ENDPOINT_URL. A run that had begun is kept: `openal-ray resume` goes on "
            "with it."
        )
        assert (store / "a").read_bytes() == b"old"


def test_a_refusal_is_not_tried_again(faulty: Faulty, store: Url) -> None:
    faulty.failing = failing(9, "write", error="AWS Error ACCESS_DENIED during PutObject operation: no")
    with pytest.raises(RunError, match="the store refuses this: AWS Error ACCESS_DENIED .*: no. Credentials come from"):
        (store / "a").write_bytes(b"")
    assert [kind for kind, _ in faulty.calls] == ["write"]


def test_keys_that_the_store_does_not_know_are_told_without_them(bucket: Url, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", 0)
    with pytest.raises(RunError, match="INVALID_ACCESS_KEY_ID.* Credentials come from the environment alone: AWS_PRO"):
        (bucket / "a").write_bytes(b"")
    with pytest.raises(RunError, match="ACCESS_DENIED.* Credentials come from") as caught:
        (bucket / "a").exists()
    assert "someone" not in str(caught.value) and "anything" not in str(caught.value)


def test_a_missing_bucket_is_named(s3: str) -> None:
    found = place("s3://no-such-bucket/runs/a")
    with pytest.raises(RunError, match="^s3://no-such-bucket/runs/a: .*NO_SUCH_BUCKET.* Make the bucket first"):
        found.write_bytes(b"")  # type: ignore[union-attr]
    assert not found.exists()


def test_a_query_that_pyarrow_does_not_know_is_refused_at_once(s3: str) -> None:
    with pytest.raises(RunError, match="Unexpected query parameter in S3 URI: 'endpoint'"):
        place("s3://bucket/a?endpoint=here").exists()  # type: ignore[union-attr]


def test_the_endpoint_may_stand_in_the_url(bucket: Url, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (bucket / "a").write_bytes(b"here")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    scheme, _, address = endpoint.partition("://")
    assert place(f"{bucket}/a?endpoint_override={address}&scheme={scheme}").read_bytes() == b"here"
