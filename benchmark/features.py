"""Image features: encoded once per picture and view, kept on disk, found again by everything that can change them.

A *space* is what must agree for two features to be comparable: weights, pixel size and statistics, version of the image
pipeline, and the view protocol. One folder per space holds immutable shards (safetensors) of rows keyed by the content
digest of their picture, so that overlapping support sets of different shots and seeds share their rows, several processes
may write at once, and a shard that fails its checksum is dropped and computed again.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import torch
from PIL.Image import Image
from torch import Generator, Tensor

from benchmark.api import Backbone, Crop, ImageSet
from benchmark.data import Table
from benchmark.paths import write_atomic
from benchmark.transforms import Pipeline, centre, random_view, view_rng

BATCH = 64  # rows encoded at once; always full, the last one padded, so that a row never depends on its neighbours
SHARD_ROWS = 4096  # rows written at once: what an interruption can cost
Views = tuple[int, int, Crop]
Item = TypeVar("Item")
Picture = Callable[[int], Image]  # position in a table -> decoded picture


@dataclass(frozen=True)
class Encoder:
    """A backbone's image side with all that names its features."""

    backbone: Backbone
    pipeline: Pipeline
    digest: str  # of the weights and the pipeline

    def __call__(self, pixels_NHWC: Tensor) -> Tensor:
        """uint8 pixels -> image_ND on the CPU, in full batches whatever their number."""
        rows = []
        for chunk_NHWC in pixels_NHWC.split(BATCH):
            padded_NHWC = chunk_NHWC[torch.arange(BATCH).clamp_max(len(chunk_NHWC) - 1)].to(self.backbone.device)
            with torch.no_grad():
                rows.append(self.backbone.encode_pixels(self.pipeline.normalise(padded_NHWC))[: len(chunk_NHWC)].cpu())
        return torch.cat(rows)


@dataclass
class Stopwatch:
    """Seconds that encoding the features in use takes, whether it happened now or when they were stored; and seconds spent now."""

    worth_s: float = 0.0
    spent_s: float = 0.0


@dataclass(frozen=True)
class FeatureStore:
    """Shards below `root`, one folder per space; `memory` remembers rows read in this process."""

    root: Path
    memory: dict[str, dict[str, tuple[Tensor, float]]] = field(default_factory=dict, repr=False)

    def rows(self, space: str, digests: Sequence[str], compute: Callable[[list[int]], Tensor], watch: Stopwatch) -> Tensor:
        """One row per digest, in order; `compute(positions)` encodes what is not there yet."""
        known = self._known(space)
        if any(digest not in known for digest in digests):
            known.update(self._read(space))  # another process may have been here
        missing = {digest: position for position, digest in enumerate(digests) if digest not in known}
        for part in _chunks(sorted(missing.values()), SHARD_ROWS):
            self._compute(space, part, [digests[position] for position in part], compute, watch)
        watch.worth_s += sum(known[digest][1] for digest in digests)
        return torch.stack([known[digest][0] for digest in digests])

    def _known(self, space: str) -> dict[str, tuple[Tensor, float]]:
        return self.memory.setdefault(space, {})

    def _compute(
        self, space: str, positions: list[int], digests: list[str], compute: Callable[[list[int]], Tensor], watch: Stopwatch
    ) -> None:
        start = time.perf_counter()
        rows = compute(positions)
        spent = time.perf_counter() - start
        watch.spent_s += spent
        self._write(space, digests, rows, spent / len(rows))
        self._known(space).update((digest, (row, spent / len(rows))) for digest, row in zip(digests, rows, strict=True))

    def _write(self, space: str, digests: list[str], rows: Tensor, seconds_per_row: float) -> None:
        from safetensors.torch import save

        tensors = {"features": rows.contiguous()}
        facts = {"digests": json.dumps(digests), "seconds_per_row": repr(seconds_per_row), "sha256": _checksum(rows, digests)}
        write_atomic(self.root / space / f"{facts['sha256'][:16]}.safetensors", save(tensors, facts))

    def _read(self, space: str) -> dict[str, tuple[Tensor, float]]:
        known: dict[str, tuple[Tensor, float]] = {}
        for path in sorted((self.root / space).glob("*.safetensors")):
            known.update(_read_shard(path))
        return known


