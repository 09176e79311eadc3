"""Where things lie on disk, and the one way to write a file: whole or not at all."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import platformdirs

from benchmark.errors import UserError

PART = ".part"  # ends the name of a file that is being written


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


def write_atomic(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write beside, flush to disk, rename: a reader sees the old file or the whole new one, never a
    part.

    `durable` waits until file and name are on the disk, so that a power cut takes nothing back;
    without it only the last seconds can be lost, which is enough for what merely informs.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART)
    except OSError as error:
        raise UserError(
            f"cannot write to {path.parent} ({error.strerror}); choose another folder or free it",
            stops=True,
        ) from error
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
            os.fchmod(
                stream.fileno(), 0o666 & ~_umask()
            )  # mkstemp gives 0600, which would lock out who shares the folder
        os.replace(temporary, path)
        if durable:
            _flush_names(path.parent)
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror}); nothing was left half-written", stops=True
        ) from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def _flush_names(folder: Path) -> None:
    """A rename is on the disk when its folder is; some network file systems refuse to be asked, and
    then we have done what we can.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def remove_parts(folder: Path, older_than_s: float = 3600) -> None:
    """Remove what writers that were killed left in `folder`; ages are told by the file system's own
    clock, not by this machine's.
    """
    parts = list(folder.glob(f".*{PART}"))
    if parts:
        now = clock_of(folder)
        for part in parts:
            with suppress(OSError):  # another process may be sweeping too
                if now - part.stat().st_mtime > older_than_s:
                    part.unlink()


def clock_of(folder: Path) -> float:
    """Seconds as the file system that holds `folder` counts them, so that ages of files are right
    whoever wrote them.
    """
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".clock.", suffix=PART) as probe:
            return os.fstat(probe.fileno()).st_mtime
    except OSError:  # a folder that may only be read
        return time.time()
