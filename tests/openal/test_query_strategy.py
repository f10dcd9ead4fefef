"""Tests of openal/query_strategy.py: OpenAL's call on a training loop of one's own, against plain PyTorch."""

import copy
import logging
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset
from torchvision.transforms import v2

from openal_ray.errors import ConfigError
from openal_ray.openal.query_strategy import QueryStrategy
from tests.openal.pictures import CLASSES, LABELLED, SIDE, TRAIN_TRANSFORM, N, Pictures, create, network, pixels


def plain_probs(model: nn.Module) -> np.ndarray:
    with torch.no_grad():
        return copy.deepcopy(model).eval()(pixels()).double().softmax(1).numpy()


def plain_features(model: Any) -> np.ndarray:
    with torch.no_grad():
        model = copy.deepcopy(model).eval()
        return model.forward_head(model.forward_features(pixels()), pre_logits=True).double().numpy()


def least_confidence(probs: np.ndarray) -> np.ndarray:
    return 1 - probs.max(axis=1)


def margin(probs: np.ndarray) -> np.ndarray:
    ordered = np.sort(probs, axis=1)
    return ordered[:, -2] - ordered[:, -1]


def entropy(probs: np.ndarray) -> np.ndarray:
    return -(probs * np.log(probs)).sum(axis=1)


def best(scores: np.ndarray, candidates: np.ndarray, count: int) -> list[int]:
    return candidates[np.argsort(-scores[candidates])][:count].tolist()


UNLABELLED = np.flatnonzero(~LABELLED)
SCORES = {"LeastConfidence": least_confidence, "MarginSampling": margin, "EntropySampling": entropy}


@pytest.mark.parametrize("kind", ["cnn", "vit"])
@pytest.mark.parametrize("name", SCORES)
def test_a_query_is_the_best_by_plain_pytorchs_scores(kind: str, name: str) -> None:
    model = network(kind)
    found = create(name, model).query(model)
    assert found.dtype == np.int64
    assert found.tolist() == best(SCORES[name](plain_probs(model)), UNLABELLED, 8)


@pytest.mark.parametrize("kind", ["cnn", "vit"])
def test_k_center_takes_the_farthest_from_all_centres_so_far(kind: str) -> None:
    model = network(kind)
    features, expected = plain_features(model), []
    for _ in range(8):
        centres = [*np.flatnonzero(LABELLED), *expected]
        nearest = np.linalg.norm(features[:, None] - features[None, centres], axis=2).min(axis=1)
        expected.append(int(nearest.argmax()))
    assert create("KCenterGreedy", model).query(model).tolist() == expected


@pytest.mark.parametrize("kind", ["cnn", "vit"])
def test_badge_begins_with_the_largest_gradient(kind: str) -> None:
    model = network(kind)
    residual = plain_probs(model)
    residual[np.arange(N), residual.argmax(axis=1)] -= 1
    gradients = np.einsum("nc,nd->ncd", residual, plain_features(model)).reshape(N, -1)
    found = create("BADGE", model).query(model).tolist()
    assert found[:1] == best(np.linalg.norm(gradients, axis=1), UNLABELLED, 1)
    assert len(set(found)) == 8
    assert not LABELLED[found].any()
    assert create("BADGE", model, seed=1).query(model).tolist() != found


def test_a_network_without_features_can_be_asked_for_probabilities_alone() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, CLASSES))
    assert create("margin", model).query(model).tolist() == best(margin(plain_probs(model)), UNLABELLED, 8)
    with pytest.raises(ConfigError, match="Sequential cannot give: it has no forward_features and no forward_head"):
        create("k_center", model).query(model)


@pytest.mark.parametrize("batch_size", [1, 2, 7, 256])
def test_the_batch_size_and_the_form_of_the_items_change_nothing(batch_size: int) -> None:
    model = network("cnn")
    expected = create("MarginSampling", model).query(model).tolist()
    options = {"dataset": Pictures(labels=False), "batch_size": batch_size}
    assert create("MarginSampling", model, **options).query(model).tolist() == expected


def test_tensors_ready_for_the_network_need_no_transform() -> None:
    model, data = network("cnn"), TensorDataset(pixels(), torch.zeros(N))
    expected = create("MarginSampling", model).query(model).tolist()
    assert create("MarginSampling", model, dataset=data, transform=None).query(model).tolist() == expected


