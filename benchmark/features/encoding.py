"""From decoded pictures to features, in batches that are always full.

What makes a feature is its picture, the encoder and the view protocol alone: neither the other
pictures of its batch, nor their order, nor the number of threads. Two pipelines lead there. On a
CPU pictures are cut by the threads that decode them. On a GPU whole pictures go to the device, are
cut there (resampling.py), and one decode serves all views of a picture.
"""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from dataclasses import dataclass
from functools import cache

import torch
from PIL.Image import Image
from torch import Tensor

from benchmark.api import Backbone, Crop
from benchmark.backbones.precision import arithmetic
from benchmark.backbones.preprocessing import Preprocessing
from benchmark.data import ImageTable
from benchmark.features import decoding
from benchmark.features.feature_store import Kind, Views
from benchmark.features.resampling import cut_pictures
from benchmark.features.transforms import (
    Cut,
    Pipeline,
    centre,
    centre_cut,
    random_cut,
    random_view,
    view_rng,
)
from benchmark.ticks import tell

# Rows encoded at once. On a GPU more bring nothing (an H100 runs a ViT-B/16 at 98 % of its best).
# On a CPU a buffer of more than 32 MB is given back to the system after every layer, and fresh
# memory costs as much as the layer itself.
GPU_ROWS, CPU_ROWS = 256, 64
CPU_PIXELS = 4 * 224 * 224  # of one batch on a CPU
THREADS = torch.get_num_threads()  # that encode on a CPU: torch's own number when this is imported
AHEAD = 128  # views cut and not yet encoded on a CPU: what bounds the memory
M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD = -8, -3, -1  # options of mallopt(3)
IN_FLIGHT = 4  # batches that the host may be ahead of a GPU
ENCODE: dict[Kind, Callable[[Backbone, Tensor], Tensor]] = {
    "pooled": lambda model, pixels_NCHW: model.encode_pixels(pixels_NCHW),
    "unprojected": lambda model, pixels_NCHW: model.encode_unprojected(pixels_NCHW),
    "local": lambda model, pixels_NCHW: model.encode_local(pixels_NCHW),
}


