"""Finds what looks like a secret in a configuration: its values are kept in config.yaml, logs and reports."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

_KEY = re.compile(
    r"(^|[_-])(password|passwd|passphrase|secret|token|api_?key|access_?key|credentials?)$", re.IGNORECASE
)
_VALUE = re.compile(
    r"://[^/\s:@]*:[^/\s@]+@"  # a URL with a password
    r"|[?&](x-amz-signature|x-goog-signature|signature|sig|token)="  # a signed URL
    r"|\b(AKIA|ASIA)[0-9A-Z]{16}\b|\b(ghp|gho|hf|xox[bp])[_-][A-Za-z0-9-]{20,}|-----BEGIN [A-Z ]*PRIVATE KEY",
    re.IGNORECASE,
)
LEAST = 8  # characters of a secret; a network's parameter class_token=avg is none


def find_secret(values: Any, path: str = "") -> str | None:
    """The key of the first value that looks like a secret; never the value. None if there is none."""
    for key, name, text in _texts(values, path, ""):
        if _VALUE.search(text) or (_KEY.search(name) and len(text) >= LEAST):
            return key
    return None


def _texts(values: Any, path: str, name: str) -> Iterator[tuple[str, str, str]]:
    """All texts among nested mappings and lists: full key, its last part, text."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _texts(value, f"{path}.{key}" if path else str(key), str(key))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _texts(value, path, name)
    elif isinstance(values, str):
        yield path, name, values
