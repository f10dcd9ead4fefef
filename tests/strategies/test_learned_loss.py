"""Learning Loss as a strategy: the images of the largest predicted loss, and refusals."""

import numpy as np
import pytest
import torch

from openal_ray.errors import ConfigError
from openal_ray.models.pixels import Normalise
from openal_ray.strategies import catalogue
from openal_ray.testing.pools import LEARNER, MEAN, STD, case


def test_the_query_is_where_the_head_predicts_most() -> None:
    strategy = catalogue.build("learning_loss")
    learner = strategy.classifier(LEARNER)
    network = learner.build(case().images.shape).eval()
    network.load_state_dict(case().weights(learner))
    unlabelled = np.setdiff1d(np.arange(case().pool.size), case().pool.taken)
    pixels = torch.from_numpy(case().images.load(unlabelled)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        _, stages = network.forward_intermediates(Normalise(MEAN, STD)(pixels))
        pooled = [stage.mean((2, 3)) for stage in stages]
        hidden = [torch.relu(x @ b[0].weight.T + b[0].bias) for x, b in zip(pooled, network.branches, strict=True)]
        predicted = (torch.cat(hidden, 1) @ network.last.weight.T + network.last.bias)[:, 0].numpy()
    found = case().ask(strategy, 25)
    expected = np.argsort(-predicted, kind="stable")[:25]
    np.testing.assert_allclose(found.scores, predicted[expected], rtol=1e-4, atol=1e-5)
    assert np.isin(found.indices, unlabelled[np.argsort(-predicted)[:27]]).all()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"pairing": "random"}, "pairing must be neighbours or ends, got 'random'"),
        ({"ranking": "hinge"}, "ranking must be margin or logistic, got 'hinge'"),
        ({"detach_share": 2}, "detach_share between 0 and 1"),
    ],
)
def test_wrong_parameters_are_refused(parameters: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        catalogue.build("learning_loss", parameters)
