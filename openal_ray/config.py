"""The configuration of one experiment: every key with its default, checked before any work starts.

A file is YAML; an override is `key.path=value` with a YAML value. Unknown keys are refused by path with a near match.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from openal_ray import config_file
from openal_ray.config_problems import sentence
from openal_ray.config_values import (
    LocalPath,
    Name,
    Out,
    Reused,
    Span,
    absolute,
    absolute_if_file,
    in_words,
    is_path,
    least,
    most,
)
from openal_ray.errors import ConfigError
from openal_ray.secrecy import find_secret
from openal_ray.storage.url import Place

Precision = Literal["float32", "bfloat16", "float16"]
Transform = str | Annotated[dict[str, dict[str, Any]], Field(min_length=1, max_length=1)]
"""A bare name, or one name with its arguments."""


class Section(BaseModel):
    """A group of keys; unknown ones are refused."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True,
        ser_json_inf_nan="constants",  # an infinite parameter stays infinite when dumped, instead of null
    )  # fmt: skip


Whole = TypeVar("Whole", bound=Section)
ENCODERS = ("encoder", "encoder_weights", "semantic", "distinctive")  # a strategy's keys that may hold a path


class Strategy(Section):
    """Which images to ask for. Every further key is a parameter of the strategy, checked against its signature."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: Name

    @model_validator(mode="before")
    @classmethod
    def _absolute_encoder(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        paths = {key: values[key] for key in ENCODERS if isinstance(values.get(key), str)}
        return values | {key: absolute(value) for key, value in paths.items() if is_path(value)}

    @property
    def parameters(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Data(Section):
    """The data set and how its pictures become arrays."""

    name: Name = Field("digits", description="a name of `openal-ray datasets`, folder:PATH or manifest:FILE")
    root: LocalPath = Field(
        Path("~/.cache/openal_ray"), validate_default=True, description="where data sets lie or are downloaded to"
    )
    download: bool = Field(True, description="fetch a missing data set where the network allows")
    params: dict[str, Any] = Field({}, description="parameters of the data set itself, such as imbalance and factor")
    image_size: int | None = Field(None, ge=4, description="pixels a side; the data set's own if not given")
    channels: Literal[1, 3] | None = Field(None, description="colour channels; the data set's own if not given")
    convert: bool = Field(True, description="convert grey, palette or CMYK pictures; false refuses them as bad")
    mean: tuple[float, ...] | None = Field(None, description="per channel, of pixels in 0 … 1")
    std: tuple[float, ...] | None = Field(None, description="per channel, of pixels in 0 … 1")
    bad_images: Literal["refuse", "skip"] = Field("refuse", description="what a picture that cannot be decoded does")
    validation: float = Field(0.0, ge=0, lt=1, description="share of the training images held out for validation")
    cache_gb: float = Field(4.0, ge=0, description="decoded pictures a shard or trainer may keep in memory")


class Model(Section):
    """The classifier's network."""

    name: Name = Field("small_cnn", description="small_cnn, any timm name, or path.py:function of your own")
    pretrained: bool = Field(False, description="timm's published weights (needs the network once)")
    checkpoint: LocalPath | Literal["packaged"] | None = Field(
        None, description="start weights from a file (.pt, .pth, .safetensors), or packaged"
    )
    params: dict[str, Any] = Field({}, description="further arguments of the network, such as drop_rate")


class Budget(Section):
    """How many labels are bought, and when."""

    start: Literal["stratified", "random", "given", "none"] | LocalPath = Field(
        "stratified", description="the start set's rule; given: rows labelled already; or a file of dataset indices"
    )
    n_start: int | float = Field(
        100, ge=0, description="images in the start set; below 1, a share of the images of known classes"
    )
    n_query: int = Field(100, ge=1, description="labels bought each round")
    n_end: int = Field(1000, ge=1, description="labels at the end; the last round is cut to reach it exactly")
    n_subset: int | float = Field(0, ge=0, description="candidates drawn first: a count, a share below 1, 0 for all")


