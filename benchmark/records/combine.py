"""Folders of records from several machines become one; what contradicts is named and kept out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.errors import UserError
from benchmark.paths import write_atomic
from benchmark.records import class_names
from benchmark.records.kept_adapters import is_kept, json_file, read, require_noted, tensor_file
from benchmark.records.record import Record
from benchmark.records.store import Store


@dataclass(frozen=True)
class CombineResult:
    """What a merge did: how many records came, how many were there, and what stands
    against what."""

    added: int
    known: int
    conflicts: list[str]
    passed_over: list[str]


def combine(sources: Sequence[Store], target: Store) -> CombineResult:
    """Copy what `target` lacks. The same key with other counts is a conflict: the record that was
    there first stays.
    """
    for source in sources:
        if not (source.root / "records").is_dir():
            raise UserError(f"{source.root} is no folder of records: it has no folder 'records'")
    target.make_ready()
    added, known = 0, 0
    conflicts: list[str] = []
    passed_over: list[str] = []
    for source in sources:
        for record in source.records(passed_over):
            here = target.get(record.key)
            if here is None:
                _copy(source, target, record.key, passed_over)
                added += 1
            elif here.counts == record.counts:
                known += 1
            if here is None or here.counts == record.counts:
                _copy_adapter(source, target, record, passed_over)
            else:
                conflicts.append(
                    _conflict(
                        source,
                        target,
                        record.key,
                        sum(record.counts.correct),
                        sum(here.counts.correct),
                    )
                )
        _copy_class_names(source, target)
    return CombineResult(added, known, conflicts, passed_over)


def _copy(source: Store, target: Store, key: str, passed_over: list[str]) -> None:
    """Predictions first, as in Store.put: the JSON says that a record is whole."""
    beside = source.beside(key)
    if beside.is_file() and _are_predictions(source, key, passed_over):
        _copy_file(beside, target.beside(key))
    _copy_file(source.path(key), target.path(key))


def _copy_class_names(source: Store, target: Store) -> None:
    """Of every dataset whose names stand there and not here."""
    for digest in class_names.digests(source):
        if not class_names.read(target, digest):
            class_names.keep(target, digest, class_names.read(source, digest))


def _are_predictions(source: Store, key: str, passed_over: list[str]) -> bool:
    """Whether that is what lies beside a record: a link to another file of this machine must not be
    carried along.
    """
    try:
        source.predictions(key)
        source.confidences(key)
    except UserError as error:
        passed_over.append(f"{error}; the record is taken without them")
        return False
    return True


def _copy_adapter(source: Store, target: Store, record: Record, passed_over: list[str]) -> None:
    """What was learnt, where it was kept there and not here, and is what the record notes."""
    key = record.key
    if not is_kept(source, key) or is_kept(target, key):
        return
    try:
        read(json_file(source, key))
        require_noted(source, record)
    except UserError as error:
        passed_over.append(f"{error}; the record is taken without its adapter")
        return
    _copy_file(tensor_file(source, key), tensor_file(target, key))
    _copy_file(json_file(source, key), json_file(target, key))


def _copy_file(source: Path, target: Path) -> None:
    write_atomic(target, source.read_bytes())
    times = source.stat()
    os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))


def _conflict(source: Store, target: Store, key: str, theirs: int, ours: int) -> str:
    return (
        f"{key}: {theirs} right in {source.path(key)}, "
        f"but {ours} in {target.path(key)}, which stays"
    )
