"""Zero-shot accuracy of a model on the three tiny datasets, by the shortest honest path."""

from __future__ import annotations

import importlib
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    import open_clip
    import torch

DATASETS = ("tiny_digits", "tiny_shapes", "tiny_textures")
SPECS = Path(__file__).parents[2] / "datasets_cfg"
BATCH = 256


def spec(dataset: str) -> dict[str, Any]:
    """What a dataset's TOML says."""
    return tomllib.loads((SPECS / f"{dataset}.toml").read_text(encoding="utf-8"))


def pixels(pictures: list[Image.Image], image_px: int) -> np.ndarray:
    """Square pictures at the model's size, uint8 pixels_NCHW (bicubic, as CLIP's own
    preprocessing).
    """
    sized = [picture.resize((image_px, image_px), Image.Resampling.BICUBIC) for picture in pictures]
    return np.stack([np.asarray(picture) for picture in sized]).transpose(0, 3, 1, 2)


def normalised(pixels_NCHW: torch.Tensor) -> torch.Tensor:
    """float32 pixels_NCHW as CLIP's image tower expects them, from uint8."""
    import torch
    from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    mean, std = (
        torch.tensor(v, device=pixels_NCHW.device).view(3, 1, 1)
        for v in (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)
    )
    return (pixels_NCHW.float() / 255 - mean) / std


def split_pixels(dataset: str, split: str, image_px: int) -> tuple[np.ndarray, np.ndarray]:
    """All pictures of a split, uint8 pixels_NCHW, and labels_N."""
    dataset_spec = spec(dataset)
    source, names = dataset_spec["source"], dataset_spec["class_names"]
    draw = importlib.import_module(f"benchmark.tiny.{source['generator']}").image
    count = source["per_class"][split]
    pictures = [
        draw(name, split, index, source["seed"]) for name in names for index in range(count)
    ]
    return pixels(pictures, image_px), np.repeat(np.arange(len(names)), count)


def image_features(model: open_clip.CLIP, pixels_NCHW: np.ndarray) -> torch.Tensor:
    """Unit-length image_ND of uint8 pictures."""
    import torch

    device = model.logit_scale.device
    with torch.no_grad():
        batches = (
            normalised(batch.to(device)) for batch in torch.from_numpy(pixels_NCHW).split(BATCH)
        )
        return torch.cat([model.encode_image(batch, normalize=True) for batch in batches]).cpu()


def text_features(model: open_clip.CLIP, dataset: str) -> torch.Tensor:
    """Unit-length text_KD of a dataset's classes, averaged over its templates."""
    import torch
    from open_clip import SimpleTokenizer

    dataset_spec, tokenize, device = spec(dataset), SimpleTokenizer(), model.logit_scale.device
    prompts_TK = [
        [template.format(name) for name in dataset_spec["class_names"]]
        for template in dataset_spec["templates"]
    ]
    with torch.no_grad():
        text_TKD = torch.stack(
            [
                model.encode_text(tokenize(prompts).to(device), normalize=True)
                for prompts in prompts_TK
            ]
        )
    return torch.nn.functional.normalize(text_TKD.mean(0), dim=-1).cpu()


def accuracies(model: open_clip.CLIP, split: str = "test") -> dict[str, float]:
    """Zero-shot accuracy on each dataset, a fraction."""
    result = {}
    for dataset in DATASETS:
        pixels_NCHW, labels_N = split_pixels(dataset, split, model.visual.image_size[0])
        logits_NK = image_features(model, pixels_NCHW) @ text_features(model, dataset).T
        result[dataset] = float((logits_NK.argmax(1).numpy() == labels_N).mean())
    return result
