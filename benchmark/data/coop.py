"""The layout of CoOp: a folder of images and one split file that lists them as [path, label, class name]."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from benchmark.data import digests
from benchmark.data.pictures import Files
from benchmark.data.specs import Folder, Spec
from benchmark.data.tables import Table
from benchmark.errors import MISSING, UserError


def present(folder: Path, source: Folder) -> bool:
    """Whether the split file and the folder of images are there."""
    return (folder / source.split.file).is_file() and (folder / source.images).is_dir()


def read(promise: Spec, source: Folder, folder: Path) -> tuple[Table, Table, Table]:
    """The three tables in the split file's own order, which the few-shot sampler depends on."""
    if not present(folder, source):
        raise UserError(
            f"{promise.name} is not prepared: {folder} lacks {source.split.file} or {source.images}/; "
            f"run `python -m benchmark prepare {promise.name}` or give --data-root",
            exit_code=MISSING,
        )
    listed = _listed(promise, source, folder)
    tables = tuple(_table(listed[split], source, folder) for split in ("train", "val", "test"))
    _check_images(promise, tables, folder)
    return tables[0], tables[1], tables[2]


def _listed(promise: Spec, source: Folder, folder: Path) -> dict[str, list[tuple[str, int]]]:
    file = folder / source.split.file
    found = digests.hashed(file)
    if source.split.sha256 and found != source.split.sha256:
        raise UserError(
            f"{file} is not the split file of {promise.name}: sha256 {found[:12]} found, {source.split.sha256[:12]} expected; "
            f"replace it with the published one",
            exit_code=MISSING,
        )
    try:
        splits: dict[str, Any] = json.loads(file.read_bytes())
        return {name: [_row(row, promise) for row in splits[name]] for name in ("train", "val", "test")}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is no split file ({error}); it needs train, val and test lists of [path, label, name]") from error


def _row(row: Any, promise: Spec) -> tuple[str, int]:
    path, label, name = row
    if not 0 <= label < len(promise.class_names) or promise.class_names[label] != name:
        raise ValueError(f"label {label} is called '{name}', not as in class_names")
    return path, label


def _table(rows: list[tuple[str, int]], source: Folder, folder: Path) -> Table:
    keys = tuple(f"{source.images}/{path}".removeprefix("./") for path, _ in rows)
    return Table(keys, tuple(label for _, label in rows), Files(folder))


def _check_images(promise: Spec, tables: tuple[Table, ...], folder: Path) -> None:
    """Every listed image must be there. Folders are listed once each, which is far cheaper than asking file by file."""
    keys = [key for table in tables for key in table.keys]
    there = {name: _names(folder / name) for name in {os.path.dirname(key) for key in keys}}
    missing = [key for key in keys if os.path.basename(key) not in there[os.path.dirname(key)]]
    if missing:
        raise UserError(
            f"{promise.name} lacks {len(missing)} of {len(keys)} images in {folder}, the first is {missing[0]}; "
            f"run `python -m benchmark prepare {promise.name}`",
            exit_code=MISSING,
        )


def _names(folder: Path) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder))
    except OSError:
        return frozenset()
