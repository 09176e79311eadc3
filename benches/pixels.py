"""From JPEG files to stored features on whatever device there is. `python -m benches.pixels`

Pictures: Caltech101 where `--data-root` or FSBENCH_DATA has it, JPEG files made for the purpose
elsewhere. Encoder: the shapes of ViT-B/16 with random weights. Stages are timed one by one (decode,
cut, encode) and then as a whole, into a feature store that is thrown away. Then how far the pixels
and features of the pipelines and precisions are apart. On a CPU, two convolutional networks as
well, in batches as they were before and as they are now. `--quick` takes seconds on a CPU;
`--json FILE` writes the figures.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import open_clip
import timm
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benches.timing import machine
from benchmark import data
from benchmark.api import Crop
from benchmark.backbones import clip, image_only
from benchmark.backbones.clip import OpenClip
from benchmark.backbones.precision import tower_dtype
from benchmark.data import ImageTable
from benchmark.data.pictures import PictureFiles
from benchmark.errors import UserError
from benchmark.features import decoding, encoding, resampling
from benchmark.features.encoding import Encoder
from benchmark.features.feature_store import Stopwatch, Views, open_store
from benchmark.features.image_sets import image_set
from benchmark.features.transforms import Pipeline, centre, centre_cut, random_cut, view_rng

VIEWS: Views = (16, 0, Crop())


@dataclass(frozen=True)
class Figure:
    """One measured number."""

    what: str
    value: float
    unit: str
    note: str = ""


@dataclass(frozen=True)
class Setting:
    """What is measured, and how much of it."""

    table: ImageTable
    backbone: OpenClip
    precisions: tuple[str, ...]
    viewed: int  # pictures of which views are cut

    def encoder(self, precision: str, *, on_device: bool) -> Encoder:
        pipeline = Pipeline(self.backbone.preprocessing, cuts_on_device=on_device)
        model = copy.deepcopy(self.backbone.model).to(tower_dtype(precision))
        backbone = replace(self.backbone, model=model)
        return Encoder(backbone, pipeline, "e" * 64, precision)

    @property
    def device(self) -> torch.device:
        return self.backbone.device


def setting(device: str, quick: bool, data_root: Path | None, folder: Path) -> Setting:
    on_gpu = device.startswith("cuda")
    arch = "ViT-B-32-quickgelu" if quick else "ViT-B-16-quickgelu"
    model = open_clip.create_model(arch, pretrained=None).to(device)
    precisions = ("float32", "tf32", "bfloat16", "float16") if on_gpu else ("float32",)
    count = 4 if quick else (4096 if on_gpu else 128)
    return Setting(
        pictures(count, data_root, folder),
        clip.from_model(model, f"{arch} shapes"),
        precisions,
        viewed=max(2, count // 16),
    )


def pictures(count: int, data_root: Path | None, folder: Path) -> ImageTable:
    """So many pictures of Caltech101, or JPEG files of its size and weight."""
    with suppress(UserError):
        test = data.load("caltech101", data_root).test
        return test.take(range(min(count, len(test))))
    rng = np.random.default_rng(0)
    keys = tuple(f"{number}.jpg" for number in range(count))
    for key in keys:
        coarse = Image.fromarray(rng.integers(0, 256, (20, 26, 3), dtype=np.uint8))
        size = int(rng.integers(240, 400)), int(rng.integers(200, 300))
        coarse.resize(size, Image.Resampling.BICUBIC).save(folder / key, quality=85)
    return ImageTable(keys, (0,) * count, PictureFiles(folder))


def seconds(work: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def rate(what: str, count: int, work: Callable[[], object], device: torch.device) -> Figure:
    return Figure(what, count / seconds(work, device), "/s")


def _repeat(work: Callable[[], object], rounds: int) -> None:
    for _ in range(rounds):
        work()


# --- stages


def decoding_figures(given: Setting) -> Iterator[Figure]:
    count = len(given.table)
    for by_processes in (False, True):
        work = partial(_decode_all, given.table, by_processes)
        if by_processes:
            if not hasattr(os, "memfd_create") or count < decoding.FEWEST:
                continue
            work()  # starts them
        name = f"{decoding.PROCESSES} processes" if by_processes else f"{decoding.DECODERS} threads"
        yield rate(f"decode, {name}", count, work, torch.device("cpu"))


def _decode_all(table: ImageTable, by_processes: bool) -> None:
    for chunk in decoding.decoded(table, range(len(table)), by_processes=by_processes):
        chunk.release()


def cutting_figures(given: Setting) -> Iterator[Figure]:
    """Sixteen views of pictures that are on the device already."""
    opened = [given.table.open(i) for i in range(min(16, len(given.table)))]
    pixels = [torch.from_numpy(np.array(each)).to(given.device) for each in opened]
    wanted = given.backbone.preprocessing
    cuts = [
        [random_cut(each.size, wanted, Crop(), view_rng("b", i, view)) for view in range(VIEWS[0])]
        for i, each in enumerate(opened)
    ]
    rounds = 20 if given.device.type == "cuda" else 1
    cut = partial(resampling.cut_pictures, pixels, cuts, wanted)
    cut()
    work = partial(_repeat, cut, rounds)
    yield rate("cut views, device pipeline", rounds * len(pixels) * VIEWS[0], work, given.device)


def encoding_figures(given: Setting) -> Iterator[Figure]:
    for precision in given.precisions:
        encoder = given.encoder(precision, on_device=True)
        px = encoder.pipeline.preprocessing.height
        pixels_NHWC = torch.randint(0, 256, (encoder.rows, px, px, 3), dtype=torch.uint8)
        encode = partial(encoder.encode, pixels_NHWC.to(given.device))
        encode()
        rounds = 8 if given.device.type == "cuda" else 1
        work = partial(_repeat, encode, rounds)
        yield rate(f"encode, {precision}", rounds * encoder.rows, work, given.device)


# --- as a whole


def whole_figures(given: Setting) -> Iterator[Figure]:
    """JPEG on disk to stored features, by each pipeline and precision."""
    viewed = given.table.take(range(given.viewed))
    variants = [(given.precisions[0], False)] + [(each, True) for each in given.precisions]
    for precision, on_device in variants:
        encoder = given.encoder(precision, on_device=on_device)
        stored(given.table.take(range(min(300, len(given.table)))), encoder, None)  # warm
        name = f"{'device' if on_device else 'host'} pipeline, {precision}"
        work = partial(stored, given.table, encoder, None)
        yield rate(f"JPEG to stored centre, {name}", len(given.table), work, given.device)
        work = partial(stored, viewed, encoder, VIEWS)
        yield rate(f"JPEG to stored views, {name}", len(viewed) * VIEWS[0], work, given.device)


def stored(table: ImageTable, encoder: Encoder, views: Views | None) -> Tensor:
    with tempfile.TemporaryDirectory() as folder:
        return image_set(table, encoder, open_store(Path(folder)), Stopwatch()).encode(views)


# --- agreement


def agreement_figures(given: Setting, compared: int) -> Iterator[Figure]:
    """How far the device pipeline is from the host's, and each precision from the first."""
    few = given.table.take(range(min(compared, len(given.table))))
    apart, unequal = zip(*(_pixels_apart(few.open(i), given) for i in range(len(few))), strict=True)
    note = f"{100 * sum(unequal) / len(unequal):.3f} % of the values differ"
    yield Figure("pixels, device against host pipeline", max(apart), "of 255 at most", note)
    first = given.precisions[0]
    host_ND = stored(few, given.encoder(first, on_device=False), None)
    for precision in given.precisions:
        ours_ND = stored(few, given.encoder(precision, on_device=True), None)
        moved = float((1 - torch.cosine_similarity(ours_ND.double(), host_ND.double())).max())
        name = f"features, device pipeline in {precision}, against host pipeline in {first}"
        yield Figure(name, moved, "1 - cos at most")


