"""Trainings that cannot go on, and plans that are refused before any work."""

from pathlib import Path

import pytest
import torch

from openal_ray import config
from openal_ray.data.images import FileImages
from openal_ray.errors import BadImages, ConfigError, TrainingError
from openal_ray.training.loop import NoKeeper, check_plan, train
from openal_ray.training.team import Team
from tests.training.jobs import IMAGES, Flat, job, trained

HUGE = {"name": "sgd", "lr": 1e38}


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    expected = (
        r"^round 1: the training loss became (nan|inf) in epoch 1 of 3\. The rounds before this one are kept\. "
        r"A new run with a lower train\.optimizer\.lr \(now 1e\+38\) may do better"
    )
    with pytest.raises(TrainingError, match=expected):
        trained(job(optimizer=HUGE))


def test_full_precision_is_advised_where_it_is_not_used() -> None:
    with pytest.raises(TrainingError, match=r"\(now 1e\+38\) or set train.precision=float32 may"):
        trained(job(optimizer=HUGE, precision="bfloat16"))


class Exploding(Flat):
    """Its loss is finite, but not the gradient."""

    def loss(self, network: torch.nn.Module, images: torch.Tensor, targets: torch.Tensor, progress: float) -> tuple:
        loss, right = super().loss(network, images, targets, progress)
        return (loss - loss.detach()).sqrt(), right  # the slope of a root at 0


def test_weights_that_are_not_finite_are_never_returned() -> None:
    with pytest.raises(TrainingError, match="round 1: the weights became infinite or nan. The rounds before"):
        trained(job(5, Exploding(), epochs=1))


def test_a_picture_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    images = FileImages([str(tmp_path / "a.png")] * 30, ["a.png"] * 30, 8, 8, 1)
    with pytest.raises(BadImages, match="a.png"):
        train(job(), images, Team(), NoKeeper())


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"optimizer": {"name": "sgdd"}}, "train.optimizer.name: unknown optimiser 'sgdd'. Did you mean 'sgd'"),
        ({"scheduler": {"name": "cosin"}}, "train.scheduler.name: unknown scheduler 'cosin'"),
        ({"augment": ["Flip"]}, "train.augment: unknown transform 'Flip'"),
        ({"augment": [{"Resize": {"size": [9, 9]}}]}, "train.augment: a picture must stay"),
        ({"precision": "float16"}, "train.precision=float16 needs a GPU; on CPUs use bfloat16 or float32"),
    ],
)
def test_a_wrong_plan_is_refused(plan: dict, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=message):
        check_plan(config.Train.model_validate(plan), IMAGES.shape)


def test_a_right_plan_passes_and_draws_nothing() -> None:
    before = torch.get_rng_state()
    check_plan(config.Train(augment=("RandomHorizontalFlip",), warmup_epochs=2, precision="bfloat16"), IMAGES.shape)
    check_plan(config.Train(precision="float16", gpus_per_worker=1), IMAGES.shape)
    assert torch.equal(torch.get_rng_state(), before)
