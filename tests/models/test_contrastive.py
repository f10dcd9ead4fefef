"""SimCLR and CSI: the loss against a double loop, shifts by hand, and what their networks give to the engine."""

import math

import numpy as np
import pytest
import torch

from openal_ray import config
from openal_ray.errors import ConfigError
from openal_ray.models import contrastive, signals
from openal_ray.models.contrastive import SHIFTS, Contrastive, Looks, nt_xent, shifted
from openal_ray.models.folding import fold_batchnorm
from openal_ray.models.learners import Classifier
from openal_ray.training.loop import autocast

SHAPE = (8, 8, 1)
MEAN, STD = (0.4,), (0.3,)
SIMCLR = Contrastive(Classifier(0), MEAN, STD)
LEARNERS = [SIMCLR, *(Contrastive(Classifier(0), MEAN, STD, shift=shift) for shift in ("rotation", "cutperm"))]
UNCHANGED = config.Views(flip=0, jitter=0, grey=0, smallest_crop=1)


def naive_nt_xent(points: np.ndarray, temperature: float) -> float:
    """Chen et al. 2020, eq. 1, one pair at a time; rows i and i + m belong together."""
    m = len(points) // 2
    losses = []
    for i, point in enumerate(points):
        similarity = [
            math.exp(float(point @ other) / (np.linalg.norm(point) * np.linalg.norm(other)) / temperature)
            for other in points
        ]
        partner = i + m if i < m else i - m
        losses.append(-math.log(similarity[partner] / (sum(similarity) - similarity[i])))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_nt_xent_is_the_papers_double_loop(temperature: float) -> None:
    points = np.random.default_rng(0).normal(size=(14, 5))
    unit = torch.from_numpy(points / np.linalg.norm(points, axis=1, keepdims=True))
    assert nt_xent(unit, temperature)[0].item() == pytest.approx(naive_nt_xent(points, temperature), rel=1e-12)


def test_nt_xent_by_hand() -> None:
    """Two images whose views agree: each view has a partner at similarity 1 and two others at 0."""
    points = torch.eye(2).repeat(2, 1)
    loss, hits = nt_xent(points, 0.5)
    assert loss.item() == pytest.approx(math.log(math.e**2 + 2) - 2) and hits.tolist() == [1, 1, 1, 1]
    swapped = torch.cat([torch.eye(2), torch.eye(2).flip(0)])
    loss, hits = nt_xent(swapped, 0.5)
    assert loss.item() == pytest.approx(math.log(math.e**2 + 2)) and hits.tolist() == [0, 0, 0, 0]


def test_rotations_of_a_tiny_image() -> None:
    image = torch.tensor([[1, 2], [3, 4]]).reshape(1, 1, 2, 2)
    turned = [copy.squeeze().tolist() for copy in shifted(image, "rotation")]
    assert turned == [[[1, 2], [3, 4]], [[2, 4], [1, 3]], [[4, 3], [2, 1]], [[3, 1], [4, 2]]]


def test_cut_and_permuted_halves_of_a_tiny_image() -> None:
    image = torch.arange(1, 9).reshape(1, 1, 2, 4)
    swapped = [copy.squeeze().tolist() for copy in shifted(image, "cutperm")]
    assert swapped == [
        [[1, 2, 3, 4], [5, 6, 7, 8]],
        [[3, 4, 1, 2], [7, 8, 5, 6]],
        [[5, 6, 7, 8], [1, 2, 3, 4]],
        [[7, 8, 5, 6], [3, 4, 1, 2]],
    ]
    odd = torch.arange(3).reshape(1, 1, 1, 3)
    assert shifted(odd, "cutperm")[1].flatten().tolist() == [1, 2, 0]


