"""The data set that needs no file and no network: scikit-learn's 1797 handwritten digits."""

import numpy as np

from openal_ray.data.dataset import Dataset
from openal_ray.data.images import Subset
from openal_ray.data.request import Request
from openal_ray.data.stratified import held_out

# Fixed, so that results on this set can be compared between experiments whatever their own seeds.
_TEST_IMAGES = 400
_SPLIT_SEED = 0


def digits(request: Request) -> Dataset:
    """8 x 8 grey digits: 1397 to train, 400 to test, class by class."""
    from sklearn.datasets import load_digits

    source = load_digits()
    pictures = np.rint(source.images * (255 / 16)).astype(np.uint8)[:, :, :, None]  # the source counts to 16
    labels = source.target.astype(np.int64)
    images = request.arrays(pictures)
    test = held_out(labels, _TEST_IMAGES, _SPLIT_SEED)
    train = np.setdiff1d(np.arange(len(labels)), test)
    return request.dataset(
        [str(name) for name in source.target_names],
        (Subset(images, train), labels[train]),
        (Subset(images, test), labels[test]),
    )
