"""Tests of data/manifest.py: CSV and Parquet tables, local and in an object store, and each mistake in them."""

import uuid
from pathlib import Path

import fsspec
import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from openal_ray.data.catalogue import load
from openal_ray.data.dataset import Dataset
from openal_ray.errors import BadImages, DataError

HEADER = "id,path,label,split\n"
ROWS = (
    "a,1.png,dog,train\n"
    "b,more/2.png,,\n"  # unlabelled, and by default to train on
    "c,3.png,cat,val\n"
    "d,4.png,cat,Train\n"
    "e,5.png,dog,test\n"
    'f,"6,6.png",dog,validation\n'
)
PATHS = ["1.png", "more/2.png", "3.png", "4.png", "5.png", "6,6.png"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, path in enumerate(PATHS, start=1):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        Image.new("L", (4, 4), 10 * number).save(tmp_path / path)
    return tmp_path


def written(folder: Path, text: str) -> Path:
    path = folder / "list.csv"
    path.write_text(text, encoding="utf-8")
    return path


def loaded(manifest: Path | str) -> Dataset:
    return load(f"manifest:{manifest}", root=Path("unused"), image_size=4, channels=1)


def refusal(folder: Path, text: str) -> str:
    path = written(folder, text)
    with pytest.raises(DataError) as caught:
        loaded(path)
    message = str(caught.value)
    assert str(path) in message
    return message.replace(f"{path}: ", "")


def check(dataset: Dataset) -> None:
    assert dataset.classes == ("cat", "dog")
    assert dataset.labels.tolist() == [1, -2, 0, 0, 1]
    assert dataset.validation.tolist() == [2, 4]
    assert dataset.train.ids(np.arange(5)) == ["a", "b", "c", "d", "f"]
    assert dataset.train.load(np.arange(5))[:, 0, 0, 0].tolist() == [10, 20, 30, 40, 60]
    assert dataset.test.ids(np.arange(1)) == ["e"]
    assert dataset.test.load(np.arange(1))[:, 0, 0, 0].tolist() == [50]
    assert dataset.test_labels.tolist() == [1]


def test_csv(folder: Path) -> None:
    check(loaded(written(folder, HEADER + ROWS)))


def test_csv_of_a_spreadsheet(folder: Path) -> None:
    text = (HEADER + ROWS).replace("\n", "\r\n").replace("a,1.png,dog", "a, 1.png , dog ") + "\r\n"
    check(loaded(written(folder, f"\ufeff{text}")))


def test_more_columns_in_any_order(folder: Path) -> None:
    lines = [line.rsplit(",", 1) for line in (HEADER + ROWS).splitlines()]
    check(loaded(written(folder, "\n".join(f"{split},x,{rest}" for rest, split in lines))))


def test_parquet(folder: Path) -> None:
    columns = {
        "note": [1.5] * 6,
        "id": list("abcdef"),
        "path": PATHS,
        "label": ["dog", None, "cat", "cat", "dog", "dog"],
        "split": ["train", None, "val", "train", "test", "validation"],
    }
    parquet.write_table(pyarrow.table(columns), folder / "list.parquet")
    check(loaded(folder / "list.parquet"))


def test_numbers_in_parquet_are_text(folder: Path) -> None:
    columns = {"id": [7, 8], "path": PATHS[:2], "label": [0, 0], "split": ["train", "test"]}
    parquet.write_table(pyarrow.table(columns), folder / "list.parquet")
    dataset = loaded(folder / "list.parquet")
    assert dataset.classes == ("0",)
    assert dataset.train.ids(np.array([0])) == ["7"]


def test_in_an_object_store(folder: Path) -> None:
    root = f"memory://{uuid.uuid4()}"
    for path in PATHS:
        with fsspec.open(f"{root}/{path}", "wb") as file:
            file.write((folder / path).read_bytes())
    with fsspec.open(f"{root}/list.csv", "wb") as file:
        file.write((HEADER + ROWS).encode())
    check(loaded(f"{root}/list.csv"))
    # A local table may list remote pictures too, which are not looked for beforehand.
    local = written(folder, HEADER + f"a,{root}/1.png,dog,train\nb,{root}/none.png,dog,train\ne,5.png,dog,test\n")
    dataset = loaded(local)
    assert dataset.train.load(np.array([0]))[0, 0, 0, 0] == 10
    with pytest.raises(BadImages, match=f"{root}/none.png cannot be read"):
        dataset.train.load(np.arange(2))


def test_a_label_that_looks_like_a_missing_value_is_a_label(folder: Path) -> None:
    dataset = loaded(written(folder, HEADER + "a,1.png,NA,train\nb,3.png,null,train\ne,5.png,NA,test\n"))
    assert dataset.classes == ("NA", "null")


def test_default_size_and_statistics(folder: Path) -> None:
    dataset = load(f"manifest:{written(folder, HEADER + ROWS)}", root=folder)
    assert dataset.train.shape == (224, 224, 3)
    assert dataset.std == (0.229, 0.224, 0.225)


def test_no_such_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"manifest {tmp_path}/no.csv cannot be read: No such file or directory"):
        loaded(tmp_path / "no.csv")
    with pytest.raises(DataError, match=r"manifest:a.txt: expected a file that ends in .csv or .parquet"):
        loaded("a.txt")


