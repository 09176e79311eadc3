"""What the feature store holds, space by space, and clearing it. Reads the heads of its files only
and imports no torch.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DAY_S = 86400
HEAD_BYTES = 100 << 20  # the format allows no more


@dataclass(frozen=True)
class Shard:
    """One file of the store."""

    path: Path
    space: str  # folder below the store's root: digest of the encoder / views
    backbone: str  # "" where the file is damaged or does not say
    rows: int
    size_bytes: int
    age_days: float


def look(root: Path) -> list[Shard]:
    """Every file of the store below `root`, in order of path."""
    return [shard for path in sorted(root.rglob("*.safetensors")) if (shard := _shard(root, path))]


def _shard(root: Path, path: Path) -> Shard | None:
    try:
        stat = path.stat()
        head = _head(path)
    except OSError:  # another process has just cleared it
        return None
    space = path.parent.relative_to(root).as_posix()
    return Shard(path, space, *_named(head), stat.st_size, (time.time() - stat.st_mtime) / DAY_S)


def _named(head: dict[str, Any]) -> tuple[str, int]:
    """Backbone and number of rows; ("", 0) where a damaged head does not say."""
    try:
        backbone, rows = head["__metadata__"]["backbone"], head["features"]["shape"][0]
    except (LookupError, TypeError):
        return "", 0
    return (backbone, rows) if isinstance(backbone, str) and isinstance(rows, int) else ("", 0)


def _head(path: Path) -> dict[str, Any]:
    """The JSON that a safetensors file begins with, after eight bytes with its length; empty where
    there is none.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        prefix = stream.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else size
        text = stream.read(length) if length < min(size, HEAD_BYTES) else b""
    try:
        head = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return head if isinstance(head, dict) else {}


def chosen(
    shards: Sequence[Shard], backbones: Sequence[str] = (), older_than_days: float = 0
) -> list[Shard]:
    """The files of some backbones (of all, where none is named) that were written at least so many
    days ago.
    """
    return [
        each
        for each in shards
        if (not backbones or each.backbone in backbones) and each.age_days >= older_than_days
    ]


def clear(root: Path, shards: Sequence[Shard]) -> None:
    """Delete files, and the folders they leave empty. Whoever has them mapped keeps them until it
    ends.
    """
    for shard in shards:
        shard.path.unlink(missing_ok=True)
    for folder in sorted(
        {parent for shard in shards for parent in shard.path.parents if root in parent.parents},
        reverse=True,
    ):
        with suppress(OSError):  # not empty
            folder.rmdir()


def rows(shards: Sequence[Shard]) -> list[dict[str, Any]]:
    """One row per space, as `listing.text` and JSON take it."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for shard in shards:
        encoder, _, views = shard.space.partition("/")
        row = found.setdefault(
            (shard.backbone, shard.space),
            {
                "backbone": shard.backbone or "?",
                "views": views,
                "rows": 0,
                "files": 0,
                "mb": 0.0,
                "newest_days": 1e9,
                "encoder": encoder,
            },
        )
        row["rows"] += shard.rows
        row["files"] += 1
        row["mb"] = round(row["mb"] + shard.size_bytes / 1e6, 3)
        row["newest_days"] = round(min(row["newest_days"], max(shard.age_days, 0.0)), 2)
    return [found[name] for name in sorted(found)]
