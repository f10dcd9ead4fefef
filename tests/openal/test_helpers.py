"""Strategies that need more than the caller's network: helpers trained beside it, a published one, a changed one."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset
from torchvision.transforms import v2

from openal_ray import config, selection
from openal_ray.errors import ConfigError
from openal_ray.models.loss_prediction import LossPredictor
from openal_ray.models.packaged import weights as packaged_weights
from openal_ray.models.small_cnn import SmallCNN
from openal_ray.openal import query_strategy
from openal_ray.openal.query_strategy import QueryStrategy
from tests.openal.pictures import CLASSES, LABELLED, SIDE, N, Pictures, create, network, pixels

UNLABELLED = np.flatnonzero(~LABELLED)
PLAN = config.Train(epochs=20, batch_size=10, optimizer={"lr": 1e-2})
SHORT = config.Train(epochs=1, batch_size=10)
FEW = 24
ENCODER = {"encoder": "tf_efficientnet_lite0", "encoder_weights": "packaged"}


class Guarded(list):
    """Labels of which only those of labelled images may be looked at."""

    def __getitem__(self, index: Any) -> Any:
        assert LABELLED[index], f"the hidden label of image {index} was looked at"
        return super().__getitem__(index)

    def __iter__(self) -> Any:
        raise AssertionError("all labels were looked at")

    def __array__(self, *arguments: Any) -> Any:
        raise AssertionError("all labels were looked at")


def guarded() -> Pictures:
    data = Pictures(labels=False)
    data.targets = Guarded(data.targets)
    return data


def dropping() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return SmallCNN(CLASSES, in_chans=3, img_size=SIDE, hidden=16, drop_rate=0.3)


def held(strategy: QueryStrategy, name: str) -> Any:
    assert strategy._workers is not None
    return strategy._workers.shards.shards[0].networks[name]


def outputs(model: nn.Module) -> np.ndarray:
    with torch.no_grad():
        return copy.deepcopy(model).eval()(pixels()).double().numpy()


def test_a_committee_votes_with_networks_trained_on_the_labelled_images() -> None:
    strategy = create("QueryByCommittee", network("cnn"), dataset=guarded(), plan=PLAN, members=3)
    model = strategy.init_model()
    found = strategy.query(model)
    members = [held(strategy, "member2"), held(strategy, "member3")]
    classes = np.array(Pictures().targets)
    for member in members:
        assert (outputs(member).argmax(1) == classes)[LABELLED].all()  # PLAN learns ten images by heart
    assert np.abs(outputs(members[0]) - outputs(members[1])).max() > 0.1
    votes = np.stack([outputs(each).argmax(1) for each in (model, *members)])
    shares = np.stack([(votes == label).mean(axis=0) for label in range(CLASSES)], axis=1)
    disagreement = -(shares * np.log(np.where(shares > 0, shares, 1))).sum(axis=1)
    expected = UNLABELLED[np.argsort(-disagreement[UNLABELLED].round(9), kind="stable")][:8]
    assert found.tolist() == expected.tolist()


def test_helpers_are_trained_once_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[tuple[str, list[int]]] = []
    real = query_strategy.LocalWorkers.fit

    def fit(self: Any, given: Any) -> Any:
        jobs.extend((job.name, sorted(job.indices.tolist())) for job in given.values())
        return real(self, given)

    monkeypatch.setattr(query_strategy.LocalWorkers, "fit", fit)
    strategy = create("qbc", network("cnn"), plan=SHORT, members=2)
    first = strategy.query(strategy.init_model())
    assert np.array_equal(strategy.query(strategy.init_model()), first)
    strategy.query(network("cnn"))  # another classifier, the same labels
    strategy.update(first)
    strategy.query(strategy.init_model())
    labelled = np.flatnonzero(LABELLED).tolist()
    assert jobs == [("member2 of round 0", labelled), ("member2 of round 1", sorted([*labelled, *first.tolist()]))]


NAMES = {
    "RandomSampling", "LeastConfidence", "MarginSampling", "EntropySampling", "BALD", "MeanSTDSampling",
    "VarRatioSampling", "LearningLossAL", "AlphaMixSampling", "KCenterGreedy", "KCenterGreedyCB", "BADGE",
    "LfOSA", "EOAL", "EAOA", "AV_based", "AV_uncertainty", "Max_AV",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_name_of_openal_asks_and_changes_nothing(name: str) -> None:
    strategy = create(name, dropping(), dataset=guarded(), plan=SHORT)
    model, state = strategy.init_model(), torch.get_rng_state()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    found = strategy.query(model)
    assert len(set(found.tolist())) == 8 and not LABELLED[found].any()
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    again = create(name, dropping(), dataset=guarded(), plan=SHORT).query(model)
    assert np.array_equal(again, found)


def predicted_losses(model: Any) -> np.ndarray:
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        first = model.classifier.stages[0](pixels())
        stages = [first, model.classifier.stages[1](first)]
        hidden = [branch(stage.mean((2, 3))) for branch, stage in zip(model.branches, stages, strict=True)]
        return model.last(torch.cat(hidden, 1))[:, 0].numpy()


def test_learning_loss_is_trained_by_the_caller_and_asked_where_it_expects_most() -> None:
    strategy = create("LearningLossAL", network("cnn"))
    model = strategy.init_model()
    assert isinstance(model, LossPredictor) and model.training
    own = network("cnn").state_dict()
    assert all(torch.equal(own[key], value) for key, value in model.classifier.state_dict().items())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    heads = model.last.weight.clone()
    for images, targets in strategy.get_trainloader():
        optimizer.zero_grad()
        strategy.loss_fn(model(images, detach=False), targets).backward()
        optimizer.step()
    assert not torch.equal(model.last.weight, heads)
    expected = UNLABELLED[np.argsort(-predicted_losses(model)[UNLABELLED])][:8]
    assert strategy.query(model).tolist() == expected.tolist()
    with pytest.raises(ConfigError, match="SmallCNN predicts no loss of its own: train the network"):
        strategy.query(network("cnn"))


def test_the_loss_of_learning_loss_by_hand() -> None:
    strategy = create("LearningLossAL", network("cnn"), weight=2.0)
    logits, targets = torch.tensor([[0.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 0])
    losses = [np.log(2), np.log(1 + np.exp(-1))]  # the first is larger, and predicted to be smaller by 0.3
    given = {"logits": logits, "predicted_loss": torch.tensor([0.2, 0.5])}
    assert strategy.loss_fn(given, targets).item() == pytest.approx(np.mean(losses) + 2.0 * 1.3)
    assert strategy.loss_fn(logits, targets).item() == pytest.approx(np.mean(losses))  # in eval mode


class Few(Pictures):
    """The first 24 images: an encoder takes its time."""

    def __len__(self) -> int:
        return FEW


def create_few(**options: Any) -> QueryStrategy:
    return create("max_herding", network("cnn"), dataset=Few(), is_labeled=LABELLED[:FEW], **ENCODER, **options)


def encoded() -> np.ndarray:
    """Features of the published network on the plain pictures, as timm's own transform would show them."""
    import timm

    made = timm.create_model("tf_efficientnet_lite0").eval()
    made.load_state_dict(packaged_weights("tf_efficientnet_lite0", list(made.state_dict())))
    plain = torch.from_numpy(Pictures().data[:FEW]).permute(0, 3, 1, 2).float()
    large = nn.functional.interpolate(plain, (224, 224), mode="bicubic", antialias=True).clamp(0, 255)
    with torch.no_grad():
        rows = made.forward_head(made.forward_features(large / 127.5 - 1), pre_logits=True).double().numpy()
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_a_published_encoder_sees_the_pictures_as_they_were_and_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    strategy, model = create_few(n_query=4), network("cnn")
    rows = encoded()
    loaded: list[int] = []
    real = strategy.images.load
    monkeypatch.setattr(strategy.images, "load", lambda indices: loaded.extend(indices.tolist()) or real(indices))
    known = LABELLED[:FEW].copy()
    for number in range(2):
        found = strategy.query(model)
        wanted = np.flatnonzero(~known)
        expected = selection.max_herding(rows[wanted], rows[known], 4)
        assert len(set(found.tolist()) & set(wanted[expected].tolist())) >= 3  # float32 may part a near tie
        strategy.update(found)
        known[found] = True
        assert sorted(loaded) == list(range(FEW)), f"round {number}"


