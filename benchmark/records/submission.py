"""Records packed to be handed to others, and read back as a stranger's.

NAME/submission.json    how many records there are, and the sha256 of the two files below
NAME/records.jsonl      a record per line, in order of key
NAME/predictions.jsonl  the key of a record and its archive of predictions (predictions.py), base64

Everything is text, nothing in it is executed, and every size has a bound. What a record says of the
machine that made it is reduced to the fields of KEPT; a path or the name of a user anywhere else is
refused.
"""

from __future__ import annotations

import base64
import getpass
import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmark.errors import UserError, nearest
from benchmark.paths import PART, require_regular, write_atomic
from benchmark.records.record import Record
from benchmark.records.store import Store, read

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
FACTS, RECORDS, PREDICTIONS = "submission.json", "records.jsonl", "predictions.jsonl"
MOST_RECORDS = 100_000
MOST_BYTES = 500_000_000  # of a file
MOST_LINE = 4_000_000  # bytes; the predictions of 50,000 images take 0.4 MB
KEPT = frozenset(
    {
        *("suite", "commit", "dirty", "python", "packages", "platform", "device", "threads"),
        *("changed", "adapter_source", "training_source", "support_digest", "changed_data"),
    }
)
PATH = re.compile(r"(^|[\s='\"(:,\[<]|//)(~?/[\w.~-]+(/|$)|[A-Za-z]:\\|\\\\\w)")
COMMON = {"root", "user", "admin", "ubuntu", "localhost", "home"}  # names that betray nobody


class Facts(BaseModel):
    """What stands in submission.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    records: Annotated[int, Field(ge=1, le=MOST_RECORDS)]
    sha256: dict[str, Annotated[str, Field(pattern="^[0-9a-f]{64}$")]]


class PackedPredictions(BaseModel):
    """A line of predictions.jsonl."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: Annotated[str, Field(pattern="^[0-9a-f]{12}$")]
    archive: str


@dataclass(frozen=True)
class Packed:
    """A submission that was written: where, how much, and which fields of provenance stayed out."""

    folder: Path
    records: int
    bytes: int
    left_out: tuple[str, ...]


def pack(store: Store, records: list[Record], into: Path, name: str) -> Packed:
    """Write records and their predictions into a new folder `name` of the folder `into`.

    UserError where the name is no good, the folder is there already, predictions are missing, or a
    record says where or by whom it was made.
    """
    require_name(name)
    folder = into / name
    if folder.exists():
        raise UserError(f"{folder} is there already; give the submission another --name")
    whole = [read(store.path(key)) for key in sorted(record.key for record in records)]
    own = _own_names()
    texts = {
        RECORDS: "".join(_line(record, own) for record in whole).encode(),
        PREDICTIONS: "".join(_archive(store, record) for record in whole).encode(),
    }
    facts = Facts(records=len(whole), sha256={n: _sha256(text) for n, text in texts.items()})
    texts[FACTS] = (facts.model_dump_json(indent=1) + "\n").encode()
    _write(folder, texts)
    left_out = {field for record in whole for field in record.provenance.keys() - KEPT}
    size = sum(map(len, texts.values()))
    return Packed(folder, len(whole), size, tuple(sorted(left_out)))


def require_name(name: str) -> None:
    """UserError where no submission can be called so."""
    if not NAME.fullmatch(name):
        raise UserError(
            f"{name[:60]!r} is no name of a submission; take small letters, digits, '-' and '_', "
            "at most 40 of them"
        )


def _write(folder: Path, texts: dict[str, bytes]) -> None:
    """A folder that is there with all its files, or not at all."""
    unfinished = folder.with_name(f".{folder.name}{PART}")
    try:
        for name, text in texts.items():
            write_atomic(unfinished / name, text)
        unfinished.rename(folder)
    except OSError as error:
        raise UserError(f"cannot write {folder} ({error.strerror}); choose another --to") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _line(record: Record, own: re.Pattern[str]) -> str:
    known = {name: value for name, value in record.provenance.items() if name in KEPT}
    kept = record.model_copy(update={"provenance": known})
    for place, text in _texts(json.loads(kept.model_dump_json()), ""):
        _require_nobody(record.key, place, text, own)
    return kept.model_dump_json() + "\n"


