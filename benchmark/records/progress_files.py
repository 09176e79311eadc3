"""Small files that running processes, or anybody, have written into a results folder, read so that
nothing in them stops or surprises the reader.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter

T = TypeVar("T")
KEY = re.compile("[0-9a-f]{12}")
LARGEST_BYTES = 50_000_000  # of a file worth reading: a plan of several hundred thousand cells
READ_BYTES = 50_000  # of a failure or a log: more than the runner keeps of one


def read(path: Path, what: TypeAdapter[T], remarks: list[str]) -> T | None:
    """None for a file that has just been taken back, and, with a remark, for what no run writes."""
    try:
        about = path.stat()
        if (
            stat.S_ISREG(about.st_mode)
            and about.st_size <= LARGEST_BYTES
            and KEY.fullmatch(path.stem)
        ):
            return what.validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        pass
    remarks.append(f"{path} is not what a run writes there; it is passed over")
    return None


def mtime(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _lines(path: Path, *, end: bool = False) -> list[str]:
    """Lines that are not blank, of the beginning or the end of a file; none where it cannot be
    read.
    """
    try:
        if not path.is_file():
            return []
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - READ_BYTES) if end else 0)
            text = file.read(READ_BYTES).decode(errors="replace")
    except OSError:
        return []
    # a bar draws over itself after \r
    return [line for line in re.split(r"[\r\n]+", text) if line.strip()]


def last_words(path: Path) -> str:
    return next(iter(_lines(path, end=True)[-1:]), "")


def sentence(path: Path, cell: str) -> str:
    """What went wrong. Failures of older versions begin with the cell and end with the error."""
    first = next(iter(_lines(path)), "")
    return last_words(path) if first == cell else first