def test_damaged_tables(folder: Path) -> None:
    (folder / "list.parquet").write_bytes(b"PAR1 cut off")
    with pytest.raises(DataError, match=f"manifest {folder}/list.parquet is damaged or no parquet file"):
        loaded(folder / "list.parquet")
    (folder / "list.csv").write_bytes((HEADER + "a,1.png,caf\xe9,train\n").encode("latin-1"))
    with pytest.raises(DataError, match=f"manifest {folder}/list.csv is damaged or no csv file in UTF-8"):
        loaded(folder / "list.csv")
    with pytest.raises(DataError, match="is damaged or no csv file"):
        loaded(written(folder, HEADER + 'a,"1.png,dog,train\n'))


def test_missing_columns(folder: Path) -> None:
    assert refusal(folder, "id,path,class\n") == "missing column(s) label, split; found id, path, class"
    assert refusal(folder, "") == "missing column(s) id, path, label, split; found none"


def test_a_row_of_another_length(folder: Path) -> None:
    message = refusal(folder, HEADER + "a,1.png,dog,train\nb,6,6.png,dog,train\n")
    assert message == "row 3 has 5 fields, the header 4. Quote a field that holds a comma."


def test_empty_ids_and_paths(folder: Path) -> None:
    message = refusal(folder, HEADER + "a,1.png,dog,train\n,3.png,dog,train\ne,,dog,test\n")
    assert message == "id and path must not be empty: row 3, 4"


def test_duplicate_ids(folder: Path) -> None:
    message = refusal(folder, HEADER + "a,1.png,dog,train\nb,3.png,dog,train\na,4.png,dog,test\n")
    assert message == "every id must appear once: row 2 'a', 4 'a'"


def test_an_unknown_split(folder: Path) -> None:
    message = refusal(folder, HEADER + "a,1.png,dog,train\nb,3.png,dog,tset\n")
    expected = "row 3: unknown split 'tset'. Did you mean 'test'? Valid: test, train, val, validation."
    assert message == expected


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_without_rows(split: str, folder: Path) -> None:
    other = "test" if split == "train" else "train"
    message = refusal(folder, HEADER + f"a,1.png,dog,{other}\n")
    assert message == f"no row is of the split {split}; the column split says which are"
    assert refusal(folder, HEADER).startswith("no row is of the split train")


def test_test_rows_without_a_label(folder: Path) -> None:
    message = refusal(folder, HEADER + "a,1.png,dog,train\nb,3.png,,test\nc,4.png,,val\n")
    assert message == "test and validation rows need a label: row 3, 4"


def test_labels_that_are_only_in_the_test(folder: Path) -> None:
    rows = "a,1.png,dog,train\nb,3.png,cow,test\nc,4.png,cow,test\nd,5.png,dog,test\n"
    message = refusal(folder, HEADER + rows)
    assert message == "label 'cow' of 2 test rows never appears in the train rows: row 3, 4"
    message = refusal(folder, HEADER + rows.replace("cow", "dog") + 'f,"6,6.png",hen,val\n')
    assert message == "label 'hen' of 1 validation row never appears in the train rows: row 6"


def test_absent_files(folder: Path) -> None:
    rows = "".join(f"x{number},none{number}.png,dog,train\n" for number in range(7))
    message = refusal(folder, HEADER + "a,1.png,dog,train\ne,5.png,dog,test\n" + rows)
    assert message.startswith(f"no such file (relative paths start at {folder}): row 4 'none0.png', 5 'none1.png', 6 ")
    assert message.endswith("8 'none4.png' and 2 more")
