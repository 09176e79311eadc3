"""Pictures to normalised pixels, encoder left out: ours against Pillow and torchvision. `python -m
benches.pictures --data-root DIR`

Reference: what every repository of the field does per image, Resize + CenterCrop + ToTensor +
Normalize, one after the other, and a stack per batch. Ours: `transforms.centre` on uint8 and one
normalisation per batch into a buffer. Both decode with the same Pillow. One thread, one process, in
alternation; processor seconds. Then how far pixels and the tiny CLIP's features are apart.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torchvision import transforms as reference

from benches.timing import alternate, machine
from benchmark import data
from benchmark.backbones import clip
from benchmark.backbones.preprocessing import square
from benchmark.features.transforms import Pipeline, centre

BATCH = 64
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def cut(image_px: int) -> reference.Compose:
    return reference.Compose(
        [
            reference.Resize(image_px, reference.InterpolationMode.BICUBIC),
            reference.CenterCrop(image_px),
        ]
    )


def naive(table: data.ImageTable, image_px: int) -> Iterator[Tensor]:
    """Batches pixels_NCHW, each image transformed by itself."""
    transform = reference.Compose(
        [cut(image_px), reference.ToTensor(), reference.Normalize(MEAN, STD)]
    )
    for index_N in torch.arange(len(table)).split(BATCH):
        yield torch.stack([transform(table.open(i)) for i in index_N.tolist()])


def ours(table: data.ImageTable, image_px: int) -> Iterator[Tensor]:
    """The same batches."""
    pipeline = Pipeline(square(image_px, MEAN, STD))
    out_NCHW = torch.empty(BATCH, 3, image_px, image_px)
    for index_N in torch.arange(len(table)).split(BATCH):
        pixels_NHWC = torch.from_numpy(
            np.stack([centre(table.open(i), square(image_px)).numpy() for i in index_N.tolist()])
        )
        yield pipeline.normalise(pixels_NHWC, out_NCHW[: len(index_N)])


def exhaust(batches: Iterator[Tensor]) -> None:
    for _ in batches:
        pass


def speed(table: data.ImageTable, image_px: int, rounds: int) -> list[str]:
    variants = {
        "naive": lambda: exhaust(naive(table, image_px)),
        "ours": lambda: exhaust(ours(table, image_px)),
    }
    rate = {name: len(table) / timing.cpu_s for name, timing in alternate(variants, rounds).items()}
    return [
        f"{image_px} px",
        f"{rate['naive']:.0f}/s",
        f"{rate['ours']:.0f}/s",
        f"{rate['ours'] / rate['naive']:.2f}x",
    ]


def agreement(table: data.ImageTable, image_px: int) -> list[str]:
    """Largest distance of any pixel value, share of equal values, and the same of the worst
    picture.
    """
    largest, equal, worst = 0, 0.0, 1.0
    for i in range(len(table)):
        picture = table.open(i)
        expected = torch.from_numpy(np.array(cut(image_px)(picture)))
        distance = (centre(picture, square(image_px)).int() - expected.int()).abs()
        share = float((distance == 0).float().mean())
        largest, equal, worst = (
            max(largest, int(distance.max())),
            equal + share / len(table),
            min(worst, share),
        )
    return [str(largest), f"{100 * equal:.2f} %", f"{100 * worst:.1f} %"]


@torch.no_grad()
def features_apart(table: data.ImageTable) -> str:
    """Cosine distance between the tiny CLIP's features of both pipelines, and how often its nearest
    neighbour changes.
    """
    backbone = clip.load("tiny")
    theirs_ND, ours_ND = (
        torch.cat(
            [
                backbone.encode_pixels(batch.clone())
                for batch in path(table, backbone.preprocessing.height)
            ]
        )
        for path in (naive, ours)
    )
    apart_N = (1 - (theirs_ND * ours_ND).sum(1)).clamp_min(0)
    nearest = [
        (each_ND @ each_ND.T).fill_diagonal_(-1).argmax(1) for each_ND in (theirs_ND, ours_ND)
    ]
    changed = float((nearest[0] != nearest[1]).float().mean())
    return (
        f"1 - cos: mean {float(apart_N.mean()):.1e}, largest {float(apart_N.max()):.1e}; "
        f"another nearest neighbour: {100 * changed:.2f} %"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", type=Path, help="default: FSBENCH_DATA")
    parser.add_argument(
        "--timed", type=int, default=512, help="pictures that are timed, drawn from the test split"
    )
    parser.add_argument(
        "--compared", type=int, default=2465, help="pictures whose pixels are compared"
    )
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    test = data.load("caltech101", given.data_root).test
    order = random.Random(0).sample(range(len(test)), len(test))
    table = Table(
        "size",
        "naive",
        "ours",
        "ratio",
        "largest distance",
        "equal values",
        "in the worst picture",
        title=f"Caltech101; {machine()}",
    )
    for image_px in (224, 36):
        speeds = speed(test.take(order[: given.timed]), image_px, given.rounds)
        table.add_row(*speeds, *agreement(test.take(order[: given.compared]), image_px))
    console = Console(width=140)
    console.print(table)
    apart = features_apart(test.take(order[: given.compared]))
    console.print(f"features of the tiny CLIP, {given.compared} pictures: {apart}")


if __name__ == "__main__":
    main()
