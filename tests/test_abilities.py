"""What methods need of a backbone and what backbones offer: said before any cell runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmark import methods
from benchmark.api import ImageSet, UserError
from benchmark.backbones import abilities, clip, weights
from benchmark.conformance import toy
from benchmark.conformance.subject import Subject
from tests.conftest import Invoke

IMPLIED = {"prompts": {"text", "text blocks"}, "text blocks": {"text"}}
# Rows put in without a position move the place that a text is read at, which no tower is asked for.
UNSEEN = {"mmrl": {"prompts"}}
GRID = ("--dataset", "tiny_shapes", "--shots", "1", "--seed", "1", "--plain")


class Lacking(Exception):
    """A method asked for what it did not say it needs."""


@dataclass(frozen=True)
class LimitedText:
    """A text tower whose positions are only there for who may learn prompts: rows of one's own."""

    whole: Any
    offered: frozenset[str]

    def __getattr__(self, name: str) -> Any:
        if name == "position_LE" and "prompts" not in self.offered:
            raise Lacking("prompts")
        return getattr(self.whole, name)


@dataclass(frozen=True)
class Limited:
    """A backbone that offers some abilities only."""

    whole: Any
    offered: frozenset[str]

    def __getattr__(self, name: str) -> Any:
        need = {
            "vision": "image blocks",
            "text": "text blocks",
            "class_prompts": "prompts",
            "whole_prompts": "prompts",
            "encode_texts": "text",
            "projection": "projection",
        }.get(name)
        if need and need not in self.offered:
            raise Lacking(need)
        part = getattr(self.whole, name)
        return LimitedText(part, self.offered) if name == "text" else part

    def copy(self) -> Limited:
        return Limited(self.whole.copy(), self.offered)


def limited(images: ImageSet, offered: frozenset[str]) -> ImageSet:
    """Images of a tower that may have no places."""

    def lacking(views: object) -> Tensor:
        raise Lacking("local")

    return images if "local" in offered else replace(images, encode_local=lacking)


def fits_with(name: str, offered: Sequence[str]) -> bool:
    """Whether a method fits and predicts on a backbone that offers no more than that."""
    every = frozenset(offered).union(*(IMPLIED.get(each, set()) for each in offered))
    subject = Subject(name)
    whole = subject.episode(shots=1, classes=2, primed=False)
    support = replace(whole.support, images=limited(whole.support.images, every))
    backbone = Limited(whole.backbone, every)
    episode = replace(whole, support=support, backbone=backbone, text_KD=None)
    try:
        subject.fit(episode)(limited(toy.held_out(2).images, every))
    except Lacking:
        return False
    return True


@pytest.mark.parametrize("name", methods.own())
def test_our_methods_need_what_they_say_and_nothing_else(name: str) -> None:
    needs = methods.card(name).needs
    assert set(needs) <= set(abilities.ABILITIES)
    assert fits_with(name, needs)
    for need in set(needs) - UNSEEN.get(name, set()):
        assert not fits_with(name, [each for each in abilities.ABILITIES if each != need]) or any(
            need in IMPLIED.get(other, ()) for other in abilities.ABILITIES if other != need
        )


def located(monkeypatch: pytest.MonkeyPatch) -> None:
    def locate(name: str) -> weights.Source:
        arch, _, tag = name.partition("/")
        return weights.Source(arch, tag, Path("unused"))

    monkeypatch.setattr(weights, "locate", locate)


