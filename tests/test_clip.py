"""open_clip models as backbones: the towers are the model's own, opened; the weights stay as they
were.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from benchmark.api import UserError, unit
from benchmark.backbones import clip, image_only, towers, weights
from benchmark.commands.prepare import _described
from benchmark.compute import runner
from benchmark.conformance import toy
from benchmark.grid import Cell
from benchmark.records.store import Store

TEXTS = ["a photo of a cat.", "an old car", "x"]
PIXELS_NCHW = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def build(
    kind: type = open_clip.CLIP,
    vision: dict[str, Any] | None = None,
    text: dict[str, Any] | None = None,
    **more: Any,
) -> Any:
    torch.manual_seed(0)
    vision_cfg = {"image_size": 16, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16} | (
        vision or {}
    )
    text_cfg = {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2} | (
        text or {}
    )
    return kind(embed_dim=16, vision_cfg=vision_cfg, text_cfg=text_cfg, **more)


@pytest.mark.parametrize(
    "more", [{}, {"quick_gelu": True}, {"kind": open_clip.CustomTextCLIP}], ids=str
)
def test_open_towers_equal_the_models_own_path(more: dict[str, Any]) -> None:
    backbone = clip.from_model(build(**more), "small")
    x_NLE = towers.through(
        backbone.vision.blocks, backbone.vision.start(PIXELS_NCHW), backbone.vision.mask
    )
    assert torch.allclose(
        backbone.vision.finish(x_NLE), backbone.model.encode_image(PIXELS_NCHW), atol=1e-6
    )
    ids_NL = backbone.text.tokenize(TEXTS)
    x_NLE = towers.through(backbone.text.blocks, backbone.text.start(ids_NL), backbone.text.mask)
    assert torch.allclose(
        backbone.text.finish(x_NLE, ids_NL), backbone.model.encode_text(ids_NL), atol=1e-6
    )


@pytest.mark.parametrize("pool", ["argmax", "last", "first"])
def test_texts_cut_at_their_end_give_the_features_of_the_full_context(pool: str) -> None:
    backbone = clip.from_model(build(open_clip.CustomTextCLIP, text={"pool_type": pool}), "small")
    with torch.no_grad():
        full_ND = unit(backbone.model.encode_text(backbone.text.tokenize(TEXTS)))
    assert torch.allclose(backbone.encode_texts(TEXTS), full_ND, atol=1e-6)


def test_a_tower_without_causal_mask_reads_the_whole_context() -> None:
    backbone = clip.from_model(
        build(open_clip.CustomTextCLIP, text={"no_causal_mask": True, "pool_type": "last"}), "small"
    )
    assert backbone.text.mask is None
    assert not backbone.text.read_at_eot
    with torch.no_grad():
        full_ND = unit(backbone.model.encode_text(backbone.text.tokenize(TEXTS)))
    assert torch.allclose(backbone.encode_texts(TEXTS), full_ND, atol=1e-6)


def test_a_resnet_has_an_open_text_tower_and_says_why_it_has_no_vision_blocks() -> None:
    vision = {
        "image_size": 32,
        "layers": [1, 1, 1, 1],
        "width": 16,
        "patch_size": None,
        "head_width": 16,
    }
    backbone = clip.from_model(build(vision=vision), "RN-small")
    assert backbone.encode_pixels(torch.randn(2, 3, 32, 32)).shape == (2, 16)
    assert len(backbone.text.blocks) == 2
    with pytest.raises(
        UserError,
        match="image tower of RN-small is a ModifiedResNet, which has no transformer blocks",
    ):
        _ = backbone.vision


def test_a_text_that_does_not_fit_is_an_error_not_a_shorter_text() -> None:
    backbone = clip.from_model(build(), "small")
    fits = "cat " * 22
    assert backbone.encode_texts([fits]).shape == (1, 16)
    with pytest.raises(UserError, match="needs more than the 24 tokens"):
        backbone.encode_texts(["a cat", fits + "cat"])


def test_the_backbone_is_frozen_and_a_copy_is_private() -> None:
    backbone = clip.from_model(build(), "small")
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())
    assert not backbone.model.training
    before = clip.state_digest(backbone.model)
    twin = backbone.copy()
    with torch.no_grad():
        next(twin.model.parameters()).add_(1)
    assert clip.state_digest(backbone.model) == before != clip.state_digest(twin.model)


def test_gradients_flow_through_the_frozen_tower() -> None:
    pixels_NCHW = PIXELS_NCHW.clone().requires_grad_()
    toy.backbone().encode_pixels(pixels_NCHW)[:, 0].sum().backward()
    assert pixels_NCHW.grad is not None
    assert float(pixels_NCHW.grad.abs().sum()) > 0


@pytest.fixture
def architecture(tmp_path: Path) -> str:
    """A small architecture that open_clip knows by name."""
    config = {
        "embed_dim": 16,
        "vision_cfg": {
            "image_size": 16,
            "layers": 1,
            "width": 32,
            "patch_size": 8,
            "head_width": 16,
        },
        "text_cfg": {
            "context_length": 24,
            "vocab_size": 49408,
            "width": 32,
            "heads": 2,
            "layers": 1,
        },
    }
    (tmp_path / "fsbench-small.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "fsbench-small.json")
    return "fsbench-small"


def test_a_local_checkpoint_is_a_backbone_named_by_its_content(
    architecture: str, tmp_path: Path
) -> None:
    model = open_clip.create_model(architecture)
    file = tmp_path / "weights.safetensors"
    save_file(model.state_dict(), file)
    name = f"{architecture}/{file}"
    backbone = clip.load(name)
    with torch.no_grad():
        assert torch.allclose(
            backbone.encode_pixels(PIXELS_NCHW),
            unit(model.eval().encode_image(PIXELS_NCHW)),
            atol=1e-6,
        )
    digest = weights.weights_digest(name)
    assert digest == hashlib.sha256(file.read_bytes()).hexdigest()
    assert weights.locate(f"{architecture}/sha256-{digest[:16]}").file == file
    assert f"read as {architecture}, with GELU" in _described(name)


def test_weights_of_equal_size_and_time_are_named_by_their_content(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    for content in (b"one", b"two"):
        file.write_bytes(content)
        os.utime(file, (1, 1))
        expected = hashlib.sha256(content).hexdigest()
        assert weights.weights_digest(f"ViT-B-16/{file}") == expected
        assert weights.recorded(f"ViT-B-16/{file}") == f"ViT-B-16/sha256-{expected[:16]}"


def test_weights_that_change_after_the_plan_are_not_recorded_under_their_old_name(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "weights.safetensors"
    save_file(open_clip.create_model(architecture).state_dict(), file)
    cell = Cell(method="zero_shot", dataset="tiny_shapes", shots=0, seed=0,
                backbone=f"{architecture}/{file}", val="none")  # fmt: skip
    plan = runner.plan

    def changed_after(*given: Any, **named: Any) -> Any:
        planned = plan(*given, **named)
        save_file(open_clip.create_model(architecture).state_dict(), file)
        return planned

    monkeypatch.setattr(runner, "plan", changed_after)
    (outcome,) = runner.run([cell], Store(tmp_path / "results"))
    assert "changed after this run began; give the same command again" in str(outcome.error)
    assert not list(Store(tmp_path / "results").records())


def test_a_pickle_with_code_in_it_is_not_loaded(architecture: str, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path(tmp_path / "sprung").touch, ())

    file = tmp_path / "weights.pt"
    torch.save({"state_dict": Trap()}, file)
    with pytest.raises(Exception, match="weights"):
        clip.load(f"{architecture}/{file}")
    assert not (tmp_path / "sprung").exists()


def test_openai_weights_meet_quick_gelu_and_nothing_else() -> None:
    assert weights._with_quick_gelu("ViT-B-16", "openai") == "ViT-B-16-quickgelu"
    assert weights._with_quick_gelu("ViT-B-16", "laion2b_s34b_b88k") == "ViT-B-16"
    source = weights.Source("ViT-B-16", "openai", Path("unused"))
    with pytest.raises(UserError, match="OpenAI weights need QuickGELU"):
        clip._require_quick_gelu(build(), source)
    clip._require_quick_gelu(build(quick_gelu=True), source)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("tiny", "tiny"),
        ("ViT-B/16", "ViT-B-16/openai"),
        ("vit-b/32", "ViT-B-32/openai"),
        ("RN50", "RN50/openai"),
        ("a/b", "a/b"),
    ],
)
def test_the_usual_spellings_mean_one_name(given: str, name: str) -> None:
    assert weights.canonical(given) == name


def test_unknown_and_missing_backbones_say_what_to_do() -> None:
    with pytest.raises(UserError, match=r"unknown backbone 'tinny'.*did you mean 'tiny'"):
        weights.canonical("tinny")
    with pytest.raises(UserError, match=r"unknown backbone 'ViT-B/17': did you mean 'ViT-B/16'\?"):
        weights.locate("ViT-B/17")
    with pytest.raises(UserError, match="unknown backbone 'ViT-B-16/opnai': did you mean"):
        weights.locate("ViT-B-16/opnai")
    with pytest.raises(UserError, match=r"weights file .* is not there") as missing:
        weights.locate("ViT-B-16/no/such.safetensors")
    assert missing.value.exit_code == 4


def test_weights_of_another_shape_are_refused_in_one_sentence(
    architecture: str, tmp_path: Path
) -> None:
    save_file({"logit_scale": torch.zeros(3)}, tmp_path / "weights.safetensors")
    with pytest.raises(
        UserError, match=rf"weights of .* cannot be loaded as {architecture} .*check both"
    ):
        clip.load(f"{architecture}/{tmp_path / 'weights.safetensors'}")


def test_a_tag_keeps_its_preprocessing_though_its_weights_come_as_a_file() -> None:
    arch, options = clip._recipe(weights.Source("ViT-B-16-SigLIP", "webli", Path("unused")))
    assert arch == "ViT-B-16-SigLIP"
    assert options["force_preprocess_cfg"] == {
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "resize_mode": "squash",
        "interpolation": "bicubic",
    }


def in_hub_cache(monkeypatch: pytest.MonkeyPatch, cache: Path, repo: str) -> Path:
    """The folder of a repository's one revision in the hub library's cache, which it will read
    from.
    """
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    root, commit = cache / f"models--{repo.replace('/', '--')}", "c0ffee" + "0" * 34
    (root / "snapshots" / commit).mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(commit)
    return root / "snapshots" / commit


def test_a_model_of_the_hub_is_a_backbone_with_its_own_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build()
    folder = in_hub_cache(monkeypatch, tmp_path, "someone/clip")
    with pytest.raises(UserError, match="prepare --backbone hf-hub:someone/clip") as missing:
        clip.load("hf-hub:someone/clip")
    assert missing.value.exit_code == 4
    config: dict[str, Any] = {
        "embed_dim": 16,
        "vision_cfg": {
            "image_size": 16,
            "layers": 2,
            "width": 32,
            "patch_size": 8,
            "head_width": 16,
        },
        "text_cfg": {
            "context_length": 24,
            "vocab_size": 49408,
            "width": 32,
            "heads": 2,
            "layers": 2,
        },
    }
    described = {
        "model_cfg": config,
        "preprocess_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    backbone = clip.load(weights.canonical("hf-hub:someone/clip"))
    assert (backbone.preprocessing.mean, backbone.preprocessing.std) == (
        (0.1, 0.2, 0.3),
        (0.4, 0.5, 0.6),
    )
    with torch.no_grad():
        assert torch.allclose(
            backbone.encode_pixels(PIXELS_NCHW),
            unit(model.eval().encode_image(PIXELS_NCHW)),
            atol=1e-6,
        )
    assert backbone.encode_texts(["a cat"]).shape == (1, 16)
    config["vision_cfg"]["image_size"] = 32
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    with pytest.raises(UserError, match=r"positional_embedding has shape .* there and") as misfit:
        clip.load("hf-hub:someone/clip")
    assert misfit.value.exit_code == 4


def test_what_a_configuration_of_the_hub_says_of_the_model_is_part_of_its_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = in_hub_cache(monkeypatch, tmp_path, "someone/clip")
    (folder / "open_clip_model.safetensors").write_bytes(b"weights")
    digests = set()
    for turned in ({}, {"quick_gelu": True}, {"text_cfg": {"pool_type": "last"}}):
        described = {"model_cfg": {"vision_cfg": {"image_size": 64}} | turned}
        (folder / "open_clip_config.json").write_text(json.dumps(described))
        digests.add(weights.weights_digest("hf-hub:someone/clip"))
    assert {len(digest) for digest in digests} == {64}
    assert len(digests) == 3


TIMM = "test_vit"  # timm's own smallest models are called so; built without pretrained weights


def small_timm(folder: Path, name: str = "model.safetensors") -> tuple[Any, Path]:
    import timm

    torch.manual_seed(0)
    model = timm.create_model(TIMM, num_classes=5)
    save_file(model.state_dict(), folder / name)
    return model.eval(), folder / name


def test_an_image_encoder_gives_features_and_says_that_it_has_no_text(tmp_path: Path) -> None:
    model, file = small_timm(tmp_path)
    backbone = clip.load(weights.canonical(f"timm:{TIMM}/{file}"))
    assert isinstance(backbone, image_only.ImageOnly)
    pixels_NCHW = torch.randn(2, 3, backbone.preprocessing.height, backbone.preprocessing.width)
    with torch.no_grad():
        expected_ND = unit(model.forward_head(model.forward_features(pixels_NCHW), pre_logits=True))
        assert torch.allclose(backbone.encode_pixels(pixels_NCHW), expected_ND, atol=1e-6)
    assert expected_ND.shape == (2, backbone.dim)
    assert not any(weight.requires_grad for weight in backbone.copy().model.parameters())
    asks = [
        lambda: backbone.text,
        lambda: backbone.encode_texts(["x"]),
        lambda: backbone.class_prompts(["x"], 2),
    ]
    for ask in [*asks, lambda: backbone.whole_prompts(["x"])]:
        with pytest.raises(
            UserError,
            match="has no text side; take a method that learns from images alone, as linear_probe",
        ):
            ask()
    with pytest.raises(UserError, match="cannot be opened between its blocks"):
        _ = backbone.vision


def test_an_image_encoder_of_the_hub_is_found_by_its_timm_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = in_hub_cache(monkeypatch, tmp_path, "timm/test_vit.r160_in1k")
    (folder / "config.json").write_text("{}")
    small_timm(folder)
    assert weights.locate("timm:test_vit.r160_in1k").file == folder / "model.safetensors"
    with pytest.raises(
        UserError, match=r"unknown backbone .timm:resnet5\.a1_in1k.: did you mean .resnet"
    ):
        weights.locate("timm:resnet5.a1_in1k")


def test_a_pickle_is_not_run_for_an_image_encoder_either(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path(tmp_path / "sprung").touch, ())

    torch.save({"state_dict": Trap()}, tmp_path / "weights.pt")
    with pytest.raises(UserError, match="cannot be loaded as test_vit"):
        clip.load(f"timm:{TIMM}/{tmp_path / 'weights.pt'}")
    assert not (tmp_path / "sprung").exists()


def test_weights_of_a_hub_model_are_fetched_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    from benchmark.backbones.download import prepare_backbone
    from tests.data_server import COMMIT, serving

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with serving() as server:
        monkeypatch.setattr(
            constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            server.url + "/{repo_id}/resolve/{revision}/{filename}",
        )
        with pytest.raises(
            UserError, match="weights of hf-hub:someone/clip could not be fetched"
        ) as missing:
            prepare_backbone("hf-hub:someone/clip")
        assert missing.value.exit_code == 4
        for revision in ("main", COMMIT):
            server.hub_file("someone/clip", "open_clip_config.json", b"{}", revision)
            server.hub_file("someone/clip", "open_clip_pytorch_model.bin", b"weights", revision)
        file = prepare_backbone("hf-hub:someone/clip")
    assert file.read_bytes() == b"weights"
    assert (file.parent / "open_clip_config.json").exists()
    assert weights.locate("hf-hub:someone/clip").file == file