def _pixels_apart(picture: Image.Image, given: Setting) -> tuple[int, float]:
    wanted = given.backbone.preprocessing
    on_device = torch.from_numpy(np.array(picture)).to(given.device)
    ours = resampling.cut_pictures([on_device], [[centre_cut(picture.size, wanted)]], wanted)[
        0
    ].cpu()
    distance = (ours.int() - centre(picture, wanted).int()).abs()
    return int(distance.max()), float((distance > 0).float().mean())


# --- convolutional networks on a CPU


def cpu_figures(names: tuple[str, ...], count: int) -> Iterator[Figure]:
    """Milliseconds of processor time an image, system time included.

    First all networks as they were encoded before: what is done now changes how memory is kept.
    """
    variants = {"batches of 64, one thread": _encode_as_before, "as it is now": _encode_now}
    encoders = {name: _network(name) for name in names}
    for variant, encode in variants.items():
        for name, encoder in encoders.items():
            px = encoder.pipeline.preprocessing.height
            pixels_NHWC = torch.randint(0, 256, (count, px, px, 3), dtype=torch.uint8)
            user_s, system_s, wall_s = _processor_seconds(partial(encode, encoder, pixels_NHWC))
            note = f"system {1e3 * system_s / count:.1f}, on the clock {1e3 * wall_s / count:.1f}"
            value = 1e3 * (user_s + system_s) / count
            yield Figure(f"{name}, {variant}", value, "processor ms an image", note)


def _network(name: str) -> Encoder:
    model = timm.create_model(name, pretrained=False, num_classes=0)
    backbone = image_only.from_model(model, name)
    pipeline = Pipeline(backbone.preprocessing)
    return Encoder(backbone, pipeline, "e" * 64)


def _encode_as_before(encoder: Encoder, pixels_NHWC: Tensor) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    buffer_NCHW = torch.empty((64, 3, *pixels_NHWC.shape[1:3]))
    for part in pixels_NHWC.split(64):
        pixels_NCHW = encoder.pipeline.normalise(encoding.padded(part, 64), buffer_NCHW)
        with torch.no_grad():
            encoder.backbone.encode_pixels(pixels_NCHW)
    torch.set_num_threads(threads)


def _encode_now(encoder: Encoder, pixels_NHWC: Tensor) -> None:
    batches = iter(pixels_NHWC.split(encoder.rows))
    for _ in encoding._on_cpu(encoder, batches):
        pass


def _processor_seconds(work: Callable[[], object]) -> tuple[float, float, float]:
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    work()
    after, wall_s = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter() - start
    return after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime, wall_s


def figures(device: str, quick: bool, data_root: Path | None = None) -> Iterator[Figure]:
    """Everything this page measures, one figure after the other."""
    if device == "cpu":
        names = ("tf_efficientnet_lite0", "resnet50")
        yield from cpu_figures(names[:1] if quick else names, 16 if quick else 192)
    with tempfile.TemporaryDirectory() as folder:
        given = setting(device, quick, data_root, Path(folder))
        yield from decoding_figures(given)
        yield from cutting_figures(given)
        yield from encoding_figures(given)
        yield from whole_figures(given)
        yield from agreement_figures(given, 2 if quick else 256)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--data-root", type=Path, help="default: FSBENCH_DATA")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args()
    measured = []
    table = Table("what", "value", "unit", "note", title=machine())
    for figure in figures(given.device, given.quick, given.data_root):
        measured.append(asdict(figure))
        table.add_row(figure.what, f"{figure.value:.4g}", figure.unit, figure.note)
    Console(width=150).print(table)
    if given.json:
        given.json.write_text(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