class KnownDraw(Section):
    """How known classes are drawn where open_set.known says only how many."""

    rule: str = Field("openal", description="openal, lfosa, eoal, mqnet or ccal: as those publications drew them")
    seed: int = Field(0, ge=0, description="of openal")
    trial: int = Field(0, ge=0, description="of mqnet")


class OpenSet(Section):
    """Images of no known class in the pool: which classes are known, and how many of the other images there are."""

    known: int | float | tuple[int | str, ...] | None = Field(
        None, description="known classes: how many, which share, or which ones (numbers or names)"
    )
    draw: KnownDraw = KnownDraw()
    unknown: tuple[str, ...] = Field((), description="labels that mean: none of the classes, such as none_of_these")
    noise_ratio: float | None = Field(
        None, ge=0, lt=1, description="share of other images in the pool; not given: all there are (mismatch protocols)"
    )
    share_of: Literal["pool", "all"] = Field(
        "pool", description="what noise_ratio is a share of: the pool, or all images of the data set (ALScope)"
    )
    clean_start: int = Field(0, ge=0, description="start-set images that noise_ratio does not count (CCAL)")
    seed: int = Field(0, ge=0, description="draws which other images stay; the same for all runs compared")
    other: Name | None = Field(None, description="another data set whose images join as out-of-distribution")
    return_rejected: bool = Field(
        False, description="rejected images stay in the pool and may be paid for again, as in LfOSA's published code"
    )


class Named(Section):
    """A thing chosen by name, with its own parameters."""

    name: str
    params: dict[str, Any] = {}


class Optimizer(Section):
    name: str = Field("adamw", description="any optimiser of torch.optim, or lars, by name")
    lr: float = Field(1e-3, gt=0)
    params: dict[str, Any] = Field({}, description="its further arguments, such as weight_decay or momentum")


class Train(Section):
    """How a classifier is trained in one round."""

    SECTION: ClassVar[str] = "train"
    LEAST_IMAGES: ClassVar[int] = 1  # of a micro-batch

    epochs: int = Field(50, ge=1)
    steps_per_epoch: int | None = Field(None, ge=1, description="not given: an epoch is one pass over the labels")
    batch_size: int = Field(64, ge=1, description="images a step over all workers together")
    optimizer: Optimizer = Optimizer()
    scheduler: Named = Field(Named(name="one_cycle"), description="constant, cosine, multi_step, step or one_cycle")
    warmup_epochs: float = Field(0, ge=0, description="linear ramp of the learning rate before the scheduler")
    label_smoothing: float = Field(0, ge=0, lt=1)
    class_weights: Literal["none", "balanced"] = "none"
    augment: tuple[Transform, ...] = Field((), description="torchvision.transforms.v2 by name")
    accumulate: int = Field(1, ge=1, description="batches whose gradients are added up for one step")
    precision: Precision = "float32"
    weights: Literal["last", "best", "best_accuracy"] = Field(
        "last", description="of the last epoch, or of that with the best loss or accuracy on validation"
    )
    patience: int | None = Field(None, ge=1, description="stop after so many epochs without a better validation loss")
    continue_: bool = Field(False, alias="continue", description="start from the last round's weights, not afresh")
    workers: Span = Field(
        1, description="data-parallel training processes; [least, most]: as many as the cluster has room for"
    )
    # Filled in when first read: a run that is resumed with other workers keeps its micro-batches.
    micro_batches: int = Field(
        default_factory=lambda before: most(before.get("workers", 1)), ge=1,
        description="parts of each batch, shared by the workers, on whose number the weights do not depend; not given: "
        "as many as the most workers",
    )  # fmt: skip
    at_once: int = Field(1, ge=1, description="networks trained at the same time, where a strategy needs several")
    mode: Literal["auto", "local", "session", "per_round"] = Field("auto", description="how Ray Train is used")
    retries: int = Field(2, ge=0, description="restarts after a lost training worker")
    cpus_per_worker: float = Field(
        1, gt=0, description="also its threads, on which the last bits of the weights depend"
    )
    gpus_per_worker: float = Field(0, ge=0)

    @model_validator(mode="after")
    def _shared_out(self) -> "Train":
        key, workers, parts = self.SECTION, in_words(self.workers), self.micro_batches
        if parts < self.most_workers:
            raise ValueError(
                f"{key}.workers: {workers} cannot share {parts} micro-batches; lower it, or set {key}.micro_batches, "
                "on which the weights depend"
            )
        if parts * self.LEAST_IMAGES > self.batch_size:
            raise ValueError(
                f"{key}.batch_size={self.batch_size}: too few images for {parts} micro-batches (as many as the most "
                f"workers, unless {key}.micro_batches says otherwise)"
            )
        if self.elastic and self.mode == "session":
            raise ValueError(
                f"{key}.mode=session keeps its workers for the whole run; where their number follows the cluster, "
                "leave it out, or set per_round"
            )
        if self.elastic and (self.cpus_per_worker % 1 or self.gpus_per_worker % 1):
            raise ValueError(
                f"{key}.workers: Ray Train counts whole CPUs and GPUs where it chooses {workers} workers; set whole "
                f"{key}.cpus_per_worker and {key}.gpus_per_worker, or one number of workers"
            )
        return self

    @property
    def elastic(self) -> bool:
        """Whether the number of workers follows the cluster."""
        return self.fewest_workers < self.most_workers

    @property
    def fewest_workers(self) -> int:
        """How many workers there are at least; all of them where their number is fixed."""
        return least(self.workers)

    @property
    def most_workers(self) -> int:
        return most(self.workers)


