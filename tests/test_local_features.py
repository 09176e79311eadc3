"""Features of single places of an image: what the towers give, and how they are stored."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmark.api import Crop, ImageSet, UserError, unit
from benchmark.backbones import clip
from benchmark.backbones import local_features as formula
from benchmark.backbones.local_features import attended, local_features
from benchmark.compute.episode import problem
from benchmark.compute.resources import Resources
from benchmark.conformance import toy
from benchmark.features import feature_store
from benchmark.features.feature_store import Kind, Stopwatch, Views, open_store, space
from benchmark.grid import Cell
from tests.test_prolip import resnet

CELL = Cell(method="coop", dataset="tiny_digits", shots=1, seed=1, backbone="tiny")


def pixels(size: int) -> Tensor:
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(2))


def test_places_of_a_vit_are_its_patch_tokens_projected_as_the_class_token_is() -> None:
    backbone = toy.backbone()
    visual, tower = backbone.model.visual, backbone.vision
    x_NLE = tower.start(pixels(toy.IMAGE_PX))
    for block in tower.blocks:
        x_NLE = block(x_NLE)
    x_NLE = (x_NLE - x_NLE.mean(-1, keepdim=True)) / (
        x_NLE.var(-1, unbiased=False, keepdim=True) + visual.ln_post.eps
    ).sqrt()
    joint_NLD = (x_NLE * visual.ln_post.weight + visual.ln_post.bias) @ visual.proj
    local_NPD = backbone.encode_local(pixels(toy.IMAGE_PX))
    assert local_NPD.shape == (3, 4, backbone.dim)
    torch.testing.assert_close(local_NPD, unit(joint_NLD[:, 1:]))
    whole_ND = backbone.encode_pixels(pixels(toy.IMAGE_PX))
    torch.testing.assert_close(unit(joint_NLD[:, 0]), whole_ND)


def by_hand(pool: nn.Module, map_NCHW: Tensor) -> np.ndarray:
    """Attention of every place to all places and their mean, head by head."""
    weights = {name: each.double().numpy() for name, each in pool.named_parameters()}
    place_NPC = map_NCHW.double().flatten(2).transpose(1, 2).numpy()
    x_NLC = np.concatenate([place_NPC.mean(1, keepdims=True), place_NPC], 1)
    x_NLC = x_NLC + weights["positional_embedding"]
    q, k, v = (
        x_NLC @ weights[f"{part}_proj.weight"].T + weights[f"{part}_proj.bias"] for part in "qkv"
    )
    out_NLC, size = np.zeros_like(q), q.shape[2] // pool.num_heads
    for first in range(0, q.shape[2], size):
        head = slice(first, first + size)
        score_NLL = np.exp(q[:, :, head] @ k[:, :, head].transpose(0, 2, 1) / size**0.5)
        out_NLC[:, :, head] = score_NLL / score_NLL.sum(2, keepdims=True) @ v[:, :, head]
    return out_NLC @ weights["c_proj.weight"].T + weights["c_proj.bias"]


def test_places_of_a_resnet_ask_its_pool_as_the_mean_of_all_places_does() -> None:
    backbone = resnet(64)
    visual, maps = backbone.model.visual, list[Tensor]()
    before = clip.state_digest(backbone.model)
    hook = visual.attnpool.register_forward_pre_hook(lambda _, given: maps.append(given[0]))
    whole_ND = visual(pixels(64))
    hook.remove()
    ours_NLD = attended(visual.attnpool, maps[0])
    assert ours_NLD.shape == (3, 1 + 4, 16)
    np.testing.assert_allclose(ours_NLD, by_hand(visual.attnpool, maps[0]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours_NLD[:, 0], whole_ND)
    torch.testing.assert_close(backbone.encode_local(pixels(64)), unit(ours_NLD[:, 1:]))
    assert clip.state_digest(backbone.model) == before


def test_stored_places_are_the_towers_own(tmp_path: Path) -> None:
    given = problem(Resources(features=open_store(tmp_path)), CELL).episode
    images, crop = given.support.images, Crop(0.5)
    assert images.local().shape == (len(images), 36, 96)
    with torch.no_grad():
        by_hand_NPD = given.backbone.encode_local(images.decode(torch.arange(3), None, None))
    torch.testing.assert_close(images.local()[:3], by_hand_NPD)
    view_VNPD = images.local_views(2, 0, crop)
    assert view_VNPD.shape == (2, len(images), 36, 96)
    assert not torch.allclose(view_VNPD[0], view_VNPD[1])
    folders = {path.name for path in tmp_path.glob("*/*") if path.is_dir()}
    assert {"local1-centre", "local1-views2-seed0-scale0.5-flip"} <= folders
    again = problem(Resources(features=open_store(tmp_path)), CELL)
    assert torch.equal(again.episode.support.images.local_views(2, 0, crop), view_VNPD)
    assert again.timer.encoding_s == 0


@pytest.mark.parametrize("views", [None, (2, 0, Crop())])
@pytest.mark.parametrize(("double", "dtype"), [(False, torch.float16), (True, torch.float64)])
def test_places_stay_in_memory_as_they_are_stored(
    double: bool, dtype: torch.dtype, views: Views | None, tmp_path: Path
) -> None:
    rows_NPD = unit(torch.randn(3, 4, 5)).to(dtype)
    where = space("0" * 16, views, double=double, kind="local")
    kept = open_store(tmp_path).rows(where, list("abc"), lambda _: iter([rows_NPD]), Stopwatch())
    assert kept.dtype == dtype
    assert torch.equal(kept, rows_NPD)


def test_another_formula_of_places_reads_no_rows_of_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Features of other kinds stay where they are."""
    kinds = get_args(Kind)
    before = {kind: space("0" * 16, None, kind=kind).folder for kind in kinds}
    assert before["pooled"] == f"{'0' * 16}/centre"
    assert before["unprojected"] == f"{'0' * 16}/unprojected-centre"
    monkeypatch.setattr(formula, "VERSION", 2)
    after = {kind: space("0" * 16, None, kind=kind).folder for kind in kinds}
    assert {kind for kind in kinds if after[kind] != before[kind]} == {"local"}


def test_a_file_is_written_before_many_numbers_wait_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_store, "FILE_NUMBERS", 40)
    where, digests = space("0" * 16, None, kind="local"), list("abcd")
    parts = torch.rand(4, 3, 7).half().split(1)
    open_store(tmp_path).rows(where, digests, lambda _: iter(parts), Stopwatch())
    assert len(list((tmp_path / where.folder).glob("*.safetensors"))) == 2


def test_towers_without_places_and_images_without_pixels_are_refused_in_a_sentence() -> None:
    with pytest.raises(UserError, match="gives no features of single places"):
        local_features(SimpleNamespace(), "other", pixels(8))
    with pytest.raises(UserError, match="gives no features of single places"):
        local_features(SimpleNamespace(_embeds=1, attn_pool=2), "coca", pixels(8))
    with pytest.raises(UserError, match="built from features"):
        ImageSet.from_features(torch.ones(2, 3)).local()
    with pytest.raises(UserError, match="built from features"):
        toy.feature_episode().backbone.encode_local(pixels(8))
