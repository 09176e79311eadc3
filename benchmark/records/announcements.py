"""What running processes write into the results folder so that `status` can show their progress.

DIR/plans/<hash>.json   cells of a grid that were not on record when it began:
                        {key: [cell, expected seconds]}; gone when all are done
DIR/running/<key>.json  a cell that is being computed, since the file was written:
                        {cell, host, pid, expected_s}
DIR/running/<key>.txt   how far it has come, one line, written at most once a second

No number depends on these files. progress.py reads them.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmark.paths import write_atomic
from benchmark.records.store import Store

LONGEST_STEP = 200  # characters
Planned = Mapping[str, tuple[str, float | None]]  # key -> the cell in words, expected seconds


def announce_plan(store: Store, planned: Planned) -> None:
    """Say what a run means to compute; the same command says it in the same place."""
    name = hashlib.sha256("\n".join(sorted(planned)).encode()).hexdigest()[:12]
    write_atomic(store.root / "plans" / f"{name}.json", json.dumps(planned).encode(), durable=False)


@contextmanager
def announced(store: Store, key: str, cell: str, expected_s: float | None) -> Iterator[None]:
    """Say that this process computes `key`, as long as it does."""
    path = store.root / "running" / f"{key}.json"
    facts = {
        "cell": cell,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "expected_s": expected_s,
    }
    write_atomic(path, json.dumps(facts).encode(), durable=False)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        _step_file(store, key).unlink(missing_ok=True)


def _step_file(store: Store, key: str) -> Path:
    return store.root / "running" / f"{key}.txt"


def note_step(store: Store, key: str, text: str) -> None:
    """Say how far a cell has come; nothing takes it back. Where it cannot be said, it is not."""
    with suppress(OSError):
        if text:
            _step_file(store, key).write_text(text, encoding="utf-8")
        else:
            _step_file(store, key).unlink(missing_ok=True)


def read_step(store: Store, key: str) -> str:
    """How far a cell has come; '' where nothing is said."""
    with suppress(OSError, ValueError), _step_file(store, key).open(encoding="utf-8") as file:
        return file.read(LONGEST_STEP)
    return ""


def failed_at(store: Store, key: str) -> float:
    """When the last attempt at a cell failed, or began if it never came back to say what became of
    it; 0 where there is none.
    """
    running = store.root / "running" / f"{key}.json"
    with suppress(FileNotFoundError):
        began = running.stat().st_mtime
        with store.claim(key) as nobody_at_it:
            if nobody_at_it:
                return began
    with suppress(FileNotFoundError):
        return store.failure(key).stat().st_mtime
    return 0.0
