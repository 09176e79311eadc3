"""Checkpoints of torch are inspected before torch reads them. Imports no torch."""

from __future__ import annotations

import pickletools
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO

from benchmark.errors import MISSING, UserError

LONGEST_NAME = 1000  # of a parameter, or of what a pickle calls for
UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    ValueError,
    OSError,
    LookupError,
    RuntimeError,
    EOFError,
    MemoryError,
)


def check_unpacked(file: Path) -> None:
    """Raise a UserError for a checkpoint that grows when read, or that takes hours to read."""
    try:
        if zipfile.is_zipfile(file):
            _check_archive(file)
        elif file.suffix != ".safetensors":
            with file.open("rb") as stream:
                _check_names(file, stream, pickles=5)  # torch's older format: five in a row
    except UNREADABLE as error:
        raise UserError(
            f"weights file {file} is damaged ({error}); fetch it again", exit_code=MISSING
        ) from error


def _check_archive(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        grown = sum(member.file_size for member in archive.infolist())
        if grown > 2 * file.stat().st_size:  # torch stores its archives uncompressed
            raise UserError(
                f"weights file {file} would grow to {grown} bytes, as no checkpoint does; "
                "fetch it from elsewhere"
            )
        for name in archive.namelist():
            if name.endswith("data.pkl"):
                with archive.open(name) as stream:
                    _check_names(file, stream, pickles=1)


def _check_names(file: Path, stream: IO[bytes], pickles: int) -> None:
    """Read the strings of pickles without executing them.

    torch searches its own complaint about a long name in quadratic time.
    """
    for _ in range(pickles):
        for _, text, _ in pickletools.genops(stream):
            if isinstance(text, str) and len(text) > LONGEST_NAME:
                raise UserError(
                    f"weights file {file} holds a name of {len(text)} characters, "
                    "as no checkpoint does; fetch it from elsewhere"
                )
