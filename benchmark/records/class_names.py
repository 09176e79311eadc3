"""The names of a dataset's classes, beside the records: DIR/classes/<digest>.json.

A record counts by label and names its dataset by a digest, which covers the names of the classes in
their order. So all records of a digest have the same names, and these are kept once for each
digest, not in every record: a thousand names in 99,000 records would be more than all they count.
No key depends on them, and records without them are read as ever.

Whoever can write into the folder can write this file, and no record vouches for it: a dataset that
is known here is named by its own TOML (report/image_results.py), and nothing is counted by names.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from benchmark.errors import UserError
from benchmark.paths import write_atomic
from benchmark.records.predictions import is_small
from benchmark.records.record import Title
from benchmark.records.store import Store

MOST_CLASSES = 100_000


class ClassNames(BaseModel):
    """What is in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    class_names: Annotated[tuple[Title, ...], Field(min_length=1, max_length=MOST_CLASSES)]


def path(store: Store, digest: str) -> Path:
    """Where the names of the dataset with this digest lie."""
    return store.root / "classes" / f"{digest}.json"


def digests(store: Store) -> list[str]:
    """Of the datasets whose names are kept."""
    return sorted(each.stem for each in (store.root / "classes").glob("*.json"))


def keep(store: Store, digest: str, names: Sequence[str]) -> None:
    """Write the names down unless they stand there. Names are for readers: where they cannot be
    written, or not be shown, records go without.
    """
    if read(store, digest) == tuple(names):
        return
    with suppress(UserError, ValueError):
        content = ClassNames(class_names=tuple(names))
        write_atomic(path(store, digest), (content.model_dump_json(indent=1) + "\n").encode())


def read(store: Store, digest: str) -> tuple[str, ...]:
    """All class names in label order; nothing where there are none that can be shown."""
    place = path(store, digest)
    try:
        if not is_small(place):
            return ()
        return ClassNames.model_validate_json(place.read_bytes()).class_names
    except (OSError, ValueError):
        return ()