WHERE_IT_TRAINS = ("workers", "at_once", "mode", "retries", "gpus_per_worker")
"""Keys of `train` on which the weights do not depend, but for how another processor rounds."""


class Tune(Section):
    """The search for values of `train` on each round's labelled images; trials are compared on the validation split."""

    preset: Literal["torchal"] | None = Field(None, description="torchal: its 50 random trials, anew in every round")
    trials: int = Field(12, ge=1, description="trainings of a search, each with other values; the best is the round's")
    at_once: int = Field(
        4, ge=1, description="trials proposed together, and trained at once where there is room; tpe learns in between"
    )
    sampler: Literal["tpe", "random"] = Field("tpe", description="Optuna's, seeded by the run's seed and the round")
    objective: Literal["accuracy", "loss"] = Field("accuracy", description="on validation, of the weights that stay")
    warm_start: bool = Field(True, description="a search begins with the values chosen last")
    growth: float = Field(
        1.0, ge=1, description="search again once there are so many times the labels of the last search; 1: every round"
    )
    space: dict[str, Any] = Field(
        {},
        description="train.KEY: {loguniform, uniform or int: [low, high]} or {choice: [...]}; TorchAL's if not given",
    )
    reuse_from: Reused | None = Field(
        None, description="a finished run, or its URL, whose choices are taken round by round instead of searching"
    )

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, values: Any) -> Any:
        torchal = {"trials": 50, "at_once": 10, "sampler": "random", "warm_start": False}
        return torchal | values if isinstance(values, dict) and values.get("preset") == "torchal" else values


class Views(Section):
    """How a picture is changed before self-supervised learning sees it; every picture has draws of its own."""

    flip: float = Field(0.5, ge=0, le=1, description="share of the views mirrored, left and right")
    jitter: float = Field(0.8, ge=0, le=1, description="share whose brightness, contrast, saturation and hue change")
    grey: float = Field(0.2, ge=0, le=1, description="share without colour")
    smallest_crop: float = Field(
        0.08, gt=0, le=1, description="least share of the area that a view shows; 1: all of it"
    )