def _read_shard(path: Path) -> dict[str, tuple[Tensor, float]]:
    """Rows by digest; nothing where the file is damaged, which is then removed so that its rows are computed again."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            facts, rows = file.metadata() or {}, file.get_tensor("features")
        digests, seconds = json.loads(facts["digests"]), float(facts["seconds_per_row"])
        if facts["sha256"] != _checksum(rows, digests):
            raise ValueError("checksum")
    except FileNotFoundError:
        return {}
    except (SafetensorError, KeyError, ValueError, TypeError):
        path.unlink(missing_ok=True)
        return {}
    return {digest: (row, seconds) for digest, row in zip(digests, rows, strict=True)}


def _checksum(rows: Tensor, digests: list[str]) -> str:
    return hashlib.sha256(json.dumps(digests).encode() + rows.contiguous().numpy().tobytes()).hexdigest()


def image_set(table: Table, encoder: Encoder, store: FeatureStore, watch: Stopwatch) -> ImageSet:
    """The pictures of `table` as images without labels: not even what the closures hold has them."""
    table = replace(table, labels=())
    digests = [table.digest(position) for position in range(len(table))]
    picture, image_px = table.open, encoder.pipeline.image_px

    def encode(views: Views | None) -> Tensor:
        def compute(chosen: list[int]) -> Tensor:
            return _encode(encoder, picture, chosen, [digests[i] for i in chosen], views)

        rows = store.rows(space(encoder.digest, views), digests, compute, watch).to(encoder.backbone.device)
        return rows if views is None else rows.transpose(0, 1)

    def decode(index_N: Tensor, crop: Crop | None, rng: Generator | None) -> Tensor:
        pictures = (picture(i) for i in index_N.tolist())
        if crop is None or rng is None:
            pixels = [centre(each, image_px) for each in pictures]
        else:
            seeds = torch.randint(2**62, (len(index_N),), generator=rng).tolist()
            pixels = [random_view(each, image_px, crop, view_rng("fresh", seed, 0)) for each, seed in zip(pictures, seeds, strict=True)]
        return encoder.pipeline.normalise(torch.stack(pixels).to(encoder.backbone.device))

    return ImageSet(len(table), encode, decode)


def space(encoder_digest: str, views: Views | None) -> str:
    """The folder of features that may stand side by side."""
    if views is None:
        return f"{encoder_digest[:16]}/centre"
    count, seed, crop = views
    tag = f"views{count}-seed{seed}-scale{crop.min_scale:g}{'-flip' if crop.flip else ''}"
    return f"{encoder_digest[:16]}/{re.sub(r'[^a-z0-9.-]', '_', tag)}"


def _encode(encoder: Encoder, picture: Picture, positions: list[int], digests: list[str], views: Views | None) -> Tensor:
    """image_ND, or image_NVD for views; pictures are decoded one batch ahead of the encoder, never all at once."""
    per_picture = views[0] if views else 1
    rows = [
        encoder(torch.cat([_cut(picture(position), encoder.pipeline.image_px, digest, views) for position, digest in part]))
        for part in _chunks(list(zip(positions, digests, strict=True)), max(1, BATCH // per_picture))
    ]
    image_ND = torch.cat(rows)
    return image_ND if views is None else image_ND.unflatten(0, (-1, per_picture))


def _cut(picture: Image, image_px: int, digest: str, views: Views | None) -> Tensor:
    """uint8 pixels_VHWC of one picture: its centre, or its random views."""
    if views is None:
        return centre(picture, image_px)[None]
    count, seed, crop = views
    return torch.stack([random_view(picture, image_px, crop, view_rng(digest, seed, view)) for view in range(count)])


def _chunks(items: list[Item], size: int) -> Iterator[list[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