def test_a_published_encoder_must_know_the_normalisation() -> None:
    scaled = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    model = network("cnn")
    with pytest.raises(ConfigError, match=r"give normalisation=\(mean, std\)"):
        create_few(transform=scaled).query(model)
    given = create_few(transform=scaled, normalisation=((0.0,), (1.0,))).query(model)
    assert np.array_equal(given, create_few().query(model))


def test_images_of_no_known_class_teach_the_detector_alone() -> None:
    data = Pictures()
    data.targets = [-1 if index % 12 == 0 else label for index, label in enumerate(data.targets)]
    strategy = create("LfOSA", network("cnn"), dataset=data, plan=PLAN)
    assert len(strategy.query(strategy.init_model())) == 8
    detected = outputs(held(strategy, "detector"))
    assert detected.shape == (N, CLASSES + 1)
    assert (detected[LABELLED].argmax(1) == [label % (CLASSES + 1) for label in np.array(data.targets)[LABELLED]]).all()
    seen = [label for _, targets in strategy.get_trainloader() for label in targets.tolist()]
    assert len(seen) == 5 and min(seen) >= 0


def test_a_strategy_sees_the_queries_before_it(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from dataclasses import replace\nfrom pathlib import Path\n"
        "from openal_ray.strategies.strategy import Strategy\n"
        "def mine():\n"
        "    def pick(view, budget, rng):\n"
        "        picks = view.draw(budget, rng)\n"
        "        past = [(each.round, len(each.indices), sorted(each.notes)) for each in view.history]\n"
        f"        Path({str(tmp_path / 'seen')!r}).write_text(repr(past))\n"
        "        return replace(picks, notes={'mine': picks.indices})\n"
        "    return Strategy(pick=pick)\n"
    )
    strategy = create(f"{tmp_path}/own.py:mine", network("cnn"))
    strategy.update(strategy.query(network("cnn")))
    strategy.update(np.array([1]) if not strategy.is_labeled[1] else np.array([2]))
    strategy.query(network("cnn"))
    assert (tmp_path / "seen").read_text() == "[(0, 10, []), (1, 8, ['mine']), (2, 1, [])]"


def test_labels_may_come_with_the_items() -> None:
    data = TensorDataset(pixels(), torch.tensor(Pictures().targets))
    model = network("cnn")
    found = create("AlphaMixSampling", model, dataset=data, transform=None).query(model)
    assert np.array_equal(found, create("AlphaMixSampling", model).query(model))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": TensorDataset(pixels()), "transform": None}, "TensorDataset has no labels: give it `.targets`"),
        ({"model": nn.Sequential(nn.Flatten(), nn.LazyConv1d(CLASSES, 1))}, "is not a linear layer inside it"),
        ({"plan": config.Train(augment=("RandomHorizontalFlip",))}, "plan.augment: images come as `transform` makes"),
        ({"plan": config.Train(optimizer={"name": "adan"})}, "unknown optimizer 'adan'|unknown optimiser 'adan'"),
    ],
)
def test_what_helpers_cannot_be_trained_with_is_refused(options: dict[str, Any], message: str) -> None:
    model = network("cnn")
    with pytest.raises(ConfigError, match=message):
        create(**{"name": "qbc", "model": model, "plan": SHORT} | options).query(model)
