"""Features on disk: files of rows, one folder per space, keyed by the digest of their picture.

A *space* is what must agree for two features to be compared: weights, precision, pixel size and
statistics, version of the image pipeline, and the view protocol. Its folder holds immutable files
(safetensors) of rows keyed by the content digest of their picture. Overlapping support sets of
different shots and seeds share their rows, and several processes may write at once; those that
need the same rows wait for the first. A file that fails its checksum is removed and its rows are
computed again; one that passes is memory-mapped.

Centre crops are kept in float32: all test and validation images of the eleven datasets take less
than 1.2 GB, and there is no rounding to explain. Random views are kept in float16, because 16 of
them per image would be the largest item on the disk. So are the features of single places, 49 or
196 an image, and they stay so in memory. An encoder in float64 keeps everything in
float64. What was just computed is rounded in the same way, so that a caller cannot tell whether a
row was read or encoded.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from benchmark.api import Crop
from benchmark.backbones import local_features
from benchmark.errors import UserError
from benchmark.paths import remove_parts, write_atomic
from benchmark.records.leases import held, lease

# A file is written after so many rows, numbers or seconds: what an interruption can cost at most,
# and what waits in memory.
FILE_ROWS = 4096
FILE_NUMBERS = 2**27
FILE_S = 60.0
Views = tuple[int, int, Crop]
# of features: an image's own, what the image tower's projection reads, those of single places
Kind = Literal["pooled", "unprojected", "local"]
# positions -> their rows in order, a few at a time
Compute = Callable[[list[int]], Iterator[Tensor]]


@dataclass(frozen=True)
class Space:
    """The folder, below the store's root, of features that may be compared with each other."""

    folder: str
    dtype: torch.dtype
    backbone: str  # for people: which spaces belong to which backbone
    given: torch.dtype = torch.float32  # what its rows are handed out in


def space(
    encoder_digest: str,
    views: Views | None,
    backbone: str = "",
    *,
    double: bool = False,
    kind: Kind = "pooled",
) -> Space:
    """The space of a kind of features of the centre crop, or of `views`; `double` keeps rows in
    float64.
    """
    tag = "centre" if views is None else _view_tag(*views)
    folder = f"{encoder_digest[:16]}/{re.sub(r'[^a-z0-9.-]', '_', _kind_tag(kind) + tag)}"
    if double:
        return Space(folder, torch.float64, backbone, torch.float64)
    if kind == "local":
        return Space(folder, torch.float16, backbone, torch.float16)
    return Space(folder, torch.float32 if views is None else torch.float16, backbone)


def _kind_tag(kind: Kind) -> str:
    """Places are read out by a formula of our own, which has a version."""
    version = f"{local_features.VERSION}" if kind == "local" else ""
    return "" if kind == "pooled" else f"{kind}{version}-"


def _view_tag(count: int, seed: int, crop: Crop) -> str:
    return f"views{count}-seed{seed}-scale{crop.min_scale:g}{'-flip' if crop.flip else ''}"


@dataclass
class Stopwatch:
    """What the features of one problem cost.

    `encoding_s` is spent here and now; rows that were stored already cost nothing. `waiting_s` is
    spent while another process encodes the same rows. `worth_s` is what encoding every row that
    was asked for takes, each row counted once, whoever encoded it.
    """

    encoding_s: float = 0.0
    waiting_s: float = 0.0
    worth_s: float = 0.0
    counted: set[tuple[Space, str]] = field(default_factory=set, repr=False)

    @property
    def spent_s(self) -> float:
        """Seconds of this process that are no part of what the caller does with the features."""
        return self.encoding_s + self.waiting_s

    def count(self, space: Space, digests: Sequence[str], seconds: Sequence[float]) -> None:
        """Add the worth of the rows that were not counted before."""
        for digest, seconds_per_row in zip(digests, seconds, strict=True):
            if (space, digest) not in self.counted:
                self.counted.add((space, digest))
                self.worth_s += seconds_per_row


@dataclass(frozen=True, eq=False)
class StoredRows:
    """The rows of one file, and the seconds that encoding one of them took."""

    rows: Tensor
    seconds_per_row: float


@dataclass(frozen=True)
class SpaceIndex:
    """What this process has read of a space: where each row is, and from which files."""

    location: dict[str, tuple[StoredRows, int]]
    files: set[str]

    def add(self, digests: Sequence[str], stored: StoredRows, file: str) -> None:
        self.files.add(file)
        self.location.update((digest, (stored, row)) for row, digest in enumerate(digests))


@dataclass(frozen=True)
class FeatureStore:
    """Feature files below `root`.

    `rows(space, digests, compute, timer)` gives one row per digest, in order, in the type that the
    space hands out; `compute(positions)` encodes what is not stored yet.
    """

    root: Path
    rows: Callable[[Space, Sequence[str], Compute, Stopwatch], Tensor] = field(repr=False)


def open_store(root: Path) -> FeatureStore:
    """The store below `root`; it remembers where the rows are that this process has read."""
    indexes: dict[Space, SpaceIndex] = {}

    def rows(space: Space, digests: Sequence[str], compute: Compute, timer: Stopwatch) -> Tensor:
        index = indexes.setdefault(space, SpaceIndex({}, set()))
        folder = root / space.folder
        if _missing(folder, space, index, digests):
            with _exclusive(folder, digests, timer):
                if missing := _missing(folder, space, index, digests):
                    encoded = compute(list(missing.values()))
                    _extend(folder, space, index, list(missing), encoded, timer)
        locations = [index.location[digest] for digest in digests]
        timer.count(space, digests, [stored.seconds_per_row for stored, _ in locations])
        return _gathered(locations, space.given)

    return FeatureStore(root, rows)


