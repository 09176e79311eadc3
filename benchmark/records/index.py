"""An index beside the records, so that a report of many of them opens one file instead of each.

It holds what tables are made of: identities, sums of counts, costs, notes, provenance. It is a
memory and nothing more: a row serves only while the record's file has the very stamp (paths.py)
under which it was read and checked, so a file that is new, changed or gone is seen at every look,
and read anew. An index that is damaged, foreign or of another version is passed over and written
again. Records that are copied elsewhere take no index along: their stamps are others.

It lies in the results folder, or in the cache folder where that may only be read. Counts by class
stay in the records and are read from there where they are asked for.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_type_hints

from pydantic import BaseModel, ConfigDict, Field

from benchmark.errors import UserError
from benchmark.paths import cache_dir, is_settled, stamp_of, write_atomic
from benchmark.records.record import (
    Costs,
    Counts,
    Identity,
    Images,
    Note,
    Record,
    Scalar,
    Title,
    Whole,
    draws_of,
    family_of,
)
from benchmark.records.store import Store, read

FILE = "records.index"
FEWEST = 1000  # records; fewer are read about as fast one by one
WORTH_WRITING = 0.01  # share of the records that an index lacks, or has too many of
MOST_BYTES = 10_000  # of an index, for each record
COSTS = tuple(Costs.model_fields)
# Another list is another version; raise the number where the same record is kept in another way, or
# where a field of a record has other bounds.
FIELDS = ["version 2", *Identity.model_fields, *COSTS]

if TYPE_CHECKING:
    CostValues = tuple[int | float | None, ...]
else:  # each as its field takes it, bounds included
    CostValues = tuple[tuple(get_type_hints(Costs, include_extras=True).values())]
Share = Annotated[float, Field(ge=0, le=1)]
Row = tuple[
    str,  # name of the file
    str,  # its stamp
    Whole,  # number of its family
    Whole,  # shots
    Whole,  # seed
    Images,  # that are right
    Images,  # tested
    Share,  # mean accuracy by class
    CostValues,
    dict[str, Note],
    Whole,  # number of its provenance
]


class Family(BaseModel):
    """What many records share."""

    model_config = ConfigDict(extra="forbid")

    title: Title
    identity: Identity  # of one of them


class Content(BaseModel):
    """What is in the file, below the sha256 of it."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    fields: list[str] = FIELDS
    families: list[Family] = []
    provenances: list[dict[str, Any]] = []
    rows: list[Row] = []


@dataclass(frozen=True, slots=True, eq=False)
class IndexedRecord:
    """All that a report reads of a Record."""

    key: str
    title: str
    family: str
    identity: Identity
    right: int
    tested: int
    class_accuracy: float
    notes: dict[str, Scalar]
    provenance: dict[str, Any]
    _costs: CostValues
    _store: Store

    @property
    def accuracy(self) -> float:
        return self.right / max(1, self.tested)

    @property
    def costs(self) -> Costs:
        return Costs.model_validate(dict(zip(COSTS, self._costs, strict=True)))

    @property
    def counts(self) -> Counts:
        """Of every class, from the record; UserError where it is no longer the one of the index."""
        path = self._store.path(self.key)
        record = read(path)
        if (record.right, record.tested) != (self.right, self.tested):
            raise UserError(f"{path} was changed a moment ago; give the command again")
        return record.counts


def read_records(store: Store, problems: list[str], besides: Collection[str] = ()) -> list[Record]:
    """All trustworthy records in order of key, but those `besides`; why others are passed over is
    added to `problems`.

    Of a large folder they are IndexedRecords, which offer what reports read of a Record.
    """
    keys = store.keys()
    if len(keys) < FEWEST:
        return list(store.records(problems, besides))
    with without_collection():
        indexed = _read_indexed(store, keys, problems)
        return cast("list[Record]", [each for each in indexed if each.key not in besides])


