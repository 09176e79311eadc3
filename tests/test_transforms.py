"""Pixels equal those of the field's reference transforms, and stay what they are."""

from __future__ import annotations

import hashlib
from importlib.metadata import version

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as reference

from benchmark.api import Crop
from benchmark.backbones.preprocessing import square
from benchmark.features.transforms import Pipeline, _box, centre, random_view, view_rng

SIZES = [(300, 200), (200, 300), (224, 224), (64, 64), (37, 91), (500, 375), (225, 224), (33, 224)]


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Noise over a gradient: edges of every kind, so that a wrong filter or order shows."""
    rng = np.random.default_rng(seed)
    slope = np.linspace(0, 200, width)[None, :, None] + np.linspace(0, 40, height)[:, None, None]
    return Image.fromarray(
        np.clip(slope + rng.integers(0, 60, (height, width, 3)), 0, 255).astype(np.uint8)
    )


def torchvisions(source: Image.Image, image_px: int) -> torch.Tensor:
    """The field's reference for testing: Resize, then CenterCrop, on a Pillow image."""
    expected = reference.center_crop(
        reference.resize(source, image_px, reference.InterpolationMode.BICUBIC),
        [image_px, image_px],
    )
    return torch.from_numpy(np.asarray(expected).copy())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("image_px", [32, 224])
def test_the_centre_crop_is_torchvisions_but_for_rounding(
    size: tuple[int, int], image_px: int
) -> None:
    ours, expected = (
        centre(picture(*size), square(image_px)),
        torchvisions(picture(*size), image_px),
    )
    distance = (ours.int() - expected.int()).abs()
    assert int(distance.max()) <= 2
    assert float((distance > 0).float().mean()) < 0.02  # of noise; of photographs 0.3 % differ


@pytest.mark.parametrize("size", [(224, 224), (224, 300), (33, 224), (100, 250)])
def test_the_centre_crop_is_torchvisions_exactly_where_nothing_is_resized_or_the_picture_is_tall(
    size: tuple[int, int],
) -> None:
    assert torch.equal(centre(picture(*size), square(224)), torchvisions(picture(*size), 224))


@pytest.mark.parametrize("size", SIZES)
def test_a_view_equals_torchvisions_resized_crop_of_the_same_box(size: tuple[int, int]) -> None:
    source, crop = picture(*size), Crop(min_scale=0.08, flip=False)
    left, top, right, bottom = _box(source.size, crop.min_scale, view_rng("a", 0, 0))
    bicubic = reference.InterpolationMode.BICUBIC
    expected = reference.resized_crop(
        source, top, left, bottom - top, right - left, [48, 48], bicubic
    )
    assert torch.equal(
        random_view(source, square(48), crop, view_rng("a", 0, 0)),
        torch.from_numpy(np.asarray(expected).copy()),
    )


def test_boxes_lie_inside_and_are_distributed_as_torchvisions() -> None:
    ours, theirs = np.random.default_rng(0), picture(100, 80)
    boxes = [_box((100, 80), 0.08, ours) for _ in range(3000)]
    assert all(
        0 <= left < right <= 100 and 0 <= top < bottom <= 80 for left, top, right, bottom in boxes
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        reference_boxes = [
            RandomResizedCrop.get_params(theirs, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(3000)
        ]
    for mine, other in (
        ([(r - x) * (b - y) for x, y, r, b in boxes], [h * w for _, _, h, w in reference_boxes]),
        ([(r - x) / (b - y) for x, y, r, b in boxes], [w / h for _, _, h, w in reference_boxes]),
        ([x for x, *_ in boxes], [x for _, x, _, _ in reference_boxes]),
    ):
        assert ks_2samp(mine, other).pvalue > 0.01


def test_a_picture_too_narrow_for_any_aspect_gives_its_largest_central_box() -> None:
    left, top, right, bottom = _box((400, 10), 0.99, np.random.default_rng(0))
    assert (bottom - top, right - left) == (10, 13)
    assert abs((left + right) / 2 - 200) <= 1


def test_a_view_depends_on_its_picture_seed_and_number_alone() -> None:
    source, crop = picture(60, 50), Crop()
    once = random_view(source, square(32), crop, view_rng("digest", 3, 5))
    assert torch.equal(once, random_view(source, square(32), crop, view_rng("digest", 3, 5)))
    for other in (("other", 3, 5), ("digest", 4, 5), ("digest", 3, 6)):
        assert not torch.equal(once, random_view(source, square(32), crop, view_rng(*other)))


def test_half_of_the_views_are_mirrored_and_none_where_that_is_switched_off() -> None:
    source = picture(40, 40)
    plain = [
        random_view(source, square(40), Crop(1.0, flip=False), view_rng("m", 0, v))
        for v in range(200)
    ]
    mixed = [
        random_view(source, square(40), Crop(1.0, flip=True), view_rng("m", 0, v))
        for v in range(200)
    ]
    mirrored = [
        not torch.equal(a, b) and torch.equal(a.flip(1), b)
        for a, b in zip(plain, mixed, strict=True)
    ]
    same = [torch.equal(a, b) for a, b in zip(plain, mixed, strict=True)]
    assert sum(mirrored) + sum(same) >= 190  # a crop can be its own mirror image only by accident
    assert 70 <= sum(mirrored) <= 130


def test_normalisation_equals_torchvisions_bit_by_bit_and_may_write_into_a_buffer() -> None:
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    pixels_NHWC = torch.stack([centre(picture(50, 40, seed), square(32)) for seed in range(3)])
    expected = torch.stack(
        [
            reference.normalize(each.permute(2, 0, 1).float().div(255), mean, std)
            for each in pixels_NHWC
        ]
    )
    buffer_NCHW = torch.full((3, 3, 32, 32), 9.0)
    assert Pipeline(square(32, mean, std)).normalise(pixels_NHWC, buffer_NCHW) is buffer_NCHW
    assert torch.equal(buffer_NCHW, expected)
    assert torch.equal(Pipeline(square(32, mean, std)).normalise(pixels_NHWC), expected)


def test_normalisation_is_per_channel_in_float32() -> None:
    pixels_NHWC = torch.tensor([[[[0, 128, 255]]]], dtype=torch.uint8)
    out_NCHW = Pipeline(square(1, (0.5, 0.25, 0.0), (0.5, 0.5, 2.0))).normalise(pixels_NHWC)
    assert out_NCHW.shape == (1, 3, 1, 1)
    assert torch.allclose(out_NCHW.flatten(), torch.tensor([-1.0, (128 / 255 - 0.25) / 0.5, 0.5]))


@pytest.mark.skipif(
    int(version("pillow").split(".")[0]) < 13, reason="pinned for Pillow 13's order of passes"
)
def test_the_pixels_of_this_transform_version_are_pinned() -> None:
    """If this fails, pixels have changed: raise the number in grid.transform_version, so that no
    stored feature is reused.
    """
    views = [
        random_view(picture(310, 470, seed), square(64), Crop(), view_rng("pinned", seed, 0))
        for seed in range(8)
    ]
    centres = [centre(picture(310, 170, seed), square(64)) for seed in range(8)]
    digest = hashlib.sha256(torch.stack(views + centres).numpy().tobytes()).hexdigest()
    assert digest[:16] == "59580828aec687b6"
