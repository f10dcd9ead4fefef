"""Files that are written whole, and the one that grows, wherever they are kept."""

import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from openal_ray.errors import RunError
from openal_ray.storage.url import Place, Url, tried


@contextmanager
def complete(file: Place) -> Iterator[Path]:
    """A local path to write to, which becomes `file` once that went well: a reader never sees half of it.

    raises  OSError for a disk, RunError for a store
    """
    if isinstance(file, Url):
        with tempfile.TemporaryDirectory(prefix="openal-ray-") as folder:
            yield Path(folder) / file.name
            file.write_bytes((Path(folder) / file.name).read_bytes())
        return
    incomplete = file.with_name(f".{file.name}.tmp")
    try:
        yield incomplete
        incomplete.replace(file)
    except BaseException:
        with suppress(OSError):
            incomplete.unlink()
        raise


@contextmanager
def filled(folder: Place) -> Iterator[Path]:
    """A local folder whose files are those of `folder` afterwards; what lies there already stays."""
    if isinstance(folder, Path):
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="openal-ray-") as here:
        yield Path(here)
        for file in sorted(Path(here).iterdir()):
            (folder / file.name).write_bytes(file.read_bytes())


def make_folder(folder: Place) -> None:
    """Makes the folder on a disk; in a store it comes with its first file."""
    if isinstance(folder, Path):
        folder.mkdir(parents=True, exist_ok=True)


def for_ray(folder: Place) -> dict[str, Any]:
    """Ray's names for the place: keywords of its RunConfig. Its workers find credentials in their own environment."""
    if isinstance(folder, Path):
        return {"storage_path": str(folder.resolve())}
    filesystem, path = folder.located()
    return {"storage_path": path, "storage_filesystem": filesystem}


def remove(folder: Place) -> None:
    """Removes the folder with all that is in it, as far as that can be done."""
    if isinstance(folder, Path):
        shutil.rmtree(folder, ignore_errors=True)
        return
    filesystem, path = folder.located()
    with suppress(FileNotFoundError, RunError):
        tried(folder, lambda: filesystem.delete_dir(path))


def append(file: Place, lines: bytes, before: bytes) -> None:
    """Adds lines to a file: all of them reach the disk or store, or none.

    before  what the file holds, as far as this process knows; a store has no lock, so it is looked at again there:
            another process may have written in the moment since, but hardly in the same one
    raises  OSError for a disk; RunError for a store, before anything is written if it does not hold `before`
    """
    if isinstance(file, Url):
        if (file.read_bytes() if file.exists() else b"") != before:
            raise RunError(
                f"{file}: another process has written to it since this one last did. This one stops and has written "
                "nothing; wait for the other or stop it, then `openal-ray resume`."
            )
        file.write_bytes(before + lines)
        return
    size = file.stat().st_size if file.exists() else 0
    try:
        with file.open("ab") as stream:
            stream.write(lines)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError:
        with suppress(OSError):  # there may be no file, or no folder any more
            os.truncate(file, size)
        raise


def truncate(file: Place, content: bytes) -> None:
    """Leaves of a file only `content`, with which it begins."""
    if isinstance(file, Url):
        file.write_bytes(content)
    else:
        os.truncate(file, len(content))


def opened(file: Place) -> IO[bytes]:
    """The file for reading; one of a store is fetched whole."""
    return file.open("rb") if isinstance(file, Path) else io.BytesIO(file.read_bytes())
