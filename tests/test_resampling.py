"""The device pipeline on a CPU: its cuts are Pillow's bit by bit, whatever the batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark.api import Crop
from benchmark.backbones.preprocessing import square
from benchmark.features import resampling
from benchmark.features.resampling import cut_pictures
from benchmark.features.transforms import (
    PILLOW,
    Cut,
    centre,
    centre_cut,
    random_cut,
    view_rng,
)

# enlarged and reduced, wide and tall; of the tall ones Pillow 13 resizes the columns first
SIZES = [
    (300, 200), (200, 300), (224, 224), (64, 64), (37, 91), (500, 375), (225, 224), (33, 224),
    (100, 250), (150, 700), (900, 80), (1, 1), (2, 40),
]  # fmt: skip


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    slope = np.linspace(0, 200, width)[None, :, None] + np.linspace(0, 40, height)[:, None, None]
    noise = rng.integers(-60, 100, (height, width, 3))
    return Image.fromarray(np.clip(slope + noise, 0, 255).astype(np.uint8))


def pixels_of(source: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(source))


def pillows(source: Image.Image, cut: Cut, image_px: int) -> torch.Tensor:
    view = source.crop(cut.box).resize(cut.size, Image.Resampling.BICUBIC)
    left, top = cut.corner
    window = view.crop((left, top, left + image_px, top + image_px))
    return pixels_of(window.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if cut.mirrored else window)


def all_cuts(image_px: int, views: int) -> list[list[Cut]]:
    return [
        [centre_cut(size, square(image_px))]
        + [
            random_cut(size, square(image_px), Crop(), view_rng("d", i, view))
            for view in range(views)
        ]
        for i, size in enumerate(SIZES)
    ]


@pytest.mark.parametrize(("image_px", "views"), [(36, 12), (224, 2)])
def test_cuts_are_pillows_bit_by_bit(image_px: int, views: int) -> None:
    pictures, cuts = [picture(*size) for size in SIZES], all_cuts(image_px, views)
    ours = cut_pictures([pixels_of(each) for each in pictures], cuts, square(image_px))
    expected = [
        pillows(each, cut, image_px)
        for each, own in zip(pictures, cuts, strict=True)
        for cut in own
    ]
    assert torch.equal(ours, torch.stack(expected))
    assert any(cut.columns_first() for own in cuts for cut in own) == (PILLOW >= 13)
    assert any(cut.mirrored for own in cuts for cut in own)


@pytest.mark.parametrize("size", [(640, 480), (3000, 2000), (700, 3500)])
def test_large_pictures_are_pillows_too(size: tuple[int, int]) -> None:
    source, cut = picture(*size), centre_cut(size, square(128))
    ours = cut_pictures([pixels_of(source)], [[cut]], square(128))[0]
    distance = (ours.int() - pillows(source, cut, 128).int()).abs()
    assert int(distance.max()) == 0


def test_beyond_sixteen_times_a_pixel_may_differ_by_one() -> None:
    source = picture(2400, 1800)
    cut = centre_cut(source.size, square(32))
    ours = cut_pictures([pixels_of(source)], [[cut]], square(32))[0]
    assert int((ours.int() - pillows(source, cut, 32).int()).abs().max()) <= 1


def test_a_cut_does_not_depend_on_its_group(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [pixels_of(picture(*size)) for size in SIZES]
    cuts = all_cuts(36, 3)
    batched = cut_pictures(pictures, cuts, square(36))
    monkeypatch.setitem(resampling.GROUP_BYTES, "cpu", 1)
    assert torch.equal(cut_pictures(pictures, cuts, square(36)), batched)


def test_the_hosts_centre_is_off_by_at_most_two_in_few_pixels() -> None:
    for size in SIZES:
        source = picture(*size)
        ours = cut_pictures([pixels_of(source)], [[centre_cut(size, square(224))]], square(224))[0]
        distance = (centre(source, square(224)).int() - ours.int()).abs()
        assert int(distance.max()) <= 2
        assert float((distance > 0).float().mean()) < 0.02


@pytest.mark.gpu
@pytest.mark.parametrize("image_px", [36, 224])
def test_a_gpu_cuts_the_same_pixels(image_px: int) -> None:
    pictures, cuts = [pixels_of(picture(*size)) for size in SIZES], all_cuts(image_px, 4)
    changes: list[dict[str, Any]] = [{}, {"interpolation": "bilinear"}, {"fill": (9, 8, 7)}]
    for change in changes:
        wanted = replace(square(image_px), **change)
        on_gpu = cut_pictures([each.cuda() for each in pictures], cuts, wanted)
        assert torch.equal(on_gpu.cpu(), cut_pictures(pictures, cuts, wanted))
