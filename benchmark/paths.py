"""Where things lie on disk, and the one way to write a file: whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import platformdirs

from benchmark.errors import UserError


def cache_dir() -> Path:
    """Features and other things that can be computed again; FSBENCH_CACHE moves it."""
    return Path(os.environ.get("FSBENCH_CACHE") or platformdirs.user_cache_path("fsbench"))


def data_dir() -> Path:
    """Datasets in CoOp's layout; FSBENCH_DATA or --data-root move it."""
    return Path(os.environ.get("FSBENCH_DATA") or platformdirs.user_data_path("fsbench"))


def _umask() -> int:
    """The process's file mode mask; the system has no call that only reads it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def write_atomic(path: Path, data: bytes) -> None:
    """Write beside, flush to disk, rename: a reader sees the old file or the whole new one, never a part."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    except OSError as error:
        raise UserError(f"cannot write to {path.parent} ({error.strerror}); choose another folder or free it") from error
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
            os.fchmod(stream.fileno(), 0o666 & ~_umask())  # mkstemp gives 0600, which would lock out who shares the folder
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); nothing was left half-written") from error
    finally:
        Path(temporary).unlink(missing_ok=True)
