"""Where a file lies: a local path or an object-store URL, told apart by its `scheme://`."""

from pathlib import Path

from openal_ray.errors import DataError


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
    """The whole file.

    raises  OSError if the file is absent or, being local, cannot be read; DataError if an object store fails for
            any other reason, such as the network or credentials, which says nothing about the file
    """
    # fsspec gives characters such as `*` and `::` a meaning of its own; a local file may well have them in its name.
    if not is_remote(location):
        return Path(location).read_bytes()
    import fsspec

    try:
        with fsspec.open(location, "rb") as file:
            content: bytes = file.read()
    except (FileNotFoundError, IsADirectoryError):
        raise
    except Exception as error:  # each store has error types of its own
        raise DataError(f"the store of {location} does not answer: {error}. Check network and credentials.") from error
    return content
