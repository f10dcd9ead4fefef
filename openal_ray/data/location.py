"""Where a file lies: a local path or an object-store URL, told apart by its `scheme://`."""

import errno
import logging
import time
from pathlib import Path

from openal_ray.errors import DataError

log = logging.getLogger(__name__)
WAITS = (0.5, 1.0, 2.0)  # seconds before a store is asked again
LASTING = (PermissionError, ValueError, ImportError)  # refused, or an address of nothing: asking again is no use
OF_THE_DISK = (
    errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH,
    errno.ECONNRESET, errno.ENOTCONN, errno.EAGAIN, errno.EMFILE, errno.ENFILE,
)  # fmt: skip
"""Local failures that say nothing about the file: a network disk that went away, too many open files."""


def is_remote(location: str) -> bool:
    """Whether `location` is a URL (`s3://…`, `gs://…`) rather than a local path."""
    return "://" in location


def join(root: str, path: str) -> str:
    """`path` as seen from the folder `root`; an absolute path or a URL stays what it is."""
    if is_remote(path) or not root:
        return path
    if is_remote(root):
        return f"{root.rstrip('/')}/{path.lstrip('/')}"
    return str(Path(root) / path)


def parent(location: str) -> str:
    """The folder that holds the file `location`."""
    return location.rpartition("/")[0] if is_remote(location) else str(Path(location).parent)


def read_bytes(location: str) -> bytes:
    """The whole file, asked for again where a disk or a store fails for a moment.

    raises  OSError if the file is absent or, being local, cannot be read; DataError if its disk or store still fails
            after WAITS, or refuses, which says nothing about the file
    """
    for seconds in WAITS:
        try:
            return _read_once(location)
        except _Failing as error:
            log.warning("%s; asking again in %g s", error, seconds)
            time.sleep(seconds)
    return _read_once(location)


class _Failing(DataError):
    """A disk or store that may answer in a moment."""


def _read_once(location: str) -> bytes:
    # fsspec gives characters such as `*` and `::` a meaning of its own; a local file may well have them in its name.
    if not is_remote(location):
        try:
            return Path(location).read_bytes()
        except OSError as error:
            if error.errno in OF_THE_DISK:
                raise _Failing(f"{location} cannot be read at present: {error.strerror}") from error
            raise
    import fsspec

    try:
        with fsspec.open(location, "rb") as file:
            content: bytes = file.read()
    except (FileNotFoundError, IsADirectoryError):
        raise
    except Exception as error:  # each store has error types of its own
        kind = DataError if isinstance(error, LASTING) else _Failing
        raise kind(f"the store of {location} does not answer: {error}. Check network and credentials.") from error
    return content
