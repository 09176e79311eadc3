"""Models of every kind are read rightly or refused in one sentence: other weights, vocabularies,
text towers, precisions and libraries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import torch
from open_clip.coca_model import CoCa
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmark.api import UserError, unit
from benchmark.backbones import clip, misfit, tokenizers, towers
from tests.test_clip import PIXELS_NCHW, TEXTS, build

# --- weights: every way of loading is strict


def files(folder: Path) -> dict[str, Path]:
    """Checkpoints of timm's smallest ViT: right ones, and each kind of wrong one."""
    torch.manual_seed(0)
    state = timm.create_model("test_vit", num_classes=7).state_dict()
    wrong = {
        "whole": state,
        "headless": timm.create_model("test_vit", num_classes=0).state_dict(),
        "renamed": {f"visual.{key}": value for key, value in state.items()},
        "more": state | {"extra.weight": torch.zeros(1)},
        "less": {key: value for key, value in state.items() if key != "norm.weight"},
        "patches": timm.create_model("test_vit", num_classes=7, patch_size=8).state_dict(),
    }
    for name, tensors in wrong.items():
        save_file(tensors, folder / f"{name}.safetensors")
    torch.save({"state_dict": state}, folder / "pickled.pth")
    return {path.stem: path for path in folder.iterdir()}


def test_an_image_encoder_is_loaded_whole_with_or_without_its_classifier(tmp_path: Path) -> None:
    made = files(tmp_path)
    model = timm.create_model("test_vit", num_classes=7).eval()
    for name in ("whole", "headless", "pickled"):
        backbone = clip.load(f"timm:test_vit/{made[name]}")
        if name != "headless":
            model.load_state_dict(torch.load(made["pickled"], weights_only=True)["state_dict"])
            wanted = backbone.preprocessing
            pixels_NCHW = torch.randn(2, 3, wanted.height, wanted.width)
            with torch.no_grad():
                own_ND = model.forward_head(model.forward_features(pixels_NCHW), pre_logits=True)
            assert torch.allclose(backbone.encode_pixels(pixels_NCHW), unit(own_ND), atol=1e-6)


@pytest.mark.parametrize(
    ("file", "arch", "sentence"),
    [
        ("renamed", "test_vit", "missing: cls_token.* and 75 others; unexpected: visual.*77"),
        ("more", "test_vit", r"\(unexpected: extra.weight\)"),
        ("less", "test_vit", r"\(missing: norm.weight\)"),
        ("whole", "test_vit2", "missing: reg_token"),
        ("whole", "resnet18", "missing: conv1.weight.*unexpected: blocks.0"),
        ("patches", "test_vit", r"of another architecture: patch_embed.proj.weight has shape"),
        ("whole", "nonsense", "Unknown model"),
    ],
)
def test_weights_that_do_not_fit_an_image_encoder_are_refused_by_name(
    file: str, arch: str, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=sentence) as wrong:
        clip.load(f"timm:{arch}/{files(tmp_path)[file]}")
    assert wrong.value.exit_code == 4


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda state: state.pop("ln_final.bias"), r"\(missing: ln_final.bias\)"),
        (lambda state: state.update(x=torch.zeros(1)), r"\(unexpected: x\)"),
        (
            lambda state: state.update(positional_embedding=torch.zeros(30, 512)),
            r"positional_embedding has shape \(30, 512\) there and \(77, 512\) here",
        ),
    ],
    ids=["less", "more", "positions"],
)
def test_weights_that_do_not_fit_an_open_clip_architecture_are_refused_by_name(
    change: Callable[[dict[str, Tensor]], object],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """open_clip resizes positions silently; a checkpoint with others is another model."""
    tiny = open_clip.get_model_config("ViT-B-32")
    tiny["vision_cfg"] |= {"layers": 1, "width": 64, "image_size": 64}
    tiny["text_cfg"] |= {"layers": 1}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "fsbench-shapes", tiny)
    state = dict(open_clip.create_model("fsbench-shapes").state_dict())
    change(state)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=sentence) as wrong:
        clip.load(f"fsbench-shapes/{tmp_path / 'w.safetensors'}")
    assert wrong.value.exit_code == 4