@pytest.mark.parametrize("kind", ["cnn", "vit"])
@pytest.mark.parametrize("name", ["MarginSampling", "KCenterGreedy", "BADGE", "RandomSampling"])
def test_a_query_changes_nothing(kind: str, name: str) -> None:
    model, data, mask = network(kind), Pictures(), LABELLED.copy()
    strategy = create(name, model, dataset=data, is_labeled=mask)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    pictures, torch_state = data.data.copy(), torch.get_rng_state()
    first = strategy.query(model)
    assert np.array_equal(strategy.query(model), first)  # until an update, asking again gives the same
    after = model.state_dict()
    assert before.keys() == after.keys()  # BatchNorm's statistics among them
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert data.transform is TRAIN_TRANSFORM
    assert np.array_equal(data.data, pictures)
    assert np.array_equal(mask, LABELLED)
    assert np.array_equal(strategy.is_labeled, LABELLED)
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_labels_of_unlabelled_images_are_never_used() -> None:
    model, data = network("cnn"), Pictures()
    expected = [create(name, model).query(model).tolist() for name in ("margin", "k_center", "badge")]
    data.targets = [label if known else -1 for label, known in zip(data.targets, LABELLED, strict=True)]
    found = [create(name, model, dataset=data).query(model).tolist() for name in ("margin", "k_center", "badge")]
    assert found == expected


def test_masks_are_not_shared_with_the_caller() -> None:
    model, mask = network("cnn"), LABELLED.copy()
    strategy = create("MarginSampling", model, is_labeled=mask)
    asked = strategy.query(model)
    strategy.update(asked)
    assert np.array_equal(mask, LABELLED)
    assert np.flatnonzero(strategy.is_labeled).tolist() == sorted([*np.flatnonzero(LABELLED), *asked])
    mask[:] = True
    following = strategy.query(model)
    assert following.tolist() == best(margin(plain_probs(model)), np.setdiff1d(UNLABELLED, asked), 8)


def test_one_image_is_still_an_array() -> None:
    model = network("cnn")
    found = create("MarginSampling", model, n_query=1).query(model)
    assert found.shape == (1,)
    assert found.tolist() == best(margin(plain_probs(model)), UNLABELLED, 1)


@pytest.mark.parametrize("name", ["MarginSampling", "KCenterGreedy", "BADGE", "RandomSampling"])
def test_a_pool_smaller_than_the_query_is_asked_whole(name: str) -> None:
    model, mask = network("cnn"), np.ones(N, bool)
    mask[[3, 40, 59]] = False
    strategy = create(name, model, is_labeled=mask, n_subset=2)
    found = strategy.query(model)
    assert sorted(found.tolist()) == [3, 40, 59]
    strategy.update(found)
    assert strategy.query(model).shape == strategy.get_unlabeled_idx().shape == (0,)
    assert strategy.query(model).dtype == np.int64


def test_without_any_label_uncertainty_still_asks() -> None:
    model = network("cnn")
    found = create("EntropySampling", model, is_labeled=np.zeros(N, bool)).query(model)
    assert found.tolist() == best(entropy(plain_probs(model)), np.arange(N), 8)


@pytest.mark.parametrize(("n_subset", "count"), [(20, 20), (0.5, 25), (0, 50), (50, 50), (99, 50), (0.001, 50)])
def test_only_a_random_part_of_the_pool_is_looked_at(n_subset: float, count: int) -> None:
    model = network("cnn")
    strategy = create("MarginSampling", model, n_subset=n_subset)
    candidates = strategy.get_unlabeled_idx()
    assert len(np.unique(candidates)) == len(candidates) == count
    assert (np.diff(candidates) > 0).all()
    assert not LABELLED[candidates].any()
    assert strategy.query(model).tolist() == best(margin(plain_probs(model)), candidates, 8)
    if count < 50:
        strategy.update(np.array([], int))
        assert not np.array_equal(strategy.get_unlabeled_idx(), candidates)  # each round has its own


def test_a_part_smaller_than_the_query_grows_to_it(caplog: pytest.LogCaptureFixture) -> None:
    model = network("cnn")
    strategy = create("MarginSampling", model, n_subset=3)
    with caplog.at_level(logging.WARNING):
        found = strategy.query(model)
    assert sorted(found) == strategy.get_unlabeled_idx().tolist()
    assert "3 candidates, fewer than the 8 asked" in caplog.text


