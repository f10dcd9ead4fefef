"""Tests of data/open_set.py and data/joined.py: labels, who is left out, other data sets, refusals."""

from dataclasses import replace

import numpy as np
import pytest

from openal_ray.data.dataset import Dataset
from openal_ray.data.images import ArrayImages, WrappedImages
from openal_ray.data.joined import Joined
from openal_ray.data.known_classes import Draw
from openal_ray.data.open_set import OpenSet, ood_count, opened
from openal_ray.errors import BadImages, ConfigError
from openal_ray.pool import OUT_OF_DISTRIBUTION, UNLABELLED, Pool


def closed(per_class: int = 30, n_classes: int = 5) -> Dataset:
    """Image i is of class i % n_classes and its pixel is i; the test images likewise, two a class."""
    n = per_class * n_classes
    train = ArrayImages(np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1))
    test = ArrayImages(np.arange(2 * n_classes, dtype=np.uint8).reshape(-1, 1, 1, 1))
    names = tuple(f"class{number}" for number in range(n_classes))
    labels, test_labels = np.arange(n) % n_classes, np.arange(2 * n_classes) % n_classes
    return Dataset("toy", names, train, labels, test, test_labels, (0.5,), (0.5,))


def test_mismatch_makes_every_other_class_ood() -> None:
    result = opened(closed(), OpenSet(known=(3, 1)))
    assert result.dataset.classes == ("class3", "class1")
    assert result.dataset.labels[:7].tolist() == [-1, 1, -1, 0, -1, -1, 1]
    assert len(result.dataset.outside) == 0
    assert result.dataset.test_labels.tolist() == [1, 0, 1, 0]
    assert result.dataset.test.load(np.arange(4)).ravel().tolist() == [1, 3, 6, 8]
    assert result.ood_test.load(np.arange(len(result.ood_test))).ravel().tolist() == [0, 2, 4, 5, 7, 9]
    assert OpenSet().family == "mismatch" and OpenSet(noise_ratio=0.1).family == "noise ratio"


@pytest.mark.parametrize(("ratio", "n_ood"), [(0.0, 0), (0.1, 7), (0.4, 40), (0.6, 90)])
def test_noise_ratio_holds_the_surplus_out(ratio: float, n_ood: int) -> None:
    # 60 images of known classes: round(60 τ / (1 - τ)) OOD images beside them.
    result = opened(closed(), OpenSet(known=2, draw=Draw("lfosa"), noise_ratio=ratio))
    pool = Pool(150).hold_out(result.dataset.outside)
    labels = result.dataset.labels[pool.unlabelled.between(0, 150)]
    assert (labels == -1).sum() == n_ood
    assert (labels >= 0).sum() == 60
    assert (result.dataset.labels[result.dataset.outside] == -1).all()
    assert len(result.dataset.train) == 150


def test_the_seed_draws_which_ood_images_stay() -> None:
    first, again, other = (
        opened(closed(), OpenSet(known=2, noise_ratio=0.4, seed=seed)).dataset.outside.tolist() for seed in (0, 0, 1)
    )
    assert first == again == sorted(first) != other


def test_too_few_ood_images_are_refused_with_the_numbers() -> None:
    # 90 ID beside 60 OOD: 60 / 150 = .4 is the most there is.
    opened(closed(), OpenSet(known=3, noise_ratio=0.4))
    message = "noise_ratio=0.5 beside 90 images of 3 known classes needs 90 OOD images, but toy has 60: at most 0.4"
    with pytest.raises(ConfigError, match=message):
        opened(closed(), OpenSet(known=3, noise_ratio=0.5))


@pytest.mark.parametrize(
    ("known", "ratio", "n_known", "n_ood"),
    [(2, 0.2, 60, 30), (2, 0.6, 60, 90), (3, 0.4, 90, 60), (4, 0.4, 45, 30), (3, 0.8, 15, 60)],
)
def test_a_share_of_all_images_leaves_known_ones_out_where_others_are_too_few(
    known: int, ratio: float, n_known: int, n_ood: int
) -> None:
    """ALScope's rule: round(r · 150) others; where there are fewer, all of them beside round(n / r - n) known ones."""
    dataset = opened(closed(), OpenSet(known, Draw("lfosa"), noise_ratio=ratio, share_of="all")).dataset
    labels = dataset.labels[Pool(150).hold_out(dataset.outside).unlabelled.between(0, 150)]
    assert ((labels >= 0).sum(), (labels == -1).sum()) == (n_known, n_ood)
    assert len(np.unique(labels)) == known + 1


