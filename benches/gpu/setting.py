"""What is measured and how much of it; models, episodes and clocks for it."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor, nn

from benchmark.api import Crop, Episode, ImageSet, Labelled, unit
from benchmark.backbones import clip
from benchmark.backbones.clip import OpenClip
from testbed import naive_clip

SPECS = Path(__file__).resolve().parents[2] / "datasets_cfg"
SEEDS = 3
Row = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """How much of everything is measured, and on what."""

    device: str
    precision: str
    classes: tuple[int, ...]
    runs: tuple[int, ...]
    steps: int  # between the two lengths of training whose difference is timed
    cell_classes: int
    cells: tuple[tuple[str, int, dict[str, Any]], ...]  # method, shots, parameters
    # method, shots of every run (each with three seeds), parameters
    batches: tuple[tuple[str, tuple[int, ...], dict[str, Any]], ...]
    figures: dict[str, list[Row]] = field(default_factory=dict)  # of the parts measured so far


def whole() -> Size:
    return Size(
        device="cuda",
        precision="float16",
        classes=(10, 47, 100, 397, 1000),
        runs=(1, 3, 15),
        steps=150,
        cell_classes=100,
        cells=(
            ("linear_probe", 16, {}),
            ("apt", 4, {}),
            ("tip_adapter_f", 16, {}),
            ("taskres", 16, {}),
            ("clap", 16, {}),
            ("cones", 16, {}),
            ("vpt", 4, {}),
            ("clip_lora", 1, {"steps_per_shot": 250}),
            ("coop", 8, {}),
            ("clip_svd", 1, {}),
            ("two_stage", 1, {}),
            ("ivlp", 1, {}),
            ("promptsrc", 1, {}),
            ("maple", 1, {}),
            ("mmrl", 1, {}),
            ("skip_tuning", 1, {}),
            ("plot", 1, {}),
            ("plot_plus_plus", 1, {}),
        ),
        batches=(
            ("coop", (1, 2, 4, 8, 16), {}),
            ("apt", (4,), {}),
            ("vpt", (4,), {}),
            ("cones", (1, 2, 4, 8, 16), {}),
            ("taskres", (1, 2, 4, 8, 16), {}),
            ("tip_adapter_f", (1, 2, 4, 8, 16), {}),
        ),
    )


def quick() -> Size:
    return Size(
        device="cpu",
        precision="float32",
        classes=(3,),
        runs=(1, 2),
        steps=20,
        cell_classes=3,
        cells=(
            ("linear_probe", 2, {}),
            ("coop", 1, {"epochs": "2"}),
            ("apt", 1, {"epochs": "2", "views": 1}),
            ("clip_lora", 1, {"steps_per_shot": 2, "views": 1}),
            ("skip_tuning", 1, {"epochs": "2", "views": 1}),
            ("plot", 1, {"epochs": "2", "views": 1}),
        ),
        batches=(("coop", (1,), {"epochs": "2"}),),
    )


def settled_s(work: Callable[[], object], device: str) -> float:
    """Seconds until a device is done with `work`."""
    settle(device)
    start = time.perf_counter()
    work()
    settle(device)
    return time.perf_counter() - start


def settle(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


@cache
def towers(device: str) -> nn.Module:
    """ViT-B/16 at true shapes with random weights; a model of toy size on a CPU."""
    if device == "cpu":
        return naive_clip.small_clip()
    return open_clip.create_model("ViT-B-16-quickgelu", pretrained=None).to(device).eval()


@cache
def backbone(device: str, precision: str) -> OpenClip:
    """The towers as the suite runs them."""
    loaded = clip.from_model(towers(device), "bench").copy()
    return clip.from_model(loaded.model, "bench", precision=precision)


@cache
def class_names(count: int) -> tuple[str, ...]:
    """The first of ImageNet's names."""
    spec = tomllib.loads((SPECS / "imagenet.toml").read_text())
    return tuple(spec["class_names"][:count])


def episode(given: OpenClip, classes: int, shots: int, seed: int) -> Episode:
    """Random pictures of true size: the time does not depend on what they show."""
    rng = torch.Generator().manual_seed(seed)
    labels_N = torch.arange(classes).repeat_interleave(shots)
    image_ND = unit(torch.randn(len(labels_N), given.dim, generator=rng)).to(given.device)

    def encode(views: tuple[int, int, Crop] | None) -> Tensor:
        return image_ND if views is None else image_ND.expand(views[0], -1, -1)

    def decode(index_N: Tensor, crop: Crop | None, seeds: Sequence[int] | None) -> Tensor:
        own = given.preprocessing
        return torch.rand(len(index_N), 3, own.height, own.width, device=given.device)

    def encode_local(views: tuple[int, int, Crop] | None) -> Tensor:
        places = given.encode_local(decode(labels_N[:1], None, None)).shape[1]
        image_NPD = image_ND.half().unsqueeze(1).expand(-1, places, -1)
        return image_NPD if views is None else image_NPD.expand(views[0], -1, -1, -1)

    images = ImageSet(len(labels_N), encode, decode, encode_local=encode_local)
    support = Labelled(images, labels_N)
    names, templates = class_names(classes), ("a photo of a {}.",)
    return Episode("bench", names, templates, support, support, given, seed)