@pytest.mark.parametrize("prefix", ["timm:test_vit", "ViT-B-32", "no-such-architecture"])
@pytest.mark.parametrize("content", ["garbage", "truncated", "empty"])
def test_damaged_files_are_refused(prefix: str, content: str, tmp_path: Path) -> None:
    whole = files(tmp_path)["whole"].read_bytes()
    file = tmp_path / "damaged.safetensors"
    file.write_bytes({"garbage": b"no weights", "truncated": whole[:5000], "empty": b""}[content])
    with pytest.raises(UserError, match=r"cannot be loaded as|is damaged") as wrong:
        clip.load(f"{prefix}/{file}")
    assert wrong.value.exit_code == 4


def test_a_missing_package_is_named_with_the_extra_that_brings_it() -> None:
    surprise = ModuleNotFoundError("No module named 'transformers.models'", name="transformers.x")
    asked = RuntimeError("Please `pip install transformers` to use pre-trained models")
    try:
        raise ValueError("tokenizer") from surprise
    except ValueError as error:
        for each in (error, asked):
            sentence = misfit.unloadable("m", Path("w"), "a", each)
            assert "needs the package transformers" in str(sentence)
            assert "pip install -e '.[hf]'" in str(sentence)
            assert sentence.exit_code == 4


# --- vocabularies


def test_a_text_that_a_tokenizer_without_end_token_would_cut_is_an_error() -> None:
    assert tokenizers.tokenized(letters, ["", "abcdefghijkl"], 12).shape == (2, 12)
    with pytest.raises(UserError, match="the text 'abcdefghijklm' needs more than the 12 tokens"):
        tokenizers.tokenized(letters, ["abcdefghijkl", "abcdefghijklm"], 12)


def letters(texts: Sequence[str], context_length: int = 12) -> Tensor:
    """A tokenizer without start or end token: a letter is a token, 0 pads."""
    rows = [[1 + ord(letter) % 90 for letter in text][:context_length] for text in texts]
    return torch.tensor([row + [0] * (context_length - len(row)) for row in rows])


@pytest.mark.parametrize("vocabulary", [100, 32000, 49407, 256000])
def test_clips_tokenizer_is_refused_for_another_vocabulary(vocabulary: int) -> None:
    model = build(text={"vocab_size": vocabulary, "width": 8})
    with pytest.raises(UserError, match=rf"has a vocabulary of {vocabulary}, .* tokenizer="):
        clip.from_model(model, "other-words")
    assert clip.from_model(model, "own-words", letters).encode_texts(["ab"]).shape == (1, 16)


def test_a_tokenizer_with_more_tokens_than_embeddings_is_refused() -> None:
    with pytest.raises(UserError, match="has 49408 tokens and the model embeddings of 100"):
        clip.from_model(build(text={"vocab_size": 100}), "small", open_clip.SimpleTokenizer())


def test_initial_words_are_the_embeddings_of_the_words_with_and_without_a_start_token() -> None:
    model = build()
    (ids,) = open_clip.SimpleTokenizer()(["a photo of a"], context_length=24).tolist()
    for tokenizer, expected in ((None, ids[1:5]), (letters, letters(["a photo of a"]).tolist()[0])):
        words_WE = clip.from_model(model, "words", tokenizer).text.words("a photo of a")
        assert torch.equal(words_WE, model.token_embedding.weight[expected])


# --- text towers