@pytest.mark.parametrize(
    ("name", "lacks"),
    [
        ("tiny", set()),
        ("ViT-B-16/openai", set()),
        ("RN50/openai", {"image blocks"}),
        ("RN50x4/openai", {"image blocks"}),
        ("ViT-B-16-SigLIP/webli", {"image blocks", "projection", "local"}),  # of timm
        ("coca_ViT-B-32/laion2b_s13b_b90k", {"prompts", "local"}),
        ("xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k", {"text blocks", "prompts"}),
        ("timm:resnet50/x", set(abilities.ABILITIES)),
    ],
)
def test_a_configuration_says_what_a_backbone_offers(
    name: str, lacks: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    located(monkeypatch)
    assert set(abilities.ABILITIES) - abilities.offered(name) == lacks


def test_a_configuration_of_the_hub_says_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = weights.Source("hf-hub:a/b", "hub", tmp_path / "open_clip_model.safetensors")
    monkeypatch.setattr(weights, "locate", lambda name: source)
    config = {"text_cfg": {"hf_model_name": "bert"}, "vision_cfg": {"timm_model_name": "vit"}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    assert abilities.offered("hf-hub:a/b") == {"text"}


@pytest.fixture
def encoder(tmp_path: Path) -> str:
    """An image encoder without a text side, as a file."""
    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=3)
    save_file(model.state_dict(), tmp_path / "encoder.safetensors")
    return f"timm:test_vit/{tmp_path / 'encoder.safetensors'}"


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_method_that_a_backbone_cannot_serve_is_refused_before_any_cell(
    command: str, encoder: str, invoke: Invoke, tmp_path: Path
) -> None:
    plain = () if command == "plan" else ("--plain",)
    given = ("--method", "linear_probe,coop", "--backbone", encoder, *GRID[:-1], *plain)
    result = invoke(command, *given, "--results", tmp_path / "results")
    assert result.code == 2
    assert "coop needs a text tower that prompts can be learned in" in result.err
    assert "methods that work with it: linear_probe" in result.err
    assert not list((tmp_path / "results").glob("records/*"))


def test_methods_that_nobody_named_are_left_out_where_they_cannot_be_served(
    encoder: str, invoke: Invoke, tmp_path: Path
) -> None:
    result = invoke("plan", "--backbone", encoder, *GRID[:-1], "--results", tmp_path / "results")
    assert result.code == 0, result.err
    (remark,) = (line for line in result.err.splitlines() if "cannot serve them: " in line)
    assert {"apt", "coop", "zero_shot"} <= set(remark.partition("them: ")[2].split(", "))
    assert "linear_probe" in result.out
    assert "coop" not in result.out


# --- a checkpoint is known by what it is, not by where it lies


def test_a_copy_of_the_weights_under_another_path_is_the_same_backbone(
    encoder: str, invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "FSBENCH_CACHE", str(tmp_path / "cache")
    )  # nothing is known from other tests
    file = Path(encoder.removeprefix("timm:test_vit/"))
    (tmp_path / "elsewhere").mkdir()
    copy = tmp_path / "elsewhere" / "other_name.safetensors"
    copy.write_bytes(file.read_bytes())
    store = ("--results", tmp_path / "results")
    run = ("run", "--method", "linear_probe", *GRID, *store)
    assert invoke(*run, "--backbone", encoder).code == 0
    (first,) = (tmp_path / "results" / "records").glob("*.json")
    again = invoke(*run, "--backbone", f"timm:test_vit/{copy}")
    assert again.code == 0, again.err
    assert list((tmp_path / "results" / "records").glob("*.json")) == [first]
    named = json.loads(first.read_text())["identity"]["backbone"]
    assert named.startswith("timm:test_vit/sha256-")
    assert str(tmp_path) not in first.read_text()
    file.unlink()
    assert weights.locate(named).file == copy  # the name in records leads to a file that is there
    report = invoke("report", "--backbone", f"timm:test_vit/{copy}", *store)
    assert report.code == 0, report.err
    assert invoke("replay", first.stem, *store).code == 0
    copy.unlink()
    with pytest.raises(UserError, match=r"no file with the weights of .* is known") as gone:
        weights.locate(named)
    assert gone.value.exit_code == 4


def test_a_tag_trained_with_quick_gelu_is_read_and_recorded_with_it() -> None:
    assert weights.recorded("ViT-B-16/openai") == "ViT-B-16/openai"
    assert weights.recorded("ViT-B-16/laion2b_s34b_b88k") == "ViT-B-16/laion2b_s34b_b88k"
    assert weights.recorded("ViT-B-16/dfn2b") == "ViT-B-16-quickgelu/dfn2b"
    assert weights._with_quick_gelu("ViT-B-16", "dfn2b") == "ViT-B-16-quickgelu"
    for arch, tag in open_clip.list_pretrained():
        read_as = open_clip.get_model_config(weights._with_quick_gelu(arch, tag))
        if (open_clip.get_pretrained_cfg(arch, tag) or {}).get("quick_gelu"):
            assert read_as["quick_gelu"], f"{arch}/{tag}"


# --- prepare


def test_prepare_loads_a_backbone_once_and_says_what_it_found(
    encoder: str, invoke: Invoke, tmp_path: Path
) -> None:
    found = invoke("prepare", "--backbone", f"tiny,{encoder}")
    assert found.code == 0, found.err
    assert "features of length 96; pictures 36 x 36 (shortest, bicubic)" in found.err
    assert "features of length 64; pictures 160 x 160" in found.err
    assert "it has not: a text side" in found.err
    file = Path(encoder.removeprefix("timm:test_vit/"))
    file.write_bytes(file.read_bytes()[:-100])
    for name in (encoder, encoder.replace("test_vit", "no_such"), f"ViT-B-32/{file}"):
        refused = invoke("prepare", "--backbone", name)
        assert refused.code == 4, refused.err
        assert "1 not ready" in refused.err


def test_a_loaded_backbone_has_what_its_configuration_offers() -> None:
    backbone = clip.load("tiny")
    assert backbone.vision.blocks
    assert backbone.text.blocks