def test_counts_of_ood_images() -> None:
    assert ood_count(20_000, OpenSet(noise_ratio=0.1)) == 2222
    assert ood_count(20_000, OpenSet(noise_ratio=0.6)) == 30_000
    # CCAL on CIFAR-10: 9200 left of 10000, 4 times as many; .8 / (1 - .8) * 9200 is 36800.00000000001 in floats.
    assert ood_count(10_000, OpenSet(noise_ratio=0.8, clean_start=800)) == 36_800
    assert ood_count(10, OpenSet(noise_ratio=0.2, clean_start=1)) == 3  # 9 / 4, rounded up
    for wrong in (1.0, -0.1, float("nan")):
        with pytest.raises(ConfigError, match=r"must be in \[0, 1\)"):
            ood_count(10, OpenSet(noise_ratio=wrong))
    with pytest.raises(ConfigError, match=r"clean_start must be 0 … 10 .*, got 11"):
        ood_count(10, OpenSet(noise_ratio=0.1, clean_start=11))


def test_validation_images_of_unknown_classes_leave() -> None:
    data = replace(closed(), validation=np.arange(140, 150))
    result = opened(data, OpenSet(known=(0, 1)))
    assert result.dataset.validation.tolist() == [140, 141, 145, 146]
    assert result.dataset.outside.tolist() == [142, 143, 144, 147, 148, 149]


def test_a_word_for_none_of_them_is_ood() -> None:
    data = replace(closed(n_classes=3), classes=("cat", "dog", "none_of_these"))
    result = opened(data, OpenSet(unknown=("NONE_of_these",), draw=Draw("lfosa")))
    assert result.dataset.classes == ("cat", "dog")
    assert result.dataset.labels[:4].tolist() == [0, 1, -1, 0]


def test_labels_below_zero_stay() -> None:
    data = closed()
    labels = data.labels.copy()
    labels[:2] = OUT_OF_DISTRIBUTION, UNLABELLED
    assert opened(replace(data, labels=labels), OpenSet(known=(0, 1))).dataset.labels[:7].tolist() == [
        -1, -2, -1, -1, -1, 0, 1,
    ]  # fmt: skip


def test_another_data_set_as_ood() -> None:
    pictures = np.full((4, 2, 2, 3), 200, np.uint8)
    other = Dataset(
        "svhn", ("x",), ArrayImages(pictures), np.zeros(4, int), ArrayImages(pictures[:1]), np.zeros(1, int),
        (0.5,) * 3, (0.5,) * 3,
    )  # fmt: skip
    result = opened(closed(), OpenSet(draw=Draw("lfosa")), other)
    assert result.dataset.name == "toy+svhn"
    assert len(result.dataset.train) == 154
    assert np.array_equal(result.dataset.labels[:150], closed().labels)
    assert result.dataset.labels[150:].tolist() == [-1] * 4
    assert result.dataset.train.load(np.array([151, 3])).tolist() == [[[[200]]], [[[3]]]]
    assert result.dataset.train.ids(np.array([3, 151])) == ["3", "svhn/1"]
    assert len(result.ood_test) == 1
    few = opened(closed(), OpenSet(draw=Draw("lfosa"), noise_ratio=0.02), other)  # round(150 · .02 / .98) = 3 of 4
    assert len(few.dataset.outside) == 1 and few.dataset.outside[0] >= 150


def test_bad_pictures_of_both_sets_are_named_by_the_joined_index() -> None:
    class Broken:
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> np.ndarray:
            return np.zeros((1, 1, 1), np.uint8) if index else np.full((1, 1, 1), 2.0)

    joined = Joined(WrappedImages(Broken(), 1, 1, 1), WrappedImages(Broken(), 2, 2, 1), "b/")
    assert joined.load(np.array([1, 3])).shape == (2, 1, 1, 1)
    with pytest.raises(BadImages) as caught:
        joined.load(np.arange(4))
    assert caught.value.indices == [0, 2]
    assert joined.load(np.empty(0, np.int64)).shape == (0, 1, 1, 1)


def test_nothing_to_test_on_is_refused() -> None:
    data = replace(closed(), test_labels=np.zeros(10, int))
    with pytest.raises(ConfigError, match="toy has no test image of the known classes"):
        opened(data, OpenSet(known=(1,)))


def test_a_clean_start_is_counted_in_the_pool_alone() -> None:
    protocol = OpenSet(2, Draw("lfosa"), noise_ratio=0.5, share_of="all", clean_start=5)
    with pytest.raises(ConfigError, match="open_set.clean_start is counted with open_set.share_of=pool only"):
        opened(closed(), protocol)