def _read_indexed(store: Store, keys: Collection[str], problems: list[str]) -> list[IndexedRecord]:
    place, folder = _place(store.root), os.fspath(store.root / "records")
    stamps = {key: _stamp(f"{folder}/{key}.json") for key in keys}
    content = _load(place, MOST_BYTES * len(keys))
    known = [row for row in content.rows if stamps.get(row[0]) == row[1]]
    gone = len(content.rows) - len(known)
    if gone > len(known):  # what only they needed goes with them
        content, known = Content(), []
    fresh = sorted(stamps.keys() - {row[0] for row in known})
    rows = list(_fresh_rows(content, [(store.path(key), stamps[key]) for key in fresh], problems))
    lasting = [row for row in rows if is_settled(store.path(row[0]), row[1])]
    if len(lasting) + gone > WORTH_WRITING * len(keys):
        _save(place, content.model_copy(update={"rows": known + lasting}))
    return _records(content, sorted(known + rows, key=lambda row: row[0]), store)


def _fresh_rows(
    content: Content, files: list[tuple[Path, str]], problems: list[str]
) -> Iterator[Row]:
    """The records of some files; what they share with others is added to `content`."""
    if not files:
        return
    families = {
        family_of(each.title, each.identity): at for at, each in enumerate(content.families)
    }
    provenances = {_text(each): at for at, each in enumerate(content.provenances)}
    for path, stamp in files:
        try:
            record = read(path)
        except (OSError, UserError) as error:
            problems.append(str(error))
            continue
        named = record.identity
        family = families.setdefault(record.family, len(families))
        if family == len(content.families):
            content.families.append(Family(title=record.title, identity=named))
        made = provenances.setdefault(_text(record.provenance), len(provenances))
        if made == len(content.provenances):
            content.provenances.append(record.provenance)
        yield (
            *(record.key, stamp, family, named.shots, named.seed),
            *(record.right, record.tested, record.class_accuracy),
            *(tuple(dict(record.costs).values()), record.notes, made),
        )


def _records(content: Content, rows: Iterable[Row], store: Store) -> list[IndexedRecord]:
    families = [family_of(each.title, each.identity) for each in content.families]
    identities = [draws_of(each.identity) for each in content.families]
    return [
        IndexedRecord(
            key=key,
            title=content.families[family].title,
            family=families[family],
            identity=identities[family](shots, seed),
            right=right,
            tested=tested,
            class_accuracy=class_accuracy,
            notes=notes,
            provenance=content.provenances[made],
            _costs=costs,
            _store=store,
        )
        for key, _, family, shots, seed, right, tested, class_accuracy, costs, notes, made in rows
    ]


def _text(tree: dict[str, Any]) -> str:
    return json.dumps(tree, sort_keys=True)


def _stamp(path: str) -> str:
    """'' of what is no regular file, or has just gone."""
    try:
        return stamp_of(path)
    except OSError:
        return ""


def _place(root: Path) -> Path:
    """Where the index of a folder lies."""
    if os.access(root, os.W_OK):
        return root / FILE
    name = hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:24]
    return cache_dir() / "indexes" / name


def _load(place: Path, most_bytes: int) -> Content:
    """What an index holds; nothing where it is absent, damaged, foreign or of another version."""
    with suppress(OSError, ValueError):
        stamp_of(place)  # no pipe
        with place.open("rb") as stream:
            checksum, _, content = stream.read(most_bytes).partition(b"\n")
        if checksum == _checksum(content):
            read = Content.model_validate_json(content)
            whole = all(
                row[2] < len(read.families) and row[-1] < len(read.provenances) for row in read.rows
            )
            if whole and read.fields == FIELDS:
                return read
    return Content()


def _save(place: Path, content: Content) -> None:
    """On a full disk, or in a folder that may only be read, the next report reads all again."""
    text = content.model_dump_json().encode()
    with suppress(UserError):
        write_atomic(place, _checksum(text) + b"\n" + text, durable=False)


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


@contextmanager
def without_collection() -> Iterator[None]:
    """Millions of objects are made of which none is garbage; looking for some takes seconds."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