@pytest.mark.parametrize("shift", ["rotation", "cutperm"])
def test_shifts_permute_the_pixels_of_each_image_and_follow_each_other(shift: contrastive.Shift) -> None:
    images = torch.rand(3, 2, 5, 5)
    copies = shifted(images, shift)
    assert copies.shape == (3 * SHIFTS, 2, 5, 5)
    for number, copy in enumerate(copies):
        assert torch.equal(copy.flatten().sort()[0], images[number // SHIFTS].flatten().sort()[0])
    assert torch.equal(copies[::SHIFTS], images)
    assert len(torch.unique(copies.flatten(1), dim=0)) == 3 * SHIFTS


def normalised(count: int, seed: int = 0) -> torch.Tensor:
    pixels = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return (pixels - MEAN[0]) / STD[0]


def test_the_loss_of_simclr_is_that_of_two_views_of_every_image() -> None:
    """Views that change nothing: the pairs are known, and the network sees exactly the images that came."""
    torch.manual_seed(0)
    images = normalised(5)
    learner = Contrastive(Classifier(0), MEAN, STD, temperature=0.3, views=UNCHANGED)
    network = learner.build(SHAPE).eval()
    loss, right = learner.loss(network, images, torch.zeros(5), 0.0)
    points = network(images).detach().double().numpy()
    assert loss.item() == pytest.approx(naive_nt_xent(np.concatenate([points, points]), 0.3), rel=1e-5)
    assert right == 5


@pytest.mark.parametrize("shift", ["rotation", "cutperm"])
def test_the_loss_of_csi_takes_shifts_for_other_images_and_tells_them(shift: contrastive.Shift) -> None:
    torch.manual_seed(0)
    images = normalised(3)
    learner = Contrastive(Classifier(0), MEAN, STD, views=UNCHANGED, shift=shift, shift_weight=0.7)
    network = learner.build(SHAPE).eval()
    loss, _ = learner.loss(network, images, torch.zeros(3), 0.0)
    points, told = [], []
    for image in images:
        for number, copy in enumerate(shifted(image[None], shift)):
            projection, logits = network(copy[None], shifts=True)
            points.append(projection[0].detach().double().numpy())
            told.append(-logits[0].log_softmax(0)[number].item())
    expected = naive_nt_xent(np.stack(points * 2), 0.5) + 0.7 * np.mean(told)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("learner", LEARNERS)
def test_one_step_is_finite_and_reaches_every_weight(learner: Contrastive, precision: config.Precision) -> None:
    torch.manual_seed(0)
    network = learner.build(SHAPE)
    images = normalised(16)
    with autocast(torch.device("cpu"), precision):
        loss, right = learner.loss(network, images, torch.zeros(16), 0.0)
    loss.backward()
    assert loss.dtype == torch.float32 and 0 < loss < 20 and 0 <= right <= 16
    for name, weight in network.named_parameters():  # one without a gradient would stop a data-parallel team
        assert weight.grad is not None and weight.grad.isfinite().all() and weight.grad.abs().max() > 0, name


def test_low_precision_does_not_coarsen_the_similarities() -> None:
    points = torch.nn.functional.normalize(torch.randn(64, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    with autocast(torch.device("cpu"), "bfloat16"):
        loss = nt_xent(points, 0.05)[0]
    assert loss.item() == pytest.approx(naive_nt_xent(points.double().numpy(), 0.05), rel=1e-5)


def test_the_views_are_made_of_pixels_in_0_to_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dark and a light picture; on normalised values a clamp at 0 would lose the dark one's contrast."""
    seen = []
    monkeypatch.setattr(contrastive.views, "changed", lambda pixels, views: seen.append(pixels) or pixels)
    pixels = torch.stack([torch.linspace(0, 0.2, 64), torch.linspace(0.8, 1, 64)]).reshape(2, 1, 8, 8)
    learner = Contrastive(Classifier(0), MEAN, STD, views=UNCHANGED)
    learner.loss(learner.build(SHAPE), (pixels - MEAN[0]) / STD[0], torch.zeros(2), 0.0)
    torch.testing.assert_close(seen[0], pixels.repeat(2, 1, 1, 1))


@pytest.mark.parametrize(("name", "shape"), [("small_cnn", SHAPE), ("resnet18", (16, 16, 3))])
def test_its_signals(name: str, shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    channels = shape[2]
    learner = Contrastive(Classifier(0, name), MEAN * channels, STD * channels, projection=32, shift="rotation")
    network = learner.build(shape).eval()
    images = torch.randn(3, channels, *shape[:2])
    with torch.inference_mode():
        found = signals.read(network, images, ["features", "projection"])
        maps = network.backbone.forward_features(images)
        features = network.backbone.forward_head(maps, pre_logits=True)
        torch.testing.assert_close(found["features"], features)
        hidden = torch.relu(features @ network.projection[0].weight.T + network.projection[0].bias)
        plain = hidden @ network.projection[2].weight.T + network.projection[2].bias
        torch.testing.assert_close(found["projection"], plain / plain.norm(dim=1, keepdim=True))
        folded = fold_batchnorm(network, shape)
        assert folded is not network
        torch.testing.assert_close(signals.read(folded, images, ["projection"])["projection"], found["projection"])


@pytest.mark.parametrize("shift", ["rotation", "cutperm"])
def test_an_image_is_scored_by_its_mean_projection_over_views_and_in_each_shift(shift: contrastive.Shift) -> None:
    """Against one image, one shift and one view at a time; an image's views do not depend on those beside it."""
    torch.manual_seed(0)
    shown = config.Views(jitter=0.5)
    network = Contrastive(Classifier(0), MEAN, STD, views=shown, shift=shift).build(SHAPE).eval()
    network.looks = Looks(count=3, share=0.54)
    images = normalised(4)
    with torch.inference_mode():
        found = signals.read(network, images, ["shift_projections", "view_projections", "projection"])
        for i, image in enumerate(images):
            expected = torch.zeros(SHIFTS, 128)
            for view in range(3):
                generator = torch.Generator().manual_seed(view)
                pixels = contrastive.views.flipped(image[None] * STD[0] + MEAN[0], 0.5, generator)
                state = generator.get_state()
                for number, copy in enumerate(shifted(pixels, shift)):
                    generator.set_state(state)
                    whole = shown.model_copy(update={"smallest_crop": 0.54})
                    made = contrastive.views.changed(copy[None], whole, generator, 0.54)
                    features = network.backbone((made - MEAN[0]) / STD[0])
                    expected[number] += network.projection(features)[0] / 3
            torch.testing.assert_close(found["shift_projections"][i], expected, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(found["view_projections"][i], expected[0], rtol=1e-4, atol=1e-5)


def test_a_network_without_shifts_gives_one_row_an_image() -> None:
    network = SIMCLR.build(SHAPE).eval()
    network.looks = Looks(count=2)
    with torch.inference_mode():
        found = signals.read(network, normalised(3), ["shift_projections", "view_projections"])
    assert found["shift_projections"].shape == (3, 1, 128)
    torch.testing.assert_close(found["shift_projections"][:, 0], found["view_projections"])
    with pytest.raises(ValueError, match="views must be at least 1 and crop in 0 … 1, got 0 and 0.5"):
        Looks(0, 0.5)


def test_a_classifier_has_no_projection() -> None:
    with pytest.raises(ConfigError, match="SmallCNN has no projection: take an encoder that `openal-ray pretrain`"):
        signals.read(Classifier(3).build(SHAPE).eval(), torch.zeros(1, 1, 8, 8), ["projection"])


def test_rotation_of_images_that_are_not_square_is_refused() -> None:
    with pytest.raises(ConfigError, match="rotation turns square images, got 8×12; choose cutperm"):
        Contrastive(Classifier(0), MEAN, STD, shift="rotation").build((8, 12, 1))
    assert Contrastive(Classifier(0), MEAN, STD, shift="cutperm").build((8, 12, 1))


def test_the_reader_takes_the_same_weights() -> None:
    learner = Contrastive(Classifier(0, checkpoint="somewhere.pt"), MEAN, STD, projection=16, shift="rotation")
    reader = learner.reader()
    assert reader.backbone.checkpoint is None and reader.projection == 16
    assert list(reader.build(SHAPE).state_dict()) == list(LEARNERS[1].build(SHAPE).state_dict())