def _missing(
    folder: Path, space: Space, index: SpaceIndex, digests: Sequence[str]
) -> dict[str, int]:
    """Digests that are neither in memory nor on the disk, and their position among `digests`."""
    if any(digest not in index.location for digest in digests):
        _read_new(folder, space, index)  # another process may have written since
    return {
        digest: position for position, digest in enumerate(digests) if digest not in index.location
    }


@contextmanager
def _exclusive(folder: Path, digests: Sequence[str], timer: Stopwatch) -> Iterator[None]:
    """Wait while another process encodes the same pictures: reading its rows is cheaper."""
    start = time.perf_counter()
    name = hashlib.sha256("\n".join(digests).encode()).hexdigest()[:16]
    with held(lease(folder / f"{name}.lock"), wait=True):
        remove_parts(folder)
        timer.waiting_s += time.perf_counter() - start
        yield


def _extend(
    folder: Path,
    space: Space,
    index: SpaceIndex,
    digests: list[str],
    encoded: Iterator[Tensor],
    timer: Stopwatch,
) -> None:
    """Store rows as they come, file by file; an interruption stores what is there as well."""
    parts: list[Tensor] = []
    start = time.perf_counter()
    done = 0

    def flush() -> None:
        nonlocal start, done
        rows, parts[:] = torch.cat(parts).to("cpu", space.dtype), []
        spent_s = time.perf_counter() - start
        timer.encoding_s += spent_s
        keys = digests[done : done + len(rows)]
        stored = StoredRows(rows, spent_s / len(rows))
        index.add(keys, stored, _write(folder, space, keys, stored))
        start, done = time.perf_counter(), done + len(rows)

    try:
        for part in encoded:
            parts.append(part)
            if _enough(parts) or time.perf_counter() - start > FILE_S:
                flush()
    finally:
        if parts:
            flush()


def _enough(parts: Sequence[Tensor]) -> bool:
    rows, numbers = sum(map(len, parts)), sum(part.numel() for part in parts)
    return rows >= FILE_ROWS or numbers >= FILE_NUMBERS


def _write(folder: Path, space: Space, digests: list[str], stored: StoredRows) -> str:
    from safetensors.torch import save

    rows = stored.rows.contiguous()
    metadata = {
        "digests": json.dumps(digests),
        "seconds_per_row": repr(stored.seconds_per_row),
        "backbone": space.backbone,
    }
    metadata["sha256"] = _checksum(rows, metadata["digests"])
    name = f"{metadata['sha256'][:16]}.safetensors"
    write_atomic(folder / name, save({"features": rows}, metadata))
    return name


def _read_new(folder: Path, space: Space, index: SpaceIndex) -> None:
    for path in sorted(folder.glob("*.safetensors")):
        if path.name not in index.files and (content := _read(path, space.dtype)):
            index.add(*content, path.name)


def _read(path: Path, dtype: torch.dtype) -> tuple[list[str], StoredRows] | None:
    """Digests and rows of a file; None where it is damaged, and then it is removed."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            metadata, rows = file.metadata() or {}, file.get_tensor("features")
        digests = json.loads(metadata["digests"])
        seconds_per_row = float(metadata["seconds_per_row"])
        if metadata["sha256"] != _checksum(rows, metadata["digests"]):
            raise ValueError("checksum")
        if (
            not _are_names(digests, len(rows))
            or rows.ndim < 2
            or rows.dtype != dtype
            or not 0 <= seconds_per_row < math.inf
        ):
            raise ValueError("not the rows of this space")
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RecursionError):
        path.unlink(missing_ok=True)
        return None
    return digests, StoredRows(rows, seconds_per_row)


def _are_names(digests: object, count: int) -> bool:
    return (
        isinstance(digests, list)
        and len(digests) == count
        and all(isinstance(digest, str) for digest in digests)
    )


def _checksum(rows: Tensor, digests: str) -> str:
    hashed = hashlib.sha256(digests.encode())
    hashed.update(np.ascontiguousarray(rows.numpy()).data.cast("B"))
    return hashed.hexdigest()


def _gathered(locations: Sequence[tuple[StoredRows, int]], dtype: torch.dtype) -> Tensor:
    """Rows copied out of their files, one file after the other, in the order of `locations`."""
    if not locations:
        raise ValueError("features of no image were asked for")
    if len({stored.rows.shape[1:] for stored, _ in locations}) > 1:
        raise UserError(
            "the stored features of one backbone have different lengths; "
            "remove them with `features --clear`"
        )
    by_file: dict[int, tuple[StoredRows, list[int], list[int]]] = {}
    for position, (stored, row) in enumerate(locations):
        _, positions, rows = by_file.setdefault(id(stored), (stored, [], []))
        positions.append(position)
        rows.append(row)
    first = locations[0][0].rows
    out = torch.empty((len(locations), *first.shape[1:]), dtype=dtype)
    for stored, positions, rows in by_file.values():
        out[positions] = stored.rows[rows].to(dtype)
    return out