class PretrainTrain(Train):
    """How an encoder is trained: the keys of `train`, with other defaults, and without those that ask for labels."""

    SECTION: ClassVar[str] = "pretrain.train"
    LEAST_IMAGES: ClassVar[int] = 2  # so that there is another image to tell one from

    epochs: int = Field(100, ge=1)
    batch_size: int = Field(
        256, ge=2, description="images a step over all workers together; each is seen twice or more"
    )
    scheduler: Named = Field(Named(name="cosine"), description="constant, cosine, multi_step, step or one_cycle")
    warmup_epochs: float = Field(5, ge=0, description="linear ramp of the learning rate before the scheduler")

    @model_validator(mode="after")
    def _without_labels(self) -> "PretrainTrain":
        plain = Train()
        for key in ("label_smoothing", "class_weights", "weights", "patience", "continue_"):
            if getattr(self, key) != getattr(plain, key):
                raise ValueError(f"pretrain.train.{key.rstrip('_')}: there are no labels in pre-training; leave it out")
        return self


class Pretrain(Section):
    """The encoder that `openal-ray pretrain` trains on the pool without labels; runs do not look at it."""

    method: Literal["simclr", "csi"] = "simclr"
    shift: Literal["rotation", "cutperm"] = Field("rotation", description="csi: what makes an image another one")
    shift_weight: float = Field(1.0, ge=0, description="csi: of telling the shift, beside telling images apart")
    projection: int = Field(128, ge=1, description="width of the head whose output is compared")
    temperature: float = Field(0.5, gt=0)
    views: Views = Views()
    train: PretrainTrain = PretrainTrain()


class Read(Section):
    """How signals of many images are read from a network."""

    batch_size: int = Field(256, ge=1, description="images a forward pass")
    threads: int = Field(1, ge=1, description="of each shard on Ray; the last bits of signals depend on them")
    precision: Precision = "float32"
    compile: bool = Field(False, description="torch.compile, worth its start-up on GPUs and large pools")
    keep: Literal["memory", "disk"] = Field("memory", description="where a shard holds the signals it has read")
    half: bool = Field(False, description="hold features, maps and stages in float16: half the memory, rounded signals")
    fold_batchnorm: bool = Field(True, description="merge BatchNorm into the convolutions before it")
    cache: LocalPath | None = Field(
        None, description="a folder that keeps signals of frozen networks for other runs; a sweep's own in a sweep"
    )


class Clip(Section):
    """CLIP and CLIPN: what the images' likeness to texts on the classes is read from."""

    model: str = Field("ViT-B-16", description="a model of open_clip")
    pretrained: Annotated[str, AfterValidator(absolute_if_file)] = Field(
        "laion2b_s34b_b88k", description="its weights: a tag of open_clip, fetched once, or a file of them"
    )
    checkpoint: LocalPath | None = Field(
        None, description="a checkpoint of CLIPN, for the texts that say no; one with all towers replaces the model too"
    )
    negated: bool = Field(
        False, description="say no by negated sentences: for CLIPN's hand-crafted kind; experimental without checkpoint"
    )
    templates: LocalPath | None = Field(None, description="a file of sentences, one a line, with {} for the class")
    negated_templates: LocalPath | None = Field(None, description="likewise, of sentences that say no")
    class_names: LocalPath | None = Field(None, description="a YAML file from class names to the words for them")
    cache: LocalPath = Field(
        Path("~/.cache/openal_ray/clip"), validate_default=True, description="where embedded texts are kept"
    )


class Cluster(Section):
    """Where the work runs."""

    use: Literal["ray", "local"] = Field("ray", description="local: everything in this process, without Ray")
    address: str | None = Field(None, description="a running Ray cluster; not given: RAY_ADDRESS, else start one here")
    cpus: int | None = Field(None, ge=1, description="CPUs of a Ray started here; all of them if not given")
    cpus_per_shard: float | None = Field(
        None, gt=0, description="reserved for each, whose threads are read.threads; not given: an equal part, up to 1"
    )
    gpus_per_shard: float = Field(0, ge=0)
    decoders: int = Field(
        0, ge=0, description="tasks of a CPU each, on any node, that decode for the shards; 0: shards decode themselves"
    )
    wait_seconds: float = Field(120, ge=0, description="how long to wait for an autoscaler before refusing")


class Tracking(Section):
    wandb: bool = False
    project: str = "openal_ray"
    entity: str | None = None