@dataclass(frozen=True)
class Encoder:
    """The image side of a backbone with everything that names its features."""

    backbone: Backbone
    pipeline: Pipeline
    digest: str  # of the weights, the precision and the pipeline
    precision: str = "float32"
    kind: Kind = "pooled"  # of the features it gives

    @property
    def device(self) -> torch.device:
        return self.backbone.device

    @property
    def rows(self) -> int:
        """Rows of a full batch."""
        if self.device.type != "cpu":
            return GPU_ROWS
        wanted = self.pipeline.preprocessing
        return max(1, min(CPU_ROWS, CPU_PIXELS // (wanted.height * wanted.width)))

    def normalise(self, pixels_NHWC: Tensor) -> Tensor:
        """uint8 pixels_NHWC -> pixels_NCHW as the backbone reads them."""
        return self.pipeline.normalise(pixels_NHWC, dtype=self.backbone.dtype)

    def encode(self, pixels_NHWC: Tensor) -> Tensor:
        """uint8 pixels_NHWC -> features of the encoder's kind, without gradient, in a full
        batch."""
        full_NCHW = self.normalise(padded(pixels_NHWC, self.rows))
        on_gpu = self.device.type == "cuda"
        with torch.no_grad(), arithmetic(self.precision) if on_gpu else nullcontext():
            return ENCODE[self.kind](self.backbone, full_NCHW)[: len(pixels_NHWC)]


def padded(pixels_NHWC: Tensor, size: int) -> Tensor:
    """A full batch, the last row repeated, so that a row never depends on its neighbours."""
    if len(pixels_NHWC) == size:
        return pixels_NHWC
    index_N = torch.arange(size, device=pixels_NHWC.device)
    return pixels_NHWC[index_N.clamp_max(len(pixels_NHWC) - 1)]


@dataclass(frozen=True)
class PictureCrops:
    """Some pictures of a table, and the cuts that are made of each."""

    table: ImageTable
    positions: Sequence[int]
    per_picture: int  # cuts, at most
    cut_on_host: Callable[[Image, int], Tensor]  # picture, place among `positions` -> pixels_VHWC
    cuts: Callable[[tuple[int, int], int], list[Cut]]  # of a picture of that size, likewise


def stored_views(
    table: ImageTable, positions: Sequence[int], views: Views | None, wanted: Preprocessing
) -> PictureCrops:
    """The centre cut of each picture, or its random views, which depend on its digest."""
    if views is None:
        return centre_cuts(table, positions, wanted)
    count, seed, crop = views

    def rngs(place: int) -> list[tuple[str, int, int]]:
        digest = table.digest(positions[place])
        return [(digest, seed, view) for view in range(count)]

    return _random_cuts(table, positions, crop, wanted, count, rngs)


def centre_cuts(table: ImageTable, positions: Sequence[int], wanted: Preprocessing) -> PictureCrops:
    return PictureCrops(
        table,
        positions,
        1,
        lambda picture, place: centre(picture, wanted)[None],
        lambda size, place: [centre_cut(size, wanted)],
    )


def fresh_cuts(
    table: ImageTable,
    positions: Sequence[int],
    crop: Crop,
    seeds: Sequence[Sequence[int]],
    wanted: Preprocessing,
) -> PictureCrops:
    """Random cuts of each picture, one for each of its seeds."""

    def rngs(place: int) -> list[tuple[str, int, int]]:
        return [("fresh", seed, 0) for seed in seeds[place]]

    return _random_cuts(table, positions, crop, wanted, max(map(len, seeds)), rngs)


def _random_cuts(
    table: ImageTable,
    positions: Sequence[int],
    crop: Crop,
    wanted: Preprocessing,
    per_picture: int,
    rngs: Callable[[int], list[tuple[str, int, int]]],
) -> PictureCrops:
    def on_host(picture: Image, place: int) -> Tensor:
        views = [random_view(picture, wanted, crop, view_rng(*name)) for name in rngs(place)]
        return torch.stack(views)

    def cuts(size: tuple[int, int], place: int) -> list[Cut]:
        return [random_cut(size, wanted, crop, view_rng(*name)) for name in rngs(place)]

    return PictureCrops(table, positions, per_picture, on_host, cuts)


# --- pixels


def pixels(encoder: Encoder, pictures: PictureCrops) -> Iterator[Tensor]:
    """uint8 pixels_NHWC of all cuts on the encoder's device, some pictures after the other."""
    if encoder.pipeline.cuts_on_device:
        yield from _cut_on_device(encoder, pictures)
    else:
        yield from _cut_on_host(encoder, pictures)


def _cut_on_host(encoder: Encoder, pictures: PictureCrops) -> Iterator[Tensor]:
    def cut(place: int) -> Tensor:
        picture = pictures.table.open(pictures.positions[place])
        return pictures.cut_on_host(picture, place)

    ahead = max(2, AHEAD // pictures.per_picture)
    places = range(len(pictures.positions))
    for pixels_VHWC in decoding.in_order(cut, places, ahead, decoding.DECODERS):
        yield pixels_VHWC.to(encoder.device)


def _cut_on_device(encoder: Encoder, pictures: PictureCrops) -> Iterator[Tensor]:
    """Cuts made on a stream of their own, so that they overlap with the encoder."""
    device, wanted = encoder.device, encoder.pipeline.preprocessing
    on_gpu = device.type == "cuda"
    stream = torch.cuda.Stream(device) if on_gpu else None
    kept: deque[tuple[decoding.Decoded, torch.cuda.Event | None]] = deque()
    place = 0
    decoded = decoding.decoded(pictures.table, pictures.positions, by_processes=on_gpu)
    with closing(decoded) as chunks:
        try:
            for chunk in chunks:
                sizes = [(each.shape[1], each.shape[0]) for each in chunk.pictures]
                cuts = [pictures.cuts(size, place + i) for i, size in enumerate(sizes)]
                place += len(sizes)
                with _on(stream):
                    copies = [each.to(device, non_blocking=True) for each in chunk.pictures]
                    kept.append((chunk, stream.record_event() if stream else None))
                    pixels_NHWC = cut_pictures(copies, cuts, wanted)
                yield _handed_over(pixels_NHWC, stream)
                if len(kept) > 2 or not on_gpu:
                    _release(kept)
        finally:
            while kept:
                _release(kept)


def _on(stream: torch.cuda.Stream | None) -> AbstractContextManager[object]:
    return torch.cuda.stream(stream) if stream else nullcontext()


def _handed_over(pixels_NHWC: Tensor, stream: torch.cuda.Stream | None) -> Tensor:
    """The same pixels, safe to use on the current stream."""
    if stream:
        current = torch.cuda.current_stream(pixels_NHWC.device)
        current.wait_stream(stream)
        pixels_NHWC.record_stream(current)
    return pixels_NHWC


def _release(kept: deque[tuple[decoding.Decoded, torch.cuda.Event | None]]) -> None:
    """Give the memory of the oldest chunk back once it has been copied."""
    chunk, copied = kept.popleft()
    if copied:
        copied.synchronize()
    chunk.release()


# --- features


def features(encoder: Encoder, pictures: PictureCrops) -> Iterator[Tensor]:
    """image_NVD of all cuts (N pictures, V cuts each), some pictures after the other."""
    run = _on_gpu if encoder.device.type == "cuda" else _on_cpu
    rest_ND: list[Tensor] = []
    done = 0  # pictures
    for image_ND in run(encoder, _batches(pixels(encoder, pictures), encoder.rows)):
        rest_ND.append(image_ND)
        whole = sum(map(len, rest_ND)) // pictures.per_picture * pictures.per_picture
        if whole:
            rows_ND = torch.cat(rest_ND)
            rest_ND = [rows_ND[whole:]]
            done += whole // pictures.per_picture
            tell("encoding image", done, len(pictures.positions))
            yield rows_ND[:whole].unflatten(0, (-1, pictures.per_picture))


def _batches(parts: Iterator[Tensor], size: int) -> Iterator[Tensor]:
    """The same rows in parts of `size`, the last one shorter."""
    waiting: list[Tensor] = []
    for part in parts:
        waiting.append(part)
        while sum(map(len, waiting)) >= size:
            rows = torch.cat(waiting)
            waiting = [rows[size:]]
            yield rows[:size]
    if sum(map(len, waiting)):
        yield torch.cat(waiting)


def _on_gpu(encoder: Encoder, batches: Iterator[Tensor]) -> Iterator[Tensor]:
    """Launched one after the other, the host at most IN_FLIGHT batches ahead of the device."""
    launched: deque[torch.cuda.Event] = deque()
    for pixels_NHWC in batches:
        yield encoder.encode(pixels_NHWC)
        launched.append(torch.cuda.current_stream(encoder.device).record_event())
        if len(launched) > IN_FLIGHT:
            launched.popleft().synchronize()


def _on_cpu(encoder: Encoder, batches: Iterator[Tensor]) -> Iterator[Tensor]:
    """THREADS batches at a time, each by one thread, so that no row depends on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    _keep_freed_memory()
    try:
        if THREADS == 1:
            yield from map(encoder.encode, batches)
        else:
            yield from decoding.in_order(encoder.encode, batches, THREADS + 1, THREADS)
    finally:
        torch.set_num_threads(before)


@cache
def _keep_freed_memory() -> None:
    """Have glibc keep what a layer frees for the next one, instead of giving it back to the system:
    one heap for all threads, blocks up to 32 MB from it, and up to 1 GB unused at its end.

    Fresh memory of a batch costs as much time as computing it. Elsewhere nothing happens.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(M_ARENA_MAX, 1)
        mallopt(M_MMAP_THRESHOLD, 32 << 20)
        mallopt(M_TRIM_THRESHOLD, 1 << 30)
