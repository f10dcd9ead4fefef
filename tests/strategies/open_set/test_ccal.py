"""CCAL with two encoders of `openal-ray pretrain`: views, shifts and query against one image at a time."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from openal_ray import config
from openal_ray.errors import ConfigError
from openal_ray.models import encoder_file, encoders, views
from openal_ray.models.contrastive import Contrastive, Looks
from openal_ray.models.learners import Classifier
from openal_ray.pool import Pool
from openal_ray.selection.purity.ccal import LabelledViews
from openal_ray.signal_cache import digest_of
from openal_ray.strategies import catalogue
from openal_ray.testing.pools import Case, case
from tests.selection.purity.test_ccal import scores_at_once

SHAPE = (8, 8, 1)
N = 100
SHOWN = config.Views(flip=0)
LABELLED = np.flatnonzero(case().labels[:N] < 3)[:20]


def few() -> Case:
    """100 digits, of which some of three classes are labelled; some are rejected."""
    whole = case()
    images = type(whole.images)(whole.images.load(np.arange(N)))
    pool = Pool(N, LABELLED, whole.labels[LABELLED]).annotate(np.flatnonzero(whole.labels[:N] == 9)[:5], np.full(5, -1))
    return Case(images, whole.labels[:N], pool)


def saved(folder: Path, shift: str | None) -> str:
    """An encoder as `openal-ray pretrain` leaves it, but untrained, made for another normalisation."""
    torch.manual_seed(1 if shift else 2)
    folder.mkdir()
    learner = Contrastive(Classifier(0), (0.3,), (0.25,), 16, views=SHOWN, shift=shift)
    encoder_file.write(folder, learner, SHAPE, learner.build(SHAPE).state_dict(), {})
    return str(folder)


@cache
def built(path: str) -> Any:
    read = encoder_file.read(path)
    network = read.learner.build(SHAPE)
    network.load_state_dict(dict(read.weights))
    return network.eval()


def projections(path: str, picture: np.ndarray, turns: int, n_views: int) -> np.ndarray:
    """The mean projection of one picture, turned; by the encoder alone, on pixels in 0 … 1."""
    network = built(path)
    pixels = torch.from_numpy(np.rot90(picture[..., 0] / 255.0, turns).astype(np.float32).copy())[None, None]
    total = np.zeros(16)
    for number in range(n_views):
        generator = torch.Generator().manual_seed(number)
        views.flipped(pixels, 0, generator)
        made = views.changed(pixels, SHOWN.model_copy(update={"smallest_crop": 0.54}), generator, 0.54)
        with torch.no_grad():
            features = network.backbone((made - 0.3) / 0.25)
            total += network.projection(features)[0].double().numpy()
    return total / n_views


def test_the_query_is_that_of_one_image_view_and_turn_at_a_time(tmp_path: Path) -> None:
    pool = few()
    semantic, distinctive = saved(tmp_path / "simclr", None), saved(tmp_path / "csi", "rotation")
    strategy = catalogue.build("ccal", {"semantic": semantic, "distinctive": distinctive, "views": 2})
    found = pool.ask(strategy, 30)
    pictures = pool.images.load(np.arange(N))
    alike = np.stack([projections(semantic, one, 0, 2) for one in pictures])
    unlike = np.stack([[projections(distinctive, one, turns, 2) for turns in range(4)] for one in pictures])
    left = pool.pool.unlabelled.between(0, N)
    labelled = LabelledViews(alike[LABELLED], unlike[LABELLED], pool.labels[LABELLED])
    score, pseudo = scores_at_once(alike[left], unlike[left], labelled, "official")
    np.testing.assert_allclose(found.scores, score[np.searchsorted(left, found.indices)], atol=2e-3)
    asked = np.isin(left, found.indices)
    for label in np.unique(pseudo):  # those asked are the best of their pseudo label
        worst, best = (score[(pseudo == label) & some] for some in (asked, ~asked))
        assert not len(worst) or not len(best) or worst.min() >= best.max() - 2e-3


def test_an_encoder_and_the_rounds_features_go_together(tmp_path: Path) -> None:
    path = saved(tmp_path / "csi", "cutperm")
    one = catalogue.build("ccal", {"semantic": path})
    other = catalogue.build("ccal", {"distinctive": path})
    assert (one.needs, one.needs_pool) == (("features",), ("semantic.view_projections",))
    assert (other.needs, other.needs_pool) == (("features",), ("distinctive.shift_projections",))
    asked = [few().ask(strategy, 20).indices.tolist() for strategy in (one, other, catalogue.build("ccal"))]
    assert asked[0] != asked[1] != asked[2] and {len(set(each)) for each in asked} == {20}


def test_signals_kept_for_other_runs_know_how_an_image_was_looked_at(tmp_path: Path) -> None:
    path = saved(tmp_path / "csi", "rotation")
    made = [encoders.fitted(path, "", (0.5,), (0.5,), looks).learner for looks in (Looks(), Looks(2), Looks(10, 0.5))]
    digests = set()
    for learner in (made[0], *made):
        torch.manual_seed(0)
        digests.add(digest_of(learner.build(SHAPE)))
    assert len(digests) == 3


def test_mqnet_compares_projections(tmp_path: Path) -> None:
    strategy = catalogue.build("mqnet", {"encoder": saved(tmp_path / "csi", "rotation")})
    assert strategy.needs_pool == ("encoder.projection",) and len(few().ask(strategy, 20).indices) == 20


def test_an_encoder_that_is_not_there_is_refused_by_its_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"strategy\.distinctive: .*nothing: no encoder here"):
        catalogue.build("ccal", {"distinctive": str(tmp_path / "nothing")})
