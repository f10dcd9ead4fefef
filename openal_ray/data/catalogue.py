"""The data sets by name: facts about each, and `load`."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_type_hints

from openal_ray.data.dataset import Dataset
from openal_ray.data.embedded import digits
from openal_ray.data.idx import fashion_mnist, mnist
from openal_ray.data.image_folders import folder, imagenet, tiny_imagenet
from openal_ray.data.manifest import manifest
from openal_ray.data.request import IMAGENET_MEAN, IMAGENET_STD, Request, default_statistics
from openal_ray.data.torchvision_sets import cifar10, cifar10_lt, cifar100, cifar100_lt, svhn
from openal_ray.errors import ConfigError, unknown_name


@dataclass(frozen=True)
class Source:
    """Facts about a data set, or about a kind of own data.

    name       as a configuration writes it; upper case, "-" and "_" make no difference
    n_classes  None where it depends on the files
    size       height and width of its pictures, or what they are brought to unless the configuration says otherwise
    mean, std  per channel, in units of a picture scaled to 0..1
    origin     where it comes from and how to get it
    licence    of the data, as far as it is stated
    load       makes the data set; its keyword parameters are what `data.params` may hold
    target     what follows "name:" in a configuration, or "" where nothing does
    aliases    other spellings
    """

    name: str
    n_classes: int | None
    size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    origin: str
    licence: str
    load: Callable[..., Dataset]
    target: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def parameters(self) -> dict[str, object]:
        """Parameter name → default."""
        found = inspect.signature(self.load).parameters.values()
        return {each.name: each.default for each in found if each.kind is inspect.Parameter.KEYWORD_ONLY}

    def facts(self) -> dict[str, object]:
        """Everything that `openal-ray datasets` prints, as plain data."""
        return {
            "name": f"{self.name}:{self.target}" if self.target else self.name,
            "aliases": list(self.aliases),
            "n_classes": self.n_classes,
            "size": self.size,
            "channels": self.channels,
            "mean": list(self.mean),
            "std": list(self.std),
            "parameters": self.parameters,
            "licence": self.licence,
            "origin": self.origin,
            "description": inspect.getdoc(self.load) or "",
        }


_FETCHED = "torchvision downloads it where the network allows; elsewhere copy the files to that place."
_CIFAR10_MEAN, _CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
_CIFAR100_MEAN, _CIFAR100_STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
_CIFAR_ORIGIN = f"Krizhevsky 2009, www.cs.toronto.edu/~kriz/cifar.html, python version. {_FETCHED}"
_RESEARCH = "non-commercial research"
_OWN = "yours"

_SOURCES = (
    Source(
        name="digits",
        n_classes=10,
        size=8,
        channels=1,
        mean=(0.3053,),
        std=(0.3760,),
        origin="UCI optical recognition of handwritten digits, inside scikit-learn: nothing to download.",
        licence="CC BY 4.0",
        load=digits,
    ),
    Source(
        name="mnist",
        n_classes=10,
        size=28,
        channels=1,
        mean=(0.1307,),
        std=(0.3081,),
        origin=f"LeCun et al. 1998, four idx files. {_FETCHED}",
        licence="CC BY-SA 3.0",
        load=mnist,
    ),
    Source(
        name="fashion_mnist",
        n_classes=10,
        size=28,
        channels=1,
        mean=(0.2860,),
        std=(0.3530,),
        origin=f"Xiao et al. 2017, four idx files; also Debian's package dataset-fashion-mnist. {_FETCHED}",
        licence="MIT",
        load=fashion_mnist,
    ),
    Source("cifar10", 10, 32, 3, _CIFAR10_MEAN, _CIFAR10_STD, _CIFAR_ORIGIN, "not stated", cifar10),
    Source("cifar10_lt", 10, 32, 3, _CIFAR10_MEAN, _CIFAR10_STD, _CIFAR_ORIGIN, "not stated", cifar10_lt),
    Source("cifar100", 100, 32, 3, _CIFAR100_MEAN, _CIFAR100_STD, _CIFAR_ORIGIN, "not stated", cifar100),
    Source("cifar100_lt", 100, 32, 3, _CIFAR100_MEAN, _CIFAR100_STD, _CIFAR_ORIGIN, "not stated", cifar100_lt),
    Source(
        name="svhn",
        n_classes=10,
        size=32,
        channels=3,
        mean=(0.4377, 0.4438, 0.4728),
        std=(0.1980, 0.2010, 0.1970),
        origin=f"Netzer et al. 2011, ufldl.stanford.edu/housenumbers, format 2. {_FETCHED}",
        licence=_RESEARCH,
        load=svhn,
    ),
    Source(
        name="tiny_imagenet",
        n_classes=200,
        size=64,
        channels=3,
        mean=(0.4802, 0.4481, 0.3975),
        std=(0.2764, 0.2689, 0.2816),
        origin="Unpack tiny-imagenet-200.zip (cs231n.stanford.edu/tiny-imagenet-200.zip) there, and move nothing.",
        licence=_RESEARCH,
        load=tiny_imagenet,
        aliases=("Tiny_ImageNet_200",),
    ),
    Source(
        name="imagenet",
        n_classes=1000,
        size=224,
        channels=3,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        origin="Register at image-net.org for ILSVRC 2012, then unpack into train/<wnid>/ and val/<wnid>/.",
        licence=_RESEARCH,
        load=imagenet,
        aliases=("ImageNet1K",),
    ),
    Source(
        name="folder",
        n_classes=None,
        size=224,
        channels=3,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        origin="Own pictures: PATH/train/<class>/ and PATH/test/<class>/ (or val), or just PATH/<class>/.",
        licence=_OWN,
        load=folder,
        target="PATH",
    ),
    Source(
        name="manifest",
        n_classes=None,
        size=224,
        channels=3,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        origin="Own pictures, local or in an object store, in a table (CSV or Parquet): id, path, label, split.",
        licence=_OWN,
        load=manifest,
        target="FILE.csv",
    ),
)

DATASETS: dict[str, Source] = {source.name: source for source in _SOURCES}


def load(
    name: str,
    *,
    root: Path,
    image_size: int | None = None,
    channels: int | None = None,
    convert: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    download: bool = True,
    params: Mapping[str, object] = {},
) -> Dataset:
    """The data set of that name, or `folder:PATH`, or `manifest:FILE`.

    root        folder that holds data sets, and where downloads go
    image_size  height and width in pixels to bring the pictures to; without it the source's own
    channels    1 or 3; without it the source's own
    convert     whether pictures of another mode are converted, or refused
    mean, std   per channel, in units of a picture scaled to 0..1; without them the source's own
    download    whether missing files may be fetched
    params      of this data set; see `Source.parameters`
    raises      ConfigError for a wrong name or value, DataError for missing or damaged files
    """
    source, target = find(name)
    _check_target(source, target)
    _check_params(source, params)
    if image_size is not None and image_size < 1:
        raise ConfigError(f"data.image_size must be >= 1, got {image_size}")
    if channels not in (None, 1, 3):
        raise ConfigError(f"data.channels must be 1 or 3, got {channels}")
    channels = channels or source.channels
    usual_mean, usual_std = _statistics(source, channels)
    request = Request(
        name=f"{source.name}:{target}" if target else source.name,
        target=target,
        origin=source.origin,
        root=Path(root).expanduser(),
        download=download,
        size=image_size or source.size,
        channels=channels,
        convert=convert,
        mean=tuple(usual_mean if mean is None else mean),
        std=tuple(usual_std if std is None else std),
    )
    return source.load(request, **params)


def find(name: str) -> tuple[Source, str]:
    """The source that a configuration's `data.name` means, and what follows its colon, or ""; raises ConfigError."""
    kind, _, target = name.partition(":")
    spellings = {_folded(each): source for source in _SOURCES for each in (source.name, *source.aliases)}
    source = spellings.get(_folded(kind))
    if source is None:
        valid = [f"{each.name}:{each.target}" if each.target else each.name for each in _SOURCES]
        raise ConfigError(f"data.name: {unknown_name('data set', kind, valid)}")
    return source, target


def _check_target(source: Source, target: str) -> None:
    if source.target and not target:
        raise ConfigError(f"data.name: {source.name} needs to know which: write {source.name}:{source.target}")
    if target and not source.target:
        raise ConfigError(f"data.name: nothing may follow {source.name}, got {source.name}:{target}")


def _folded(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def _statistics(source: Source, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if channels == source.channels:
        return source.mean, source.std
    if source.channels == 1:  # grey pictures made colour have three equal channels
        return source.mean * channels, source.std * channels
    return default_statistics(channels)


def _check_params(source: Source, params: Mapping[str, object]) -> None:
    valid = source.parameters
    types = get_type_hints(source.load)
    for key, value in params.items():
        if key not in valid:
            raise ConfigError(f"data.params.{key}: {unknown_name(f'parameter of {source.name}', key, valid)}")
        wanted = types[key]
        # An int is welcome where a float is wanted; a bool, which Python counts as an int, is not.
        if isinstance(value, bool) or not isinstance(value, (int, float) if wanted is float else wanted):
            raise ConfigError(f"data.params.{key} must be of type {wanted.__name__}, got {value!r}")
