"""Pictures listed in a table, CSV or Parquet, with the columns id, path, label and split."""

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openal_ray.data.dataset import Dataset
from openal_ray.data.images import Images
from openal_ray.data.location import is_remote, join, parent, read_bytes
from openal_ray.data.request import Request
from openal_ray.errors import DataError, unknown_name
from openal_ray.pool import UNLABELLED

COLUMNS = ("id", "path", "label", "split")
_PARTS = {"": "train", "train": "train", "val": "validation", "validation": "validation", "test": "test"}


@dataclass(frozen=True, slots=True)
class Row:
    """One picture.

    number  the line of a CSV file, whose header is line 1; the row of a Parquet file, from 1
    path    a URL, or a path as seen from the manifest's folder
    label   class name; "" = unlabelled
    split   train, val, validation or test; "" = train
    """

    number: int
    id: str
    path: str
    label: str
    split: str

    @property
    def part(self) -> str | None:
        """What the split means: train, validation or test; None if it is unknown."""
        return _PARTS.get(self.split.lower())


def manifest(request: Request) -> Dataset:
    """The pictures that a table lists. Classes are the labels, sorted; dataset indices follow the table's order."""
    location = request.target if is_remote(request.target) else str(Path(request.target).expanduser())
    rows = read_rows(location)
    check_rows(location, rows)
    train = [row for row in rows if row.part != "test"]
    test = [row for row in rows if row.part == "test"]
    classes = sorted({row.label for row in train if row.label})
    places = {"": UNLABELLED} | {label: place for place, label in enumerate(classes)}

    def answer(part: Sequence[Row]) -> tuple[Images, np.ndarray]:
        images = request.files(parent(location), [row.path for row in part], [row.id for row in part])
        return images, np.array([places[row.label] for row in part], np.int64)

    validation = np.flatnonzero([row.part == "validation" for row in train])
    return request.dataset(classes, answer(train), answer(test), validation)


def read_rows(location: str) -> list[Row]:
    """All rows of a manifest, unchecked; raises DataError if the file is absent, unreadable or lacks a column."""
    readers = {".csv": _csv_rows, ".parquet": _parquet_rows}
    suffix = Path(location).suffix.lower()
    if suffix not in readers:
        raise DataError(f"manifest:{location}: expected a file that ends in .csv or .parquet")
    try:
        return list(readers[suffix](location, read_bytes(location)))
    except OSError as error:
        raise DataError(f"manifest {location} cannot be read: {error.strerror or error}") from error
    except (csv.Error, ValueError) as error:  # of the text's encoding too, and of pyarrow
        raise DataError(f"manifest {location} is damaged or no {suffix[1:]} file in UTF-8: {error}") from error


def check_rows(location: str, rows: Sequence[Row]) -> None:
    """Everything that can be known before a picture is opened; raises DataError with the numbers of the rows."""
    times = Counter(row.id for row in rows)
    _refuse(location, "id and path must not be empty", (row for row in rows if not row.id or not row.path))
    _refuse(location, "every id must appear once", (row for row in rows if times[row.id] > 1), lambda row: row.id)
    for row in rows:
        if row.part is None:
            raise DataError(f"{location}: row {row.number}: {unknown_name('split', row.split, filter(None, _PARTS))}")
    for part in ("train", "test"):
        if not any(row.part == part for row in rows):
            raise DataError(f"{location}: no row is of the split {part}; the column split says which are")
    unlabelled = (row for row in rows if row.part != "train" and not row.label)
    _refuse(location, "test and validation rows need a label", unlabelled)
    _check_labels(location, rows)
    _check_files(location, rows)


def _check_labels(location: str, rows: Sequence[Row]) -> None:
    known = {row.label for row in rows if row.part == "train"}
    for part in ("test", "validation"):
        strange: dict[str, list[Row]] = {}
        for row in rows:
            if row.part == part and row.label not in known:
                strange.setdefault(row.label, []).append(row)
        for label, found in strange.items():
            count = f"{len(found)} {part} row{'s' if len(found) > 1 else ''}"
            _refuse(location, f"label {label!r} of {count} never appears in the train rows", found)


def _check_files(location: str, rows: Sequence[Row]) -> None:
    """Of local files only: asking an object store about each would take longer than the first round."""
    root = parent(location)
    places = ((row, join(root, row.path)) for row in rows)
    absent = (row for row, place in places if not is_remote(place) and not Path(place).is_file())
    _refuse(location, f"no such file (relative paths start at {root})", absent, lambda row: row.path)


def _refuse(location: str, problem: str, rows: Iterable[Row], shown: Callable[[Row], str] | None = None) -> None:
    """Raises DataError if there is any such row."""
    found = list(rows)
    if found:
        names = [f"{row.number} {shown(row)!r}" if shown else f"{row.number}" for row in found[:5]]
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        raise DataError(f"{location}: {problem}: row {', '.join(names)}{more}")


def _csv_rows(location: str, content: bytes) -> Iterator[Row]:
    text = content.decode("utf-8-sig")  # spreadsheets begin a file with a byte-order mark
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header = [name.strip() for name in next(reader, [])]
    _check_columns(location, header)
    for fields in reader:
        if not fields:
            continue
        if len(fields) != len(header):
            found = f"row {reader.line_num} has {len(fields)} fields, the header {len(header)}"
            raise DataError(f"{location}: {found}. Quote a field that holds a comma.")
        yield _row(reader.line_num, dict(zip(header, fields, strict=True)))


def _parquet_rows(location: str, content: bytes) -> Iterator[Row]:
    from pyarrow.parquet import ParquetFile

    with ParquetFile(io.BytesIO(content)) as file:
        _check_columns(location, file.schema_arrow.names)
        table = file.read(columns=list(COLUMNS))
    for number, fields in enumerate(table.to_pylist(), start=1):
        yield _row(number, fields)


def _check_columns(location: str, names: Sequence[str]) -> None:
    absent = [name for name in COLUMNS if name not in names]
    if absent:
        raise DataError(f"{location}: missing column(s) {', '.join(absent)}; found {', '.join(names) or 'none'}")


def _row(number: int, fields: Mapping[str, object]) -> Row:
    return Row(number, *("" if fields[name] is None else str(fields[name]).strip() for name in COLUMNS))
