"""What the feature store holds, space by space, and how to clear it. Reads file headers only and
imports no torch.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DAY_S = 86400


@dataclass(frozen=True)
class FeatureFile:
    """One file of the store."""

    path: Path
    space: str  # folder below the store's root: digest of the encoder / views
    backbone: str  # "" where the file is damaged or does not say
    rows: int
    size_bytes: int
    age_days: float


def list_files(root: Path) -> list[FeatureFile]:
    """Every file of the store below `root`, in order of path."""
    files = (_described(root, path) for path in sorted(root.rglob("*.safetensors")))
    return [file for file in files if file]


def _described(root: Path, path: Path) -> FeatureFile | None:
    try:
        stat = path.stat()
        backbone, rows = _header(path)
    except OSError:  # another process has just removed it
        return None
    space = path.parent.relative_to(root).as_posix()
    age_days = (time.time() - stat.st_mtime) / DAY_S
    return FeatureFile(path, space, backbone, rows, stat.st_size, age_days)


def _header(path: Path) -> tuple[str, int]:
    """Backbone and number of rows; ("", 0) where a damaged header does not say."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            backbone = (file.metadata() or {})["backbone"]
            rows = file.get_slice("features").get_shape()[0]
    except (SafetensorError, LookupError, ValueError, TypeError):
        return "", 0
    return backbone, rows


def select(
    files: Sequence[FeatureFile], backbones: Sequence[str] = (), older_than_days: float = 0
) -> list[FeatureFile]:
    """The files of some backbones (of all, where none is named) at least so many days old."""
    return [
        each
        for each in files
        if (not backbones or each.backbone in backbones) and each.age_days >= older_than_days
    ]


def remove(root: Path, files: Sequence[FeatureFile]) -> None:
    """Delete files, and the folders they leave empty. A process that has one mapped keeps it."""
    for file in files:
        file.path.unlink(missing_ok=True)
    folders = {parent for file in files for parent in file.path.parents if root in parent.parents}
    for folder in sorted(folders, reverse=True):
        with suppress(OSError):  # not empty
            folder.rmdir()


def table_rows(files: Sequence[FeatureFile]) -> list[dict[str, Any]]:
    """One row per space, for `features` and its JSON."""
    spaces: dict[tuple[str, str], list[FeatureFile]] = {}
    for file in files:
        spaces.setdefault((file.backbone, file.space), []).append(file)
    return [_table_row(*name, spaces[name]) for name in sorted(spaces)]


def _table_row(backbone: str, space: str, files: Sequence[FeatureFile]) -> dict[str, Any]:
    encoder, _, views = space.partition("/")
    return {
        "backbone": backbone or "?",
        "views": views,
        "rows": sum(file.rows for file in files),
        "files": len(files),
        "mb": round(sum(file.size_bytes for file in files) / 1e6, 3),
        "newest_days": round(min(max(file.age_days, 0.0) for file in files), 2),
        "encoder": encoder,
    }
