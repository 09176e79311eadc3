"""Features on disk: shards of rows, one folder per space, found again by the content of their
picture.

A *space* is what must agree for two features to stand side by side: weights, pixel size and
statistics, version of the image pipeline, and the view protocol. Its folder holds immutable shards
(safetensors) of rows keyed by the content digest of their picture, so that overlapping support sets
of different shots and seeds share their rows and several processes may write at once; those that
need the same rows wait for the first. A shard that fails its checksum is dropped and its rows are
computed again; one that passes is memory-mapped.

Centre crops are kept in float32: all test and validation images of the eleven datasets take less
than 1.2 GB, and there is no rounding to explain. Random views are kept in float16, or 16 of them
per image would be the largest thing on the disk. What was just computed passes through the same
rounding, so that nobody sees whether a row was read or encoded.
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

import numpy as np
import torch
from torch import Tensor

from benchmark.api import Crop
from benchmark.errors import UserError
from benchmark.paths import remove_parts, write_atomic
from benchmark.records.leases import held, lease

SHARD_ROWS = 4096  # rows written at once
SHARD_S = 60.0  # seconds of encoding after which what is there is written: with SHARD_ROWS, what an interruption can cost
Views = tuple[int, int, Crop]
Compute = Callable[
    [list[int]], Iterator[Tensor]
]  # positions -> their rows in order, a few at a time


@dataclass(frozen=True)
class Space:
    """The folder of features that may stand side by side, below the store's root, and how its rows
    are kept.
    """

    folder: str
    dtype: torch.dtype
    backbone: str  # for people: which spaces are whose


def space(encoder_digest: str, views: Views | None, backbone: str = "") -> Space:
    """The space of the centre crop, or of `views`."""
    if views is None:
        return Space(f"{encoder_digest[:16]}/centre", torch.float32, backbone)
    count, seed, crop = views
    tag = f"views{count}-seed{seed}-scale{crop.min_scale:g}{'-flip' if crop.flip else ''}"
    return Space(
        f"{encoder_digest[:16]}/{re.sub(r'[^a-z0-9.-]', '_', tag)}", torch.float16, backbone
    )


@dataclass
class Stopwatch:
    """Seconds that encoding the features in use takes, whether it happened now or when they were
    stored; and seconds spent now.
    """

    worth_s: float = 0.0
    spent_s: float = 0.0


@dataclass(frozen=True, eq=False)
class Shard:
    """Rows as they lie on the disk, and what encoding one of them took."""

    rows: Tensor
    seconds_per_row: float


@dataclass(frozen=True)
class Known:
    """What this process has seen of a space: where each row is, and which files are read already."""

    place: dict[str, tuple[Shard, int]] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)

    def add(self, digests: Sequence[str], shard: Shard, file: str) -> None:
        self.files.add(file)
        self.place.update((digest, (shard, row)) for row, digest in enumerate(digests))


@dataclass(frozen=True)
class FeatureStore:
    """Shards below `root`; `memory` remembers where the rows are that this process has met."""

    root: Path
    memory: dict[Space, Known] = field(default_factory=dict, repr=False)

    def rows(
        self, space: Space, digests: Sequence[str], compute: Compute, watch: Stopwatch
    ) -> Tensor:
        """One float32 row per digest, in order; `compute(positions)` encodes what is not there yet."""
        known = self.memory.setdefault(space, Known())
        if self._missing(space, known, digests):
            with self._alone(space, digests, watch):
                if missing := self._missing(space, known, digests):
                    self._extend(
                        space, known, list(missing), compute(list(missing.values())), watch
                    )
        places = [known.place[digest] for digest in digests]
        watch.worth_s += sum(shard.seconds_per_row for shard, _ in places)
        return _gathered(places)

    def _missing(self, space: Space, known: Known, digests: Sequence[str]) -> dict[str, int]:
        """Rows that are neither in memory nor on the disk, and where they were asked for."""
        if any(digest not in known.place for digest in digests):
            self._read(space, known)  # another process may have been here
        return {
            digest: position for position, digest in enumerate(digests) if digest not in known.place
        }

    @contextmanager
    def _alone(self, space: Space, digests: Sequence[str], watch: Stopwatch) -> Iterator[None]:
        """Wait while another process encodes the same pictures: reading what it wrote is cheaper
        than encoding them again.
        """
        start = time.perf_counter()
        name = hashlib.sha256("\n".join(digests).encode()).hexdigest()[:16]
        with held(lease(self.root / space.folder / f"{name}.lock"), wait=True):
            remove_parts(self.root / space.folder)
            watch.spent_s += time.perf_counter() - start
            yield

    def _extend(
        self,
        space: Space,
        known: Known,
        digests: list[str],
        encoded: Iterator[Tensor],
        watch: Stopwatch,
    ) -> None:
        """Store rows as they come, shard by shard; what is there when something stops us is stored
        too.
        """
        parts: list[Tensor] = []
        start = time.perf_counter()
        done = 0

        def flush() -> None:
            nonlocal start, done
            spent_s = time.perf_counter() - start
            watch.spent_s += spent_s
            rows, parts[:] = torch.cat(parts).to(space.dtype), []
            keys = digests[done : done + len(rows)]
            shard = Shard(rows, spent_s / len(rows))
            known.add(keys, shard, self._write(space, keys, shard))
            start, done = time.perf_counter(), done + len(rows)

        try:
            for part in encoded:
                parts.append(part)
                if sum(map(len, parts)) >= SHARD_ROWS or time.perf_counter() - start > SHARD_S:
                    flush()
        finally:
            if parts:
                flush()

    def _write(self, space: Space, digests: list[str], shard: Shard) -> str:
        from safetensors.torch import save

        rows = shard.rows.contiguous()
        facts = {
            "digests": json.dumps(digests),
            "seconds_per_row": repr(shard.seconds_per_row),
            "backbone": space.backbone,
        }
        facts["sha256"] = _checksum(rows, facts["digests"])
        name = f"{facts['sha256'][:16]}.safetensors"
        write_atomic(self.root / space.folder / name, save({"features": rows}, facts))
        return name

    def _read(self, space: Space, known: Known) -> None:
        for path in sorted((self.root / space.folder).glob("*.safetensors")):
            if path.name not in known.files and (found := _read_shard(path, space.dtype)):
                known.add(*found, path.name)


def _read_shard(path: Path, dtype: torch.dtype) -> tuple[list[str], Shard] | None:
    """Digests and rows; None where the file is damaged, which is then removed so that its rows are
    computed again.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            facts, rows = file.metadata() or {}, file.get_tensor("features")
        digests, seconds_per_row = json.loads(facts["digests"]), float(facts["seconds_per_row"])
        if facts["sha256"] != _checksum(rows, facts["digests"]):
            raise ValueError("checksum")
        if (
            not _are_names(digests, len(rows))
            or rows.ndim < 2
            or rows.dtype != dtype
            or not 0 <= seconds_per_row < math.inf
        ):
            raise ValueError("another store's rows")
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RecursionError):
        path.unlink(missing_ok=True)
        return None
    return digests, Shard(rows, seconds_per_row)


def _are_names(digests: object, count: int) -> bool:
    return (
        isinstance(digests, list)
        and len(digests) == count
        and all(isinstance(digest, str) for digest in digests)
    )


def _checksum(rows: Tensor, digests: str) -> str:
    named = hashlib.sha256(digests.encode())
    named.update(np.ascontiguousarray(rows.numpy()).data.cast("B"))
    return named.hexdigest()


def _gathered(places: Sequence[tuple[Shard, int]]) -> Tensor:
    """Rows picked out of their shards, one shard after the other, in the order of `places`."""
    if not places:
        raise ValueError("features of no image were asked for")
    if len({shard.rows.shape[1:] for shard, _ in places}) > 1:
        raise UserError(
            "the stored features of one backbone have different lengths; `features --clear` removes them"
        )
    by_shard: dict[int, tuple[Shard, list[int], list[int]]] = {}
    for position, (shard, row) in enumerate(places):
        _, positions, rows = by_shard.setdefault(id(shard), (shard, [], []))
        positions.append(position)
        rows.append(row)
    out = torch.empty((len(places), *places[0][0].rows.shape[1:]))
    for shard, positions, rows in by_shard.values():
        out[positions] = shard.rows[rows].float()
    return out
