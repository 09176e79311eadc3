"""A folder of records, safe for several processes. A record is whole or absent.

DIR/records/<key>.json  the record
DIR/records/<key>.npz   predicted label of every test image, in test order
DIR/classes/<digest>.json  names of a dataset's classes (class_names.py)
DIR/records.index       what of all records tables are made of, once there are many (index.py)
DIR/priors/<key>.*      the states that pretraining left, and what they were made from
DIR/states/<key>.*      what was learned for several targets, likewise
DIR/adapters/<key>.*    what a method has learnt, where that was kept (kept_adapters.py)
DIR/failures/<key>.txt  what went wrong, in a sentence, then the log; gone once the cell succeeds
DIR/logs/<key>.txt      what a cell's last attempt printed, stage by stage
DIR/locks/<key>.lock    claims of running processes
DIR/running/, DIR/plans/  what `status` reads (announcements.py)
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import SoftFileLease
from pydantic import ValidationError

from benchmark.errors import UserError
from benchmark.paths import remove_parts, write_atomic
from benchmark.records import predictions
from benchmark.records.leases import LEASE_S, held, lease
from benchmark.records.predictions import Confidences, is_small
from benchmark.records.record import Record, key

if TYPE_CHECKING:
    from benchmark.records.predictions import Array

DEFAULT = Path("results")
Content = TypeVar("Content")


class Store:
    """Records under one folder, on one machine or on several that share it.

    `lease_s` must be the same for all processes that share the folder. `forced_run` names a run
    that learns every state and prior anew, once; empty: those that are here serve.
    """

    def __init__(
        self, root: Path = DEFAULT, lease_s: float = LEASE_S, forced_run: str = ""
    ) -> None:
        self.root = root
        self.lease_s = lease_s
        self.forced_run = forced_run
        # claims that others hold; a lease object remembers since when it has seen no sign of life
        self._contested: dict[str, SoftFileLease] = {}

    def path(self, key: str) -> Path:
        return self.root / "records" / f"{key}.json"

    def get(self, key: str) -> Record | None:
        """The record, or None where there is none that can be trusted."""
        try:
            return read(self.path(key))
        except (OSError, UserError):
            return None

    def has(self, key: str) -> bool:
        return self.get(key) is not None

    def keys(self) -> set[str]:
        """Names of all records, trustworthy or not, without reading them."""
        try:
            names = os.listdir(self.root / "records")
        except OSError:
            return set()
        return {name.removesuffix(".json") for name in names if name.endswith(".json")}

    def put(
        self, record: Record, predicted_Q: Array, confidences: Confidences | None = None
    ) -> None:
        """Predictions first: the JSON is what says that a cell is done."""
        write_atomic(self.beside(record.key), predictions.pack(predicted_Q, confidences))
        write_atomic(self.path(record.key), (record.model_dump_json(indent=1) + "\n").encode())
        self.failure(record.key).unlink(missing_ok=True)

    def beside(self, key: str) -> Path:
        """Where the predictions lie."""
        return self.path(key).with_suffix(".npz")

    def predictions(self, key: str) -> Array:
        """predicted_Q of a record, int32, in test order."""
        return self._read_beside(key, predictions.read_predicted)

    def confidences(self, key: str) -> Confidences | None:
        """How sure a record's predictions are, in test order; None where that was not kept."""
        return self._read_beside(key, predictions.read_confidences)

    def _read_beside(self, key: str, reader: Callable[[Path], Content]) -> Content:
        try:
            return reader(self.beside(key))
        except predictions.DAMAGED as error:
            raise UserError(
                f"the predictions of record {key} cannot be read ({error}); run its cell "
                "again with --force"
            ) from error

    def records(
        self, problems: list[str] | None = None, besides: Collection[str] = ()
    ) -> Iterator[Record]:
        """All trustworthy records in order of key, but those `besides`; what was passed over, and
        why, is added to `problems`.
        """
        for path in sorted((self.root / "records").glob("*.json"), key=attrgetter("name")):
            if path.stem in besides:
                continue
            try:
                yield read(path)
            except (OSError, UserError) as error:
                if problems is not None:
                    problems.append(str(error))

    def failure(self, key: str) -> Path:
        return self.root / "failures" / f"{key}.txt"

    def fail(self, key: str, log: str) -> None:
        write_atomic(self.failure(key), log.encode())

    def log(self, key: str) -> Path:
        return self.root / "logs" / f"{key}.txt"

    def make_ready(self) -> None:
        """Raise before hours of work where nothing could be kept; sweep out what killed processes
        left behind.
        """
        probe = self.root / "records" / ".writable"
        write_atomic(probe, b"")
        probe.unlink(missing_ok=True)  # of another driver that starts just now
        for folder in ("records", "failures", "priors", "states", "adapters", "running", "plans"):
            remove_parts(self.root / folder)
        done = self.keys()
        for announcement in (self.root / "running").glob("*.json"):
            if announcement.stem in done:
                self._forget(announcement)

    def _forget(self, announcement: Path) -> None:
        """Of a cell that is on record already: its process was killed before it could take back
        what it had announced.
        """
        with self.claim(announcement.stem) as nobody_at_it:
            if nobody_at_it:
                announcement.unlink(missing_ok=True)
                announcement.with_suffix(".txt").unlink(missing_ok=True)

    @contextmanager
    def claim(self, key: str, wait: bool = False) -> Iterator[bool]:
        """Yield whether this process may compute `key`. Should two believe so (leases.py), both
        make the same record.
        """
        path = self.root / "locks" / f"{key}.lock"
        mine = self._contested.setdefault(key, lease(path, self.lease_s))
        with held(mine, wait=wait) as free:
            if free:
                self._contested.pop(key, None)
            yield free


def read(path: Path) -> Record:
    """One record; UserError names the file where it is truncated, foreign, or not what its name
    says.
    """
    try:
        if not is_small(path):
            raise UserError(f"{path} is no file, or too large for a record; it is passed over")
        record = Record.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); it is passed over") from None
    except ValidationError as error:
        what = error.errors()[0]
        where = ".".join(map(str, what["loc"])) or "the file"
        raise UserError(
            f"{path} is not a record of this suite ({where}: {what['msg']}); it is passed over"
        ) from None
    if record.key != key(record.identity) or record.key != path.stem:
        raise UserError(
            f"{path} was changed or renamed: its identity hashes to "
            f"{key(record.identity)}; it is passed over"
        )
    if len(record.counts.correct) != len(record.counts.total):
        raise UserError(
            f"{path} has counts right for {len(record.counts.correct)} classes but "
            f"{len(record.counts.total)} in all; it is passed over"
        )
    return record


def save_json(path: Path, data: dict[str, Any]) -> None:
    write_atomic(path, (json.dumps(data, indent=1, sort_keys=True) + "\n").encode())
