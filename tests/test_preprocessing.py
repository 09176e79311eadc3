"""Pictures are made as a model's own library makes them, on the host and on the device, and what
is not CLIP's own way is part of what names a result.
"""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from packaging.version import Version
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from benchmark.api import Crop
from benchmark.backbones import clip, image_only, preprocessing, weights
from benchmark.backbones.preprocessing import Preprocessing, from_open_clip, from_timm, square
from benchmark.errors import UserError
from benchmark.features.resampling import cut_pictures
from benchmark.features.transforms import Pipeline, centre, centre_cut, random_cut, view_rng

SIZES = [(400, 200), (200, 400), (60, 30), (333, 217), (90, 250), (48, 48)]  # 2:1 first
BICUBIC_BOXES = Version("1.0.31")  # of timm
HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
ZERO = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def picture(width: int, height: int) -> Image.Image:
    """A slope and stripes: a wrong filter, box or corner shows."""
    rng = np.random.default_rng(width * height)
    slope = np.linspace(0, 160, width)[None, :, None] + np.linspace(0, 60, height)[:, None, None]
    noise = rng.integers(-30, 30, (height // 2 + 1, width // 2 + 1, 3)).repeat(2, 0).repeat(2, 1)
    return Image.fromarray(np.clip(slope + noise[:height, :width], 0, 255).astype(np.uint8))


def made(source: Image.Image, wanted: Preprocessing) -> dict[str, Tensor]:
    """pixels_CHW of both pipelines."""
    device_NHWC = cut_pictures(
        [torch.from_numpy(np.array(source))], [[centre_cut(source.size, wanted)]], wanted
    )
    pipeline = Pipeline(wanted)
    return {
        "host": pipeline.normalise(centre(source, wanted)[None])[0],
        "device": pipeline.normalise(device_NHWC)[0],
    }


def require_equal(wanted: Preprocessing, own: Any) -> None:
    """Within a hundredth of the range of normalised pixels, and mostly exactly."""
    width_C11 = 1 / torch.tensor(wanted.std)[:, None, None]
    for size in SIZES:
        expected_CHW = own(picture(*size))
        for where, ours_CHW in made(picture(*size), wanted).items():
            assert ours_CHW.shape == expected_CHW.shape
            apart_CHW = (ours_CHW - expected_CHW).abs() / width_C11
            assert float(apart_CHW.max()) < 0.01, (where, size)
            most = 0.05 if where == "host" else 0.0
            assert float((apart_CHW > 1e-6).float().mean()) <= most, (where, size)


@pytest.mark.parametrize("size", [32, (32, 32), (32, 48)], ids=str)
@pytest.mark.parametrize("fit", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("more", [{}, HALF, {"fill_color": 90}], ids=["clip", "half", "fill"])
def test_pictures_are_open_clips_own(
    size: int | tuple[int, int], fit: str, more: dict[str, Any]
) -> None:
    for interpolation in ("bicubic", "bilinear", "random"):
        config = {"resize_mode": fit, "interpolation": interpolation, **more}
        own = image_transform_v2(PreprocessCfg(size=size, **config), is_train=False)
        require_equal(from_open_clip(config, size), own)


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("crop_pct", [1.0, 0.9, 0.875])
@pytest.mark.parametrize("size", [(32, 32), (48, 32)], ids=str)
def test_pictures_are_timms_own(mode: str, crop_pct: float, size: tuple[int, int]) -> None:
    # older releases resize to a box that is no square bilinearly, whatever is configured
    bilinear = mode == "center" and len({*size}) > 1 and Version(timm.__version__) < BICUBIC_BOXES
    for interpolation in ("bilinear",) if bilinear else ("bicubic", "bilinear"):
        config = {
            "input_size": (3, *size),
            "crop_pct": crop_pct,
            "crop_mode": mode,
            "interpolation": interpolation,
            **HALF,
        }
        known = timm.data.resolve_data_config(pretrained_cfg=config)
        require_equal(from_timm(config), timm.data.create_transform(**known))


def test_every_pretrained_configuration_of_both_libraries_is_known() -> None:
    for arch, tag in open_clip.list_pretrained():
        own = clip._recipe(weights.Source(arch, tag, Path("unused")))[1]["force_preprocess_cfg"]
        known = open_clip.get_pretrained_cfg(arch, tag)
        wanted = from_open_clip(own, 224)
        assert wanted.fit == (known.get("resize_mode") or "shortest")
        assert wanted.interpolation == (known.get("interpolation") or "bicubic")
    for name in timm.list_pretrained():
        config = timm.models.get_pretrained_cfg(name)
        if config.input_size[0] == 3:
            from_timm(config.to_dict())


def test_another_filter_or_number_of_channels_is_refused_in_a_sentence() -> None:
    with pytest.raises(UserError, match=r"made by 'lanczos' resizing.*take another model"):
        from_timm({"input_size": (3, 32, 32), "interpolation": "lanczos"})
    with pytest.raises(UserError, match="reads 1 channels, and pictures have 3"):
        from_timm({"input_size": (1, 32, 32)})


@pytest.mark.parametrize("name", ["ViT-B-16-SigLIP", "MobileCLIP-S1", "ViT-B-16"])
def test_a_model_that_open_clip_builds_is_shown_what_its_own_transform_makes(name: str) -> None:
    """Weights are random; what the tag says arrives as it does when open_clip fetches them."""
    (tag, *_) = (t for a, t in open_clip.list_pretrained() if a == name)
    source = weights.Source(name, tag, Path("unused"))
    visual = torch.nn.Identity()
    visual.image_size = open_clip.get_model_config(name)["vision_cfg"]["image_size"]
    own = open_clip.get_pretrained_cfg(name, tag)
    merged = open_clip.transform.merge_preprocess_dict(PreprocessCfg(size=visual.image_size), own)
    require_equal(
        from_open_clip(preprocessing.of_tag(source), visual.image_size),
        image_transform_v2(PreprocessCfg(**merged), is_train=False),
    )


def test_timm_models_are_shown_what_their_own_transform_makes() -> None:
    model = timm.create_model("test_vit", num_classes=0)
    config = timm.data.resolve_model_data_config(model)
    wanted = image_only.from_model(model, "timm:test_vit").preprocessing
    require_equal(wanted, timm.data.create_transform(**config))
    assert wanted.crop_pct == config["crop_pct"] != 1


def test_random_views_use_the_models_own_filter_and_window() -> None:
    source, wanted = picture(90, 70), Preprocessing(24, 40, interpolation="bilinear")
    for view in range(4):
        cut = random_cut(source.size, wanted, Crop(), view_rng("d", 0, view))
        expected = source.crop(cut.box).resize((40, 24), Image.Resampling.BILINEAR)
        if cut.mirrored:
            expected = expected.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        ours = cut_pictures([torch.from_numpy(np.array(source))], [[cut]], wanted)[0]
        assert torch.equal(ours, torch.from_numpy(np.array(expected)))


# --- what names a result


def test_clips_own_way_adds_nothing_to_the_name_of_a_result() -> None:
    for name in ("tiny", "ViT-B-16/openai", "RN50/openai"):
        assert preprocessing.label_of(name) == ""


def test_every_field_changes_the_label() -> None:
    plain = square(32)
    changes: list[dict[str, Any]] = [
        {"height": 33}, {"width": 40}, {"mean": (0.5, 0.5, 0.5)}, {"std": (1.0, 1.0, 1.0)},
        {"interpolation": "bilinear"}, {"fit": "squash"}, {"crop_pct": 0.9}, {"fill": (1, 1, 1)},
    ]  # fmt: skip
    labels = {replace(plain, **change).label() for change in changes}
    assert len(labels | {plain.label()}) == len(changes) + 1
    assert replace(plain, fit="squash", crop_pct=0.9).label().startswith("squash-bicubic-crop0.9-")


def test_weights_found_by_their_tag_are_labelled_by_what_the_tag_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def located(name: str) -> weights.Source:
        return weights.Source(*name.split("/"), Path("unused"))

    monkeypatch.setattr(weights, "locate", located)
    assert preprocessing.label_of("ViT-B-16-SigLIP/webli").startswith("squash-bicubic-")
    assert preprocessing.label_of("MobileCLIP-S1/datacompdr").startswith("shortest-bilinear-")
    # other channel statistics alone were read rightly before, and a tag never changes
    assert preprocessing.label_of("ViT-L-14/laion2b_s32b_b82k") == ""


def test_a_checkpoint_given_as_a_file_takes_what_all_tags_of_its_architecture_share(
    tmp_path: Path,
) -> None:
    file = tmp_path / "weights.safetensors"
    save_file({"x": torch.zeros(1)}, file)
    assert preprocessing.of_backbone(f"ViT-B-16-SigLIP/{file}").fit == "squash"
    assert preprocessing.of_backbone(f"ViT-L-14/{file}") == square(224)  # its tags differ
    assert preprocessing.label_of(f"ViT-B-16/{file}") == ""
    assert preprocessing.label_of(f"timm:resnet50/{file}").startswith("shortest-bicubic-crop0.95-")
    with pytest.raises(UserError, match="open_clip knows no architecture 'ViT-B-17'"):
        preprocessing.of_backbone(f"ViT-B-17/{file}")


def test_what_a_checkpoint_given_as_a_file_does_not_tell_is_said(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    save_file({"x": torch.zeros(1)}, file)
    assert preprocessing.guessed(f"ViT-L-14/{file}") == (
        "weights of a file are read as ViT-L-14, with GELU; those trained with QuickGELU, as "
        "OpenAI's, need ViT-L-14-quickgelu; tags of this architecture differ in preprocessing; "
        "CLIP's own is taken"
    )
    assert preprocessing.guessed(f"ViT-B-16-quickgelu/{file}") == (
        "weights of a file are read as ViT-B-16-quickgelu, with QuickGELU"
    )
    assert "differ" not in preprocessing.guessed(f"ViT-B-16/{file}")
    for name in ("tiny", "ViT-L-14/openai", "hf-hub:a/b", f"timm:resnet50/{file}"):
        assert preprocessing.guessed(name) == ""


def test_a_configuration_of_the_hub_is_part_of_the_name_also_where_only_the_statistics_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = weights.Source("hf-hub:a/b", "hub", tmp_path / "open_clip_model.safetensors")
    monkeypatch.setattr(weights, "locate", lambda name: source)
    described: dict[str, Any] = {"model_cfg": {"vision_cfg": {"image_size": 64}}}
    config = tmp_path / "open_clip_config.json"
    labels = []
    for own in ({}, {"mean": [0.1, 0.2, 0.3]}, {"mean": [0.1, 0.2, 0.4]}):
        config.write_text(json.dumps(described | {"preprocess_cfg": own}))
        labels.append(preprocessing.label_of("hf-hub:a/b"))
    assert labels[0] == ""
    assert len(set(labels)) == 3
    config.write_text("[]")
    with pytest.raises(UserError, match="no configuration of a model") as wrong:
        preprocessing.label_of("hf-hub:a/b")
    assert wrong.value.exit_code == 4


def test_the_pipelines_agree_for_pictures_of_every_shape_and_every_way() -> None:
    for fit, interpolation, size in product(preprocessing.FITS, preprocessing.FILTERS, SIZES):
        wanted = Preprocessing(40, 28, interpolation=interpolation, fit=fit, fill=(10, 20, 30))
        host, device = made(picture(*size), wanted).values()
        assert float((host - device).abs().max()) < 2.5 / 255 / min(wanted.std)


def test_one_checkpoint_read_as_two_architectures_has_two_spaces_of_features(
    tmp_path: Path,
) -> None:
    """With QuickGELU and without it the same weights give other features."""
    from benchmark.compute.resources import encoder
    from benchmark.conformance import toy

    file = tmp_path / "weights.safetensors"
    save_file({"x": torch.zeros(1)}, file)
    names = [f"ViT-B-16/{file}", f"ViT-B-16-quickgelu/{file}"]
    digests = [encoder(toy.backbone(), "0" * 64, name, "float32").digest for name in names]
    assert len(set(digests)) == 2
