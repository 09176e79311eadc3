"""What an image tower's projection reads, and ProLIP, which trains the projection."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from adapters import prolip
from benchmark import methods
from benchmark.api import Crop, Episode, ImageSet, Labelled, UserError, unit
from benchmark.backbones import clip
from benchmark.compute.episode import problem
from benchmark.compute.resources import Resources
from benchmark.conformance import toy
from benchmark.features.feature_store import open_store
from benchmark.grid import Cell
from tests import features64

WIDTH, EPOCHS = 24, 30


def resnet(size: int = 32) -> clip.OpenClip:
    """A small CLIP with a ResNet, whose projection has a bias."""
    torch.manual_seed(1)
    vision = {"image_size": size, "layers": (1, 1, 1, 1), "width": 8, "patch_size": None}
    text = {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1}
    with torch.random.fork_rng():
        model = open_clip.CLIP(16, vision_cfg=vision, text_cfg=text)
    torch.nn.init.normal_(model.visual.attnpool.c_proj.bias)
    return clip.from_model(model, "small")


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_a_tower_opened_before_its_projection_leads_to_the_same_features(kind: str) -> None:
    backbone, size = (toy.backbone(), toy.IMAGE_PX) if kind == "vit" else (resnet(), 32)
    pixels_NCHW = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(2))
    before = clip.state_digest(backbone.model)
    weight_WD, bias_D = backbone.projection
    image_NW = backbone.encode_unprojected(pixels_NCHW)
    assert image_NW.shape == (3, len(weight_WD))
    assert (bias_D is None) == (kind == "vit")
    moved_ND = image_NW @ weight_WD + (0 if bias_D is None else bias_D)
    torch.testing.assert_close(unit(moved_ND), backbone.encode_pixels(pixels_NCHW))
    assert clip.state_digest(backbone.model) == before


def test_what_the_projection_reads_is_stored_apart_and_once(tmp_path: Path) -> None:
    resources = Resources(features=open_store(tmp_path))
    cell = Cell(method="prolip", dataset="tiny_digits", shots=1, seed=1, backbone="tiny")
    given = problem(resources, cell).episode
    images, (weight_WD, _) = given.support.images, given.backbone.projection
    torch.testing.assert_close(unit(images.unprojected() @ weight_WD), images.features())
    crop = Crop(0.5)
    view_VNW, view_VND = images.unprojected_views(2, 0, crop), images.views(2, 0, crop)
    torch.testing.assert_close(unit(view_VNW @ weight_WD), view_VND)
    folders = {path.name for path in tmp_path.glob("*/*") if path.is_dir()}
    assert {"centre", "unprojected-centre"} < folders
    again = problem(Resources(features=open_store(tmp_path)), cell)
    assert torch.equal(again.episode.support.images.unprojected(), images.unprojected())
    assert again.timer.encoding_s == 0


def image_set(images: ImageSet, weight_WD: Tensor) -> ImageSet:
    """Images of features64 as what a projection reads: features that it leads to."""
    back_DW = torch.linalg.pinv(weight_WD)

    def unprojected(views: tuple[int, int, Crop] | None) -> Tensor:
        return 3.0 * images.encode(views) @ back_DW

    return replace(images, encode_unprojected=unprojected)


def episode(counts: tuple[int, ...] = (4, 2, 6), bias: float = 0.0) -> Episode:
    given = features64.episode(counts)
    rng = torch.Generator().manual_seed(4)
    weight_WD = torch.randn(WIDTH, 16, generator=rng, dtype=torch.float64)
    bias_D = torch.full((16,), bias, dtype=torch.float64) if bias else None
    known = {name: getattr(given.backbone, name) for name in ("device", "dtype", "logit_scale")}
    backbone: Any = SimpleNamespace(**known, projection=(weight_WD, bias_D))
    images = image_set(given.support.images, weight_WD)
    support = Labelled(images, given.support.labels_N)
    return replace(given, backbone=backbone, support=support)


def queries(given: Episode) -> ImageSet:
    return image_set(features64.queries(), given.backbone.projection[0])


def logits(given: Episode, image_NW: Tensor, moved_WD: Tensor) -> Tensor:
    bias_D = given.backbone.projection[1]
    joint_ND = image_NW @ moved_WD + (0 if bias_D is None else bias_D)
    return features64.SCALE * F.normalize(joint_ND, dim=1) @ given.text_features().T


@pytest.mark.parametrize("bias", [0.0, 0.1])
def test_prolip_is_its_plain_loop(bias: float) -> None:
    """Full batches, view after view, with torch's own optimiser on the projection itself."""
    given = episode(bias=bias)
    start_WD = given.backbone.projection[0]
    moved_WD = start_WD.clone().requires_grad_()
    adam = torch.optim.Adam([moved_WD], lr=1.0)
    view_VNW = given.support.images.unprojected_views(16, 0, Crop(0.5))
    for step in range(EPOCHS):
        adam.param_groups[0]["lr"] = 0.5e-3 * (1 + math.cos(math.pi * step / EPOCHS))
        adam.zero_grad()
        loss = F.cross_entropy(logits(given, view_VNW[step % 16], moved_WD), given.support.labels_N)
        (loss + (moved_WD - start_WD).square().sum() / 4).backward()  # 4 shots
        adam.step()
    fitted = methods.load("prolip", {"epochs": str(EPOCHS)})
    ours_QK = fitted.fit(given)(queries(given))
    expected_QK = logits(given, queries(given).unprojected(), moved_WD.detach())
    torch.testing.assert_close(ours_QK, expected_QK, rtol=1e-6, atol=1e-6)
    assert given.notes["trainable_params"] == WIDTH * 16


def test_a_heavy_constraint_keeps_prolip_at_zero_shot() -> None:
    given = episode()
    zero_QK = features64.SCALE * queries(given).features() @ given.text_features().T
    apart = [
        float((methods.load("prolip", params).fit(given)(queries(given)) - zero_QK).norm())
        for params in ({"constraint": 0}, {}, {"constraint": 1e6}, {"epochs": "0"})
    ]
    assert apart[0] > apart[1] > 10 * apart[2]
    assert apart[3] < 1e-9


def test_the_gradient_of_the_projection_is_that_of_finite_differences() -> None:
    given = episode(bias=0.1)
    form = prolip.projection(given.backbone)
    image_NW, labels_N = given.support.images.unprojected(), given.support.labels_N
    rng = torch.Generator().manual_seed(6)
    change_1WD = 0.1 * torch.randn(1, WIDTH, 16, generator=rng, dtype=torch.float64)

    def loss(change_1WD: Tensor) -> Tensor:
        cosine_NK = form.cosines(image_NW, change_1WD, given.text_features())[:, 0]
        penalty = form.penalty(change_1WD, form.target(given, image_NW, labels_N))
        return F.cross_entropy(features64.SCALE * cosine_NK, labels_N) + penalty.sum()

    assert torch.autograd.gradcheck(loss, change_1WD.requires_grad_())


def test_towers_without_an_open_projection_are_refused_in_a_sentence() -> None:
    with pytest.raises(UserError, match="does not end in a projection that can be opened here"):
        clip.projection(SimpleNamespace(), "other")
    with pytest.raises(UserError, match="built from features"):
        methods.load("prolip").fit(toy.feature_episode())
