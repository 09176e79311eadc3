"""Room on a disk: required before something begins, and full disks named when they are met."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import IO

from benchmark.errors import MISSING, UserError

RESERVE_BYTES = 200 << 20  # left free on the disk


def require_space(folder: Path, needed_bytes: int) -> None:
    """Raise a UserError unless the disk under `folder` can take `needed_bytes` and a reserve."""
    free = shutil.disk_usage(folder).free
    if needed_bytes + RESERVE_BYTES > free:
        raise UserError(
            f"{_gigabytes(needed_bytes)} are needed in {folder}, but only {_gigabytes(free)} are "
            f"free; make room or choose another --data-root",
            exit_code=MISSING,
        )


def full_disk(error: OSError, folder: Path) -> UserError:
    """The UserError for a failure to write."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return UserError(
            f"the disk under {folder} is full; make room and run the same command again",
            exit_code=MISSING,
        )
    return UserError(
        f"cannot write to {folder} ({error.strerror or error}); choose another --data-root",
        exit_code=MISSING,
    )


def write(stream: IO[bytes], chunk: bytes, folder: Path) -> None:
    """Write and flush. Raises a UserError where the disk takes no more."""
    try:
        stream.write(chunk)
        stream.flush()
    except OSError as error:
        raise full_disk(error, folder) from error


def make(folder: Path) -> None:
    """Make a folder. Raises a UserError where it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise full_disk(error, folder) from error


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