def test_a_whole_loop_buys_new_images_every_round() -> None:
    strategy = create("MarginSampling", network("cnn"), n_query=6)
    bought: list[int] = []
    for _ in range(3):
        model = strategy.init_model().train()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for images, targets in strategy.get_trainloader():
            optimizer.zero_grad()
            strategy.loss_fn(model(images), targets).backward()
            optimizer.step()
        asked = strategy.query(model)
        bought += asked.tolist()
        strategy.update(asked)
    assert len(set(bought)) == 18
    assert strategy.is_labeled.sum() == LABELLED.sum() + 18


def test_init_model_gives_the_weights_of_the_beginning() -> None:
    model = network("cnn")
    strategy = create("MarginSampling", model)
    beginning = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        model(pixels())
        for parameter in (*model.parameters(), *strategy.init_model().parameters()):
            parameter.add_(1)
    found = strategy.init_model().state_dict()
    assert all(torch.equal(found[key], beginning[key]) for key in beginning)


def loaded(strategy: QueryStrategy) -> tuple[list[int], list[int]]:
    """The sizes of the batches, and the labels in their order."""
    batches = [(len(images), targets.tolist()) for images, targets in strategy.get_trainloader()]
    return [size for size, _ in batches], [label for _, targets in batches for label in targets]


def test_training_sees_the_labelled_images_once_in_the_callers_transform() -> None:
    data = Pictures()
    data.targets = list(range(N))  # so that a label names its image
    strategy = create("MarginSampling", network("cnn"), dataset=data, batch_size=4)
    sizes, seen = loaded(strategy)
    assert sizes == [4, 4, 2]
    assert sorted(seen) == np.flatnonzero(LABELLED).tolist()
    assert seen != sorted(seen)
    assert loaded(strategy) == (sizes, seen)  # the same order in the same round, another in the next
    images, targets = next(iter(strategy.get_trainloader()))
    assert torch.allclose(images, pixels()[targets].flip(3), atol=1e-6)
    strategy.update(np.array([], int))
    assert loaded(strategy)[1] != seen


def test_steps_per_epoch_draws_with_replacement() -> None:
    data = Pictures()
    data.targets = list(range(N))
    strategy = create("MarginSampling", network("cnn"), dataset=data, batch_size=4, steps_per_epoch=7)
    sizes, seen = loaded(strategy)
    assert sizes == [4] * 7
    assert set(seen) <= set(np.flatnonzero(LABELLED).tolist())


def test_the_loss_is_cross_entropy() -> None:
    outputs, targets = torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 1])
    expected = (np.log(1 + np.exp(-2)) + np.log(2)) / 2
    assert create("margin", network("cnn")).loss_fn(outputs, targets).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy_name": "MarginSamplin"}, "unknown strategy 'MarginSamplin'. Did you mean 'margin'?"),
        ({"temperature": 1}, "strategy.temperature: unknown parameter of MarginSampling 'temperature'"),
        ({"interval_type": "bottom"}, "interval_type='bottom': only 'top' exists"),
        ({"sampler_name": "SubsetWeightedRandomSampler"}, "sampler_name='SubsetWeightedRandomSampler': only"),
        ({"is_labeled": LABELLED[1:]}, r"is_labeled must be bool \[60\], one entry an image, got bool \[59\]"),
        ({"is_labeled": np.arange(N)}, r"is_labeled must be bool \[60\], one entry an image, got int64 \[60\]"),
        ({"dataset": TensorDataset(pixels())}, "transform: TensorDataset has no `.transform` that it could replace"),
        ({"transform": v2.RandomHorizontalFlip()}, r"must become a tensor \[channels, height, width\], got Image"),
    ],
)
def test_a_wrong_call_is_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create(**({"name": options.pop("strategy_name", "MarginSampling"), "model": network("cnn")} | options))


@pytest.mark.parametrize("wrong", [LABELLED, np.array([0.5]), np.array([60]), np.array([-1])])
def test_an_update_takes_dataset_indices_alone(wrong: np.ndarray) -> None:
    strategy = create("MarginSampling", network("cnn"))
    with pytest.raises(ValueError, match="dataset indices must be integers in 0 … 59, got"):
        strategy.update(wrong)
    assert np.array_equal(strategy.is_labeled, LABELLED)


@pytest.mark.parametrize("name", ["MarginSampling", "RandomSampling", "BADGE", "KCenterGreedy"])
def test_only_the_given_images_are_asked(name: str) -> None:
    model = network("cnn")
    allowed = np.array([55, 12, 31, 40, 41, 42, 43, 44, 45, 46, 47])
    found = create(name, model).query(model, unlabeled_idx=allowed)
    assert len(found) == 8 and set(found.tolist()) <= set(allowed.tolist())
