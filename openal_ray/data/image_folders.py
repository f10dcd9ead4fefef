"""Pictures in folders whose names are their classes: ImageNet, Tiny ImageNet, and anybody's own."""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from openal_ray.data.dataset import Dataset
from openal_ray.data.images import Subset
from openal_ray.data.location import is_remote
from openal_ray.data.picture import SUFFIXES
from openal_ray.data.request import Request
from openal_ray.data.stratified import held_out
from openal_ray.errors import ConfigError, DataError

# Class folder → its pictures' paths, seen from the data set's folder; the paths are the sample ids too.
Listing = Mapping[str, list[str]]

_SPLIT_SEED = 0  # fixed: a folder's test images must not change from run to run


def folder(request: Request, *, test_share: float = 0.2) -> Dataset:
    """PATH/train/<class> with PATH/test or PATH/val (with both, val is the validation), or PATH/<class> alone.

    test_share  only where PATH has no such splits: the share of the pictures set apart for the test, in 0..1
    """
    if is_remote(request.target):
        raise DataError(f"{request.name}: a folder must be local; list remote files in a manifest instead")
    root = Path(request.target).expanduser()
    if not root.is_dir():
        raise DataError(f"{request.name}: there is no folder {root.absolute()}")
    if not _subfolders(root / "train"):  # a class may be called "train" as well; it then holds pictures, not folders
        return _without_splits(request, root, test_share)
    splits = [name for name in ("test", "val") if (root / name).is_dir()]
    if not splits:
        raise DataError(f"{root} has a folder train but neither test nor val: add one, with a folder for each class")
    validation = _listing(root, splits[1]) if len(splits) == 2 else None
    return _with_splits(request, root, _listing(root, "train"), _listing(root, splits[0]), validation)


def imagenet(request: Request) -> Dataset:
    """ImageNet-1k: train/<wnid> and val/<wnid>; names from words.txt or LOC_synset_mapping.txt where there is one."""
    root = _present(request, ["imagenet", "imagenet1k"], ["train", "val"])
    train, test = _listing(root, "train"), _listing(root, "val")
    return _with_splits(request, root, train, test, named=lambda wnids: class_names(wnids, root))


def tiny_imagenet(request: Request) -> Dataset:
    """Tiny ImageNet as distributed: train/<wnid>/images, and val/images listed in val/val_annotations.txt."""
    root = _present(request, ["tiny-imagenet-200"], ["wnids.txt", "words.txt", "train", "val"])
    found = _listing(root, "train")
    wnids = _text(root / "wnids.txt").split()
    absent = [root / "train" / wnid for wnid in wnids if wnid not in found]
    if absent:
        raise request.missing(absent)
    annotations = root / "val" / "val_annotations.txt"
    # Without annotations, the pictures were moved to val/<wnid>, as many other programs want them.
    test = _annotated(annotations) if annotations.is_file() else _listing(root, "val")
    train = {wnid: found[wnid] for wnid in wnids}
    return _with_splits(request, root, train, test, named=lambda wnids: class_names(wnids, root))


def class_names(wnids: Sequence[str], root: Path) -> list[str]:
    """The first name that a file in `root` gives each WordNet id, with the id behind it where two share a name.

    An id without a name, or all of them where there is no file, is its own name.
    """
    files = [path for path in (root / "words.txt", root / "LOC_synset_mapping.txt") if path.is_file()]
    lines = [line.split(maxsplit=1) for line in _text(files[0]).splitlines()] if files else []
    known = {line[0]: line[1].split(",")[0].strip() for line in lines if len(line) == 2}
    names = [known.get(wnid, wnid) for wnid in wnids]
    times = Counter(names)
    return [name if times[name] == 1 else f"{name} ({wnid})" for name, wnid in zip(names, wnids, strict=True)]


def _with_splits(
    request: Request,
    root: Path,
    train: Listing,
    test: Listing,
    validation: Listing | None = None,
    named: Callable[[Sequence[str]], Sequence[str]] = list,
) -> Dataset:
    """Validation pictures follow the others of the training split."""
    validation = validation or {}
    folders = _classes(root, train)
    strange = sorted((set(test) | set(validation)) - set(train))
    if strange:
        raise DataError(f"{root}: classes of the test or validation split that train lacks: {', '.join(strange)}")
    train_paths, train_labels = _flat(train, folders)
    more_paths, more_labels = _flat(validation, folders)
    paths, labels = train_paths + more_paths, np.concatenate([train_labels, more_labels])
    test_paths, test_labels = _flat(test, folders)
    return request.dataset(
        named(folders),
        (request.files(str(root), paths, paths), labels),
        (request.files(str(root), test_paths, test_paths), test_labels),
        validation=np.arange(len(train_paths), len(paths)),
    )


def _without_splits(request: Request, root: Path, test_share: float) -> Dataset:
    if not 0 < test_share < 1:
        raise ConfigError(f"data.params.test_share must be between 0 and 1, got {test_share}")
    listing = _listing(root, "")
    folders = _classes(root, listing)
    paths, labels = _flat(listing, folders)
    images = request.files(str(root), paths, paths)
    test = held_out(labels, round(test_share * len(labels)), _SPLIT_SEED)
    train = np.setdiff1d(np.arange(len(labels)), test)
    return request.dataset(folders, (Subset(images, train), labels[train]), (Subset(images, test), labels[test]))


def _present(request: Request, names: Sequence[str], needed: Sequence[str]) -> Path:
    """The first folder of these names under the root that holds all that is needed."""
    folders = [request.root / name for name in names]
    for candidate in folders:
        if all((candidate / name).exists() for name in needed):
            return candidate
    raise request.missing([candidate / name for candidate in folders for name in needed])


def _classes(root: Path, train: Listing) -> list[str]:
    folders = sorted(train)
    empty = [name for name in folders if not train[name]]
    if empty or not folders:
        which = f"class folder(s) without a picture: {', '.join(empty)}" if empty else "no class folder"
        raise DataError(f"{root}: {which}. A picture's name ends in {' '.join(SUFFIXES)}.")
    return folders


def _listing(root: Path, split: str) -> Listing:
    return {name: _pictures(root, root / split / name) for name in _subfolders(root / split)}


def _subfolders(path: Path) -> list[str]:
    if not path.is_dir():
        return []
    return [entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith(".")]


def _pictures(root: Path, path: Path) -> list[str]:
    """The pictures anywhere below `path`, seen from `root`, sorted."""
    found = []
    for parent, _, names in os.walk(path, followlinks=True):
        seen = Path(parent).relative_to(root).as_posix()
        # Hidden files with a picture's name are what macOS leaves behind, not pictures.
        found += [f"{seen}/{name}" for name in names if name.lower().endswith(SUFFIXES) and name[0] != "."]
    return sorted(found)


def _annotated(annotations: Path) -> Listing:
    """The pictures beside `val_annotations.txt`, by the class in its second column."""
    listing: dict[str, list[str]] = {}
    for number, line in enumerate(_text(annotations).splitlines(), start=1):
        fields = line.split("\t")
        if len(fields) < 2:
            raise DataError(f"{annotations}, line {number}: expected a file name, a tab and a WordNet id, got {line!r}")
        listing.setdefault(fields[1], []).append(f"val/images/{fields[0]}")
    return listing


def _flat(listing: Listing, folders: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """All paths, class by class, and their labels [n]."""
    paths = [path for name in folders for path in listing.get(name, [])]
    sizes = [len(listing.get(name, [])) for name in folders]
    return paths, np.repeat(np.arange(len(folders)), sizes)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