class ForeignText(nn.Module):
    """A text tower of another library: no blocks, no positions that anybody could find."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Embedding(91, 16)

    def forward(self, ids_NL: Tensor) -> Tensor:
        return self.inside(ids_NL).mean(1)


def foreign() -> Any:
    model = build(open_clip.CustomTextCLIP)
    model.text = ForeignText()
    return model


def test_a_text_tower_of_another_library_encodes_texts_by_its_own_function() -> None:
    model = foreign()
    backbone = clip.from_model(model, "biomedical", letters)
    for texts in (["a cat", "a dog"], ["a"]):
        expected_ND = unit(model.encode_text(letters(texts)))
        assert torch.allclose(backbone.encode_texts(texts), expected_ND)
    with pytest.raises(UserError, match="prompts cannot be learned in it"):
        backbone.class_prompts(["cat"], 2)
    with pytest.raises(UserError, match="does not show its vocabulary"):
        clip.from_model(model, "biomedical")


def coca() -> Any:
    torch.manual_seed(0)
    vision = {"image_size": 16, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16}
    pool = {"attentional_pool": True, "attn_pooler_queries": 8, "output_tokens": True}
    text = {"context_length": 76, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    return CoCa(
        embed_dim=16,
        vision_cfg=vision | pool | {"attn_pooler_heads": 2},
        text_cfg=text | {"embed_cls": True, "output_tokens": True},
        multimodal_cfg=text | {"layers": 1},
    )


def test_coca_reads_76_tokens_and_is_encoded_as_by_itself() -> None:
    model = coca()
    backbone = clip.from_model(model, "coca")
    assert backbone.text.context_length == 76
    ids_NL = open_clip.SimpleTokenizer()(TEXTS, context_length=76)
    with torch.no_grad():
        assert torch.allclose(
            backbone.encode_texts(TEXTS), unit(model.encode_text(ids_NL)), atol=1e-6
        )
        vision = backbone.vision
        x_NLE = towers.through(vision.blocks, vision.start(PIXELS_NCHW), vision.mask)
        own_ND = unit(model.encode_image(PIXELS_NCHW))
        assert torch.allclose(unit(vision.finish(x_NLE)), own_ND, atol=1e-6)
    with pytest.raises(UserError, match="adds tokens or masks of its own"):
        backbone.class_prompts(["cat"], 4)


def test_an_image_tower_of_timm_says_what_it_is() -> None:
    model = build(
        open_clip.CustomTextCLIP,
        vision={"timm_model_name": "test_vit", "timm_pool": "token", "timm_proj": "linear"},
    )
    backbone = clip.from_model(model, "inside")
    assert backbone.encode_pixels(PIXELS_NCHW).shape == (3, 16)
    with pytest.raises(UserError, match=r"image tower of inside is timm's VisionTransformer"):
        _ = backbone.vision


# --- precisions and windows


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "mixed"])
def test_a_model_in_half_precision_gives_the_features_of_the_whole_one(kind: str) -> None:
    whole, model = clip.from_model(build(), "whole"), build()
    if kind == "mixed":
        open_clip.model.convert_weights_to_lp(model, torch.float16)
    else:
        model = model.to(getattr(torch, kind))
    backbone = clip.from_model(model, "half")
    assert backbone.dtype == torch.float32
    for ours_ND, expected_ND in (
        (backbone.encode_texts(TEXTS), whole.encode_texts(TEXTS)),
        (backbone.encode_pixels(PIXELS_NCHW), whole.encode_pixels(PIXELS_NCHW)),
        (
            backbone.class_prompts(["cat"], 1).encode(backbone.text.words("a")),
            whole.class_prompts(["cat"], 1).encode(whole.text.words("a")),
        ),
    ):
        assert float((ours_ND - expected_ND).abs().max()) < 0.02


def test_a_window_that_is_not_square_is_encoded() -> None:
    backbone = clip.from_model(build(vision={"image_size": (16, 32)}), "wide")
    assert (backbone.preprocessing.height, backbone.preprocessing.width) == (16, 32)
    assert backbone.encode_pixels(torch.randn(2, 3, 16, 32)).shape == (2, 16)


def test_the_length_of_a_foreign_tower_is_its_tokenizers_own() -> None:
    assert tokenizers.own_length(letters) is None
    assert tokenizers.own_length(open_clip.SimpleTokenizer(context_length=9)) == 9
