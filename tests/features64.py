"""Few-shot episodes of float64 features whose stored views differ, for twins in numpy."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from benchmark.api import Crop, Episode, ImageSet, Labelled, unit

SCALE = 20.0


def image_set(image_ND: Tensor) -> ImageSet:
    """Unit features; view v of an image is the image with noise of its own."""
    image_ND = unit(image_ND)

    def encode(views: tuple[int, int, Crop] | None) -> Tensor:
        if views is None:
            return image_ND
        count, seed, crop = views
        rng = torch.Generator().manual_seed(seed)
        noise_VND = torch.randn(count, *image_ND.shape, generator=rng, dtype=torch.float64)
        return unit(image_ND + 0.1 * (1 - crop.min_scale) * noise_VND)

    return ImageSet(len(image_ND), encode, _no_pixels)


def _no_pixels(*_: object) -> Tensor:
    raise AssertionError("these methods read features only")


def labelled(labels: list[int], centre_KD: Tensor, seed: int, spread: float = 0.25) -> Labelled:
    labels_N = torch.tensor(labels)
    rng = torch.Generator().manual_seed(seed)
    noise_ND = torch.randn(len(labels), centre_KD.shape[1], generator=rng, dtype=torch.float64)
    return Labelled(image_set(centre_KD[labels_N] + spread * noise_ND), labels_N)


def episode(
    counts: tuple[int, ...] = (4, 4, 4), dim: int = 16, *, val: bool = True, seed: int = 1
) -> Episode:
    """`counts` images of every class, shuffled; 0 leaves a class out."""
    rng = torch.Generator().manual_seed(99)
    centre_KD = unit(torch.randn(len(counts), dim, generator=rng, dtype=torch.float64))
    text_KD = unit(
        centre_KD + 0.2 * torch.randn(len(counts), dim, generator=rng, dtype=torch.float64)
    )
    labels = [k for k, count in enumerate(counts) for _ in range(count)]
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).tolist()
    given = Episode.from_features(
        class_names=[f"class {k}" for k in range(len(counts))],
        text_KD=text_KD,
        support_ND=torch.zeros(1, dim, dtype=torch.float64),
        support_labels_N=torch.zeros(1, dtype=torch.int64),
        logit_scale=SCALE,
        seed=seed,
    )
    exam = labelled([k for k in range(len(counts)) for _ in range(4)], centre_KD, 1000 + seed)
    return replace(
        given,
        support=labelled([labels[i] for i in order], centre_KD, seed),
        val=exam if val else None,
    )


def queries(counts: int = 3, dim: int = 16, size: int = 12) -> ImageSet:
    """Images that belong to no episode."""
    rng = torch.Generator().manual_seed(7)
    return image_set(torch.randn(size, dim, generator=rng, dtype=torch.float64))
