"""A file or folder in an object store, as a Url that looks like a Path."""

import logging
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import unquote

from openal_ray.errors import RunError, unknown_name

log = logging.getLogger(__name__)
T = TypeVar("T")
SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs", "file")  # of pyarrow, as Ray Train takes them
FLAT = ("s3", "gcs", "abfs")  # pyarrow's names of stores whose files appear whole and need no folder around them
WAITS = (0.5, 2.0, 5.0)  # seconds before each further try; pyarrow has tried several times by then
_URL = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*)://(?P<host>[^/?]*)/*(?P<path>[^?]*)(?P<query>\?.*)?", re.DOTALL)
_LOST_SLASH = re.compile(r"[A-Za-z][\w+.-]+:/[^/]")
_ADVICE = {
    r"NO_SUCH_BUCKET|bucket does not exist|notFound": "Make the bucket first, or name another.",
    r"(ACCESS|PERMISSION)_DENIED|ACCESS_KEY_ID|SIGNATURE|UNAUTHORIZED|[Cc]redential|access token|response 40[13]": (
        "Credentials come from the environment alone: AWS_PROFILE, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
        "GOOGLE_APPLICATION_CREDENTIALS, or the role of the machine."
    ),
}
"""What to do about errors that no further try mends."""


@dataclass(frozen=True, order=True)
class Url:
    """A file or folder in a store, with those of Path's methods that run folders need.

    host    the bucket
    path    what follows it
    query   of pyarrow, with its question mark, such as ?endpoint_override=127.0.0.1:9000&scheme=http
    raises  RunError, from every method, if the store cannot be reached or refuses, after some tries
    """

    scheme: str
    host: str
    path: PurePosixPath
    query: str = ""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}/{self.key}".rstrip("/") + self.query

    def __truediv__(self, name: str | PurePosixPath) -> "Url":
        return Url(self.scheme, self.host, self.path / name, self.query)

    @property
    def key(self) -> str:
        """The path as text; nothing for the bucket itself."""
        return "" if self.path == PurePosixPath() else str(self.path)

    @property
    def name(self) -> str:
        return self.path.name or self.host

    @property
    def stem(self) -> str:
        return self.path.stem

    @property
    def parent(self) -> "Url":
        return Url(self.scheme, self.host, self.path.parent, self.query)

    def expanduser(self) -> "Url":
        return self

    def resolve(self) -> "Url":
        return self

    def located(self) -> tuple[Any, str]:
        """pyarrow's file system, and the path in it: what Ray Train takes as storage_filesystem and storage_path."""
        filesystem, base = tried(self, lambda: connect(self.scheme, self.host, self.query))
        return filesystem, f"{base.rstrip('/')}/{self.key}".rstrip("/")

    def exists(self) -> bool:
        return self._kind() != "NotFound"

    def is_file(self) -> bool:
        return self._kind() == "File"

    def is_dir(self) -> bool:
        """Whether anything lies below; a store has no empty folders."""
        return self._kind() == "Directory"

    def _kind(self) -> str:
        filesystem, path = self.located()
        return str(tried(self, lambda: filesystem.get_file_info(path)).type.name)

    def iterdir(self) -> Iterator["Url"]:
        from pyarrow.fs import FileSelector

        filesystem, path = self.located()
        for found in tried(self, lambda: filesystem.get_file_info(FileSelector(path, allow_not_found=True))):
            yield self / found.base_name

    def read_bytes(self) -> bytes:
        """The whole file; raises FileNotFoundError if there is none."""
        filesystem, path = self.located()

        def read() -> bytes:
            with filesystem.open_input_stream(path) as stream:
                content: bytes = stream.read()
            return content

        return tried(self, read)

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def write_bytes(self, content: bytes) -> None:
        """Replaces the file, or makes it: a reader finds the old content or the new, never a part."""
        filesystem, path = self.located()
        flat, folder = filesystem.type_name in FLAT, path.rpartition("/")[0]
        target = path if flat else f"{folder}/.{self.name}.tmp"

        def write() -> None:
            if folder and not flat:
                filesystem.create_dir(folder, recursive=True)
            with filesystem.open_output_stream(target) as stream:
                stream.write(content)
            if not flat:
                filesystem.move(target, path)

        tried(self, write)

    def unlink(self, missing_ok: bool = False) -> None:
        filesystem, path = self.located()
        try:
            tried(self, lambda: filesystem.delete_file(path))
        except FileNotFoundError:
            if not missing_ok:
                raise


Place = Path | Url
"""Where a file or folder lies."""


def place(text: object) -> Place:
    """The place that a user names: a URL of a store, file:///PATH, or a path; raises ValueError in words."""
    if isinstance(text, Url):
        return text
    if not isinstance(text, str | Path):
        raise ValueError(f"must be a folder or a URL, got {text!r}")
    url = _URL.fullmatch(str(text))
    if not url:
        if isinstance(text, Path) and _LOST_SLASH.match(str(text)):
            raise ValueError(f"{text}: a Path loses a slash of a URL; give the URL as text")
        return Path(text)
    scheme, host = url["scheme"].lower(), url["host"]
    if scheme not in SCHEMES:
        raise ValueError(f"{text}: {unknown_name('scheme', scheme, SCHEMES)}")
    if scheme == "file":
        if host not in ("", "localhost"):
            raise ValueError(f"{text}: a file:// URL has three slashes before its path, as file:///shared/runs")
        return Path("/" + unquote(url["path"]))
    if ":" in host.partition("@")[0] and "@" in host:
        raise ValueError(f"{scheme}://…: a URL with a secret in it; {_ADVICE[list(_ADVICE)[1]]}")
    if not host:
        raise ValueError(f"{text}: names no bucket; write {scheme}://BUCKET/FOLDER")
    return Url(scheme, host, PurePosixPath(url["path"]), url["query"] or "")


@lru_cache
def connect(scheme: str, host: str, query: str) -> tuple[Any, str]:
    """pyarrow's file system for a bucket, and the bucket's path in it; Ray Train's own way from URLs to both."""
    from pyarrow.fs import FileSystem

    filesystem, base = FileSystem.from_uri(f"{scheme}://{host}{query}")
    return filesystem, base


def tried(url: Url, operation: Callable[[], T]) -> T:
    """The operation's result, after some tries; FileNotFoundError is one. Raises RunError in words."""
    from pyarrow import ArrowException, ArrowInvalid

    for wait in (*WAITS, None):
        try:
            return operation()
        except FileNotFoundError:
            raise
        except ArrowInvalid as error:
            raise RunError(f"{url}: {error}") from None
        except (OSError, ArrowException) as error:
            problem = str(error).partition("\n")[0].rstrip(".")
            advice = [text for pattern, text in _ADVICE.items() if re.search(pattern, problem)]
            if advice:
                raise RunError(f"{url}: the store refuses this: {problem}. {advice[0]}") from None
            if wait is None:
                raise RunError(
                    f"{url}: the store did not answer {len(WAITS) + 1} times: {problem}. Look at the bucket's name, "
                    "network and AWS_ENDPOINT_URL. A run that had begun is kept: `openal-ray resume` goes on with it."
                ) from None
            log.warning("%s: the store did not answer (%s); trying again in %g s", url, problem, wait)
            time.sleep(wait)
    raise AssertionError("unreachable")