class Config(Section):
    """One experiment."""

    strategy: Strategy | None = Field(None, description="not given: train once on all labels (supervised reference)")
    seed: int = Field(0, ge=0)
    out: Out | None = Field(
        None, description="the run folder, or its URL (s3://…, gs://…); runs/DATA-STRATEGY-SEED if not given"
    )
    data: Data = Data()
    open_set: OpenSet | None = Field(None, description="not given: every image is of a known class")
    model: Model = Model()
    budget: Budget = Budget()
    train: Train = Train()
    tune: Tune | None = Field(None, description="not given: every round trains as `train` says")
    pretrain: Pretrain = Pretrain()
    read: Read = Read()
    clip: Clip = Clip()
    shards: Span = Field(
        2, description="actors that share the pool; [least, most]: as many as the cluster has room for"
    )
    cluster: Cluster = Cluster()
    tracking: Tracking = Tracking()
    checkpoints: Literal["last", "all"] = Field("last", description="which rounds' weights stay on disk")

    @model_validator(mode="before")
    @classmethod
    def _bare_strategy_name(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("strategy"), str):
            return {**values, "strategy": {"name": values["strategy"]}}
        return values

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        budget = self.budget
        if self.strategy and budget.start in ("stratified", "random"):
            if not budget.n_start:
                raise ValueError("budget.n_start must be above 0, or set budget.start=none to begin without labels")
            if budget.n_start > 1 and not float(budget.n_start).is_integer():
                raise ValueError(f"budget.n_start must be a share below 1 or a whole number, got {budget.n_start}")
            if budget.n_end < budget.n_start:
                raise ValueError(f"budget.n_end ({budget.n_end}) must not be below budget.n_start ({budget.n_start})")
        if 0 < budget.n_subset < 1 or float(budget.n_subset).is_integer():
            return self
        raise ValueError(f"budget.n_subset must be a share below 1 or a whole number, got {budget.n_subset}")

    @property
    def fewest_shards(self) -> int:
        """How many shards there are at least; all of them where their number is fixed."""
        return least(self.shards)

    @property
    def most_shards(self) -> int:
        return most(self.shards)

    @property
    def folder(self) -> Place:
        """The run folder."""
        return self.out or Path("runs") / file_name(f"{last_part(self.data.name)}-{self.label}")

    @property
    def label(self) -> str:
        """Strategy, parameters and seed, as the name of a folder."""
        if self.strategy is None:
            return f"supervised-{self.seed}"
        parameters = [f"{name}={last_part(str(value))}" for name, value in self.strategy.parameters.items()]
        return file_name("-".join([last_part(self.strategy.name), *parameters, str(self.seed)]))


def last_part(name: str) -> str:
    """What follows the folders in a path, folder:PATH, manifest:FILE and path.py:function; other names as they are."""
    return name.rpartition("/")[2]


def file_name(text: str) -> str:
    """`text` with a dash for whatever does not belong into the name of a file."""
    return re.sub(r"[^\w.=-]+", "-", text).strip("-")


def parse(values: Mapping[str, Any]) -> Config:
    """A checked configuration from nested mappings; raises ConfigError that names every wrong key."""
    return parse_as(Config, values)


def parse_as(section: type[Whole], values: Mapping[str, Any]) -> Whole:
    """Any other kind of checked file from nested mappings; raises ConfigError that names every wrong key."""
    if (secret := find_secret(values)) is not None:
        raise ConfigError(
            f"{secret}: looks like a secret, which config.yaml and logs would keep for all to read. Give secrets by "
            "environment variables or files of the tools that use them, such as AWS_PROFILE or ~/.netrc."
        )
    try:
        return section.model_validate(dict(values))
    except ValidationError as error:
        # The default of micro_batches follows from workers; where that is wrong, it has an entry of its own.
        problems = [each for each in error.errors() if each["type"] != "default_factory_not_called"]
        raise ConfigError("\n".join(sentence(problem, section) for problem in problems)) from None


def dump(config: Section) -> str:
    """The resolved configuration as YAML; reading it back gives an equal configuration."""
    return config_file.dump_values(config.model_dump(mode="json", by_alias=True))
