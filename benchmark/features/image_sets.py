"""Image features: every picture and view encoded once, its pixels decoded a little ahead of the
encoder and then forgotten.

What makes a feature is its picture, the encoder and the view protocol alone: neither the other
pictures of its batch, nor their order, nor the number of decoding threads. Where features are kept,
and how, is feature_store.py's affair.
"""

from __future__ import annotations

import os
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from PIL.Image import Image
from torch import Generator, Tensor

from benchmark.api import Backbone, Crop, ImageSet
from benchmark.data import ImageTable
from benchmark.features.feature_store import FeatureStore, Stopwatch, Views, open_store, space
from benchmark.features.transforms import Pipeline, centre, random_view, view_rng

__all__ = ["Encoder", "FeatureStore", "Stopwatch", "Views", "image_set", "open_store", "space"]

BATCH = 64  # rows encoded at once; always full, the last one padded, so that a row never depends on its neighbours
DECODERS = min(8, os.cpu_count() or 1)  # threads that decode; changes no number
AHEAD = 2 * BATCH  # views decoded and not yet encoded: what bounds the memory
Item = TypeVar("Item")
Made = TypeVar("Made")
Picture = Callable[[int], Image]  # position in a table -> decoded picture
Pixels = np.ndarray[
    Any, Any
]  # uint8; numpy, because torch would start threads of its own inside each decoding thread


@dataclass(frozen=True)
class Encoder:
    """A backbone's image side with all that names its features."""

    backbone: Backbone
    pipeline: Pipeline
    digest: str  # of the weights and the pipeline

    def __call__(self, batches: Iterator[Tensor]) -> Iterator[Tensor]:
        """uint8 pixels_NHWC, at most BATCH of them at a time -> image_ND on the CPU, always
        computed in full batches.
        """
        out_NCHW: Tensor | None = (
            None  # one buffer for all: fresh memory costs as much as filling it
        )
        for pixels_NHWC in batches:
            padded_NHWC = pixels_NHWC[torch.arange(BATCH).clamp_max(len(pixels_NHWC) - 1)].to(
                self.backbone.device
            )
            with torch.no_grad():
                out_NCHW = self.pipeline.normalise(padded_NHWC, out_NCHW, self.backbone.dtype)
                image_ND = self.backbone.encode_pixels(out_NCHW)
            yield image_ND[: len(pixels_NHWC)].cpu()


def image_set(
    table: ImageTable,
    encoder: Encoder,
    store: FeatureStore,
    timer: Stopwatch,
    *,
    sealed: bool = False,
) -> ImageSet:
    """The pictures of `table` as images without labels.

    `sealed` is for what a method must not know: no closure then leads to the table, whose paths may
    say the class; whoever asked for the images keeps the table alive as long as they are used.
    """
    digests = [table.digest(position) for position in range(len(table))]
    picture, image_px, device = (
        _opener(table, sealed),
        encoder.pipeline.image_px,
        encoder.backbone.device,
    )

    def encode(views: Views | None) -> Tensor:
        def compute(chosen: list[int]) -> Iterator[Tensor]:
            return _encode(encoder, picture, [(i, digests[i]) for i in chosen], views)

        double = encoder.backbone.dtype == torch.float64
        where = space(encoder.digest, views, encoder.backbone.name, double=double)
        rows = store.rows(where, digests, compute, timer).to(device)
        return rows if views is None else rows.transpose(0, 1)

    def decode(index_N: Tensor, crop: Crop | None, rng: Generator | None) -> Tensor:
        pictures = (picture(i) for i in index_N.tolist())
        if crop is None or rng is None:
            pixels = [centre(each, image_px) for each in pictures]
        else:
            seeds = torch.randint(2**62, (len(index_N),), generator=rng).tolist()
            pixels = [
                random_view(each, image_px, crop, view_rng("fresh", seed, 0))
                for each, seed in zip(pictures, seeds, strict=True)
            ]
        return encoder.pipeline.normalise(
            torch.stack(pixels).to(device), dtype=encoder.backbone.dtype
        )

    return ImageSet(len(digests), encode, decode)


def _opener(table: ImageTable, sealed: bool) -> Picture:
    if not sealed:
        return table.open
    behind = weakref.ref(table)

    def picture(position: int) -> Image:
        kept = behind()
        assert kept is not None, "sealed images outlived the table behind them"
        return kept.open(position)

    return picture


def _encode(
    encoder: Encoder, picture: Picture, chosen: Sequence[tuple[int, str]], views: Views | None
) -> Iterator[Tensor]:
    """image_ND, or image_NVD for views, of a few pictures after the other."""
    per_picture = views[0] if views else 1
    image_px = encoder.pipeline.image_px

    def cut(item: tuple[int, str]) -> Pixels:
        position, digest = item
        return _cut(picture(position), image_px, digest, views)

    if per_picture > BATCH:  # one picture fills several batches
        for pixels_VHWC in _in_order(cut, chosen, 2):
            yield torch.cat(list(encoder(iter(torch.from_numpy(pixels_VHWC).split(BATCH)))))[None]
        return
    cuts = _in_order(cut, chosen, max(1, AHEAD // per_picture))
    batches = (
        torch.from_numpy(np.concatenate(part)) for part in _chunks(cuts, BATCH // per_picture)
    )
    for image_ND in encoder(batches):
        yield image_ND if views is None else image_ND.unflatten(0, (-1, per_picture))


def _cut(picture: Image, image_px: int, digest: str, views: Views | None) -> Pixels:
    """pixels_VHWC of one picture: its centre, or its random views."""
    if views is None:
        return centre(picture, image_px).numpy()[None]
    count, seed, crop = views
    return np.stack(
        [
            random_view(picture, image_px, crop, view_rng(digest, seed, view)).numpy()
            for view in range(count)
        ]
    )


def _in_order(work: Callable[[Item], Made], items: Sequence[Item], ahead: int) -> Iterator[Made]:
    """work(item) of every item in order, done by DECODERS threads at most `ahead` items before it
    is asked for.
    """
    waiting: deque[Future[Made]] = deque()
    pool = ThreadPoolExecutor(DECODERS, thread_name_prefix="decode")
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _chunks(items: Iterator[Item], size: int) -> Iterator[list[Item]]:
    part: list[Item] = []
    for item in items:
        part.append(item)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part