def _texts(tree: Any, place: str) -> Iterator[tuple[str, str]]:
    """Every text of a tree, keys included, and where it stands."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield place, str(name)
            yield from _texts(value, f"{place}.{name}".strip("."))
    elif isinstance(tree, list):
        for value in tree:
            yield from _texts(value, place)
    elif isinstance(tree, str):
        yield place, tree


def _require_nobody(key: str, place: str, text: str, own: re.Pattern[str]) -> None:
    if not text.isprintable():
        what = "what cannot be printed"
    elif PATH.search(text):
        what = "a path of this machine"
    elif own.search(text):
        what = "the name of this user or machine"
    else:
        return
    raise UserError(
        f"record {key} holds {what} in its {place} ('{text[:60]}'), which a submission would make "
        "public; leave the record out by the options that choose records"
    )


def _own_names() -> re.Pattern[str]:
    """Where a text names the user or the machine, as far as these names are no common words."""
    names = {socket.gethostname(), Path.home().name}
    try:
        names.add(getpass.getuser())
    except (KeyError, OSError):  # a container without users
        names.add(os.environ.get("USER", ""))
    telling = [name for name in names if len(name) > 3 and name.lower() not in COMMON]
    return re.compile("|".join(rf"\b{re.escape(name)}\b" for name in telling) or "(?!)", re.I)


def _archive(store: Store, record: Record) -> str:
    store.predictions(record.key)  # UserError where there are none, or something else
    packed = base64.b64encode(store.beside(record.key).read_bytes()).decode()
    return PackedPredictions(key=record.key, archive=packed).model_dump_json() + "\n"


def unpack(folder: Path, store: Store) -> list[Record]:
    """The records of a submission, put into a store with their predictions.

    UserError, with the file and the line, for whatever is not as `pack` writes it.
    """
    require_name(folder.name)
    facts = _facts(folder)
    for name in (RECORDS, PREDICTIONS):
        if _digest(folder / name) != facts.sha256.get(name):
            raise UserError(f"{folder / name} is not the file that {FACTS} names; pack it again")
    archives = dict(_archives(folder / PREDICTIONS))
    records = [_put(store, place, line, archives) for place, line in _lines(folder / RECORDS)]
    keys = [record.key for record in records]
    if len(keys) != facts.records or keys != sorted(set(keys)) or archives:
        raise UserError(
            f"{folder} has {len(keys)} records, of which {len(set(keys))} differ, where {FACTS} "
            f"names {facts.records}, and {len(archives)} predictions of none; pack it again"
        )
    return records


def submissions(folder: Path, name: str = "") -> list[Path]:
    """The submissions of a folder in order of their names, or the one of this name; UserError where
    there are none. Hidden ones are not yet written whole; `unpack` looks at the names of others.
    """
    every = (path.parent for path in folder.glob(f"*/{FACTS}"))
    found = sorted(path for path in every if not path.name.startswith("."))
    if not found:
        raise UserError(f"there are no submissions in {folder}; `submit` makes one")
    if not name:
        return found
    require_name(name)
    if folder / name not in found:
        hint = nearest(name, [path.name for path in found])
        raise UserError(f"there is no submission '{name}' in {folder}; {hint}")
    return [folder / name]


def _facts(folder: Path) -> Facts:
    path = folder / FACTS
    try:
        if require_regular(path).st_size > MOST_LINE:
            raise ValueError("it is too large")
        return Facts.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} is no submission ({FACTS}: {_short(error)})") from None


def _put(store: Store, place: str, line: bytes, archives: dict[str, str]) -> Record:
    """One record of a file, written into the store once it can be read from there."""
    try:
        named = Record.model_validate_json(line)
        if not re.fullmatch("[0-9a-f]{12}", named.key) or named.provenance.keys() - KEPT:
            raise ValueError("its key or its provenance is not as `submit` writes it")
        archive = base64.b64decode(archives.pop(named.key), validate=True)
    except KeyError:
        raise UserError(f"{place} has no predictions; pack it again") from None
    except ValueError as error:
        raise UserError(f"{place} is not a record of this suite ({_short(error)})") from None
    write_atomic(store.beside(named.key), archive, durable=False)
    write_atomic(store.path(named.key), line, durable=False)
    record = read(store.path(named.key))
    store.predictions(record.key)
    for field, text in _texts(json.loads(line), ""):
        if PATH.search(text) or not text.isprintable():
            what = "a path" if text.isprintable() else "what cannot be printed"
            raise UserError(f"{place} holds {what} in its {field}; pack it again")
    return record


def _archives(path: Path) -> Iterator[tuple[str, str]]:
    for place, line in _lines(path):
        try:
            packed = PackedPredictions.model_validate_json(line)
        except ValidationError as error:
            raise UserError(f"{place} holds no predictions ({_short(error)})") from None
        yield packed.key, packed.archive


def _lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """(place, text) of every line of a file."""
    with path.open("rb") as stream:
        for number in range(1, MOST_RECORDS + 2):
            line = stream.readline(MOST_LINE + 1)
            if not line:
                return
            if len(line) > MOST_LINE or number > MOST_RECORDS:
                raise UserError(f"{path}:{number} is longer than any submission")
            yield f"{path}:{number}", line


def _digest(path: Path) -> str:
    try:
        if require_regular(path).st_size > MOST_BYTES:
            raise UserError(f"{path} is larger than any submission ({MOST_BYTES / 1e6:.0f} MB)")
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}); pack it again") from None


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _short(error: Exception) -> str:
    if isinstance(error, ValidationError):
        what = error.errors()[0]
        return f"{'.'.join(map(str, what['loc']))}: {what['msg']}"
    return str(error)[:200]
