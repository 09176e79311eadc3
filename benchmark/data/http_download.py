"""One file over HTTP: resumed where it stopped, retried, and checked against its checksum.

Written here because no library at hand does it: pooch starts a file anew each time, huggingface_hub
serves its own hub only.
"""

from __future__ import annotations

import errno
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from benchmark.data import digests
from benchmark.errors import MISSING, UserError
from benchmark.paths import write_atomic

CHUNK_BYTES = 1 << 20
RESERVE_BYTES = 200 << 20  # left free on the disk
PASSING = {408, 425, 429, 500, 502, 503, 504}  # answers that may be other ones in a minute
Progress = tuple[int, int | None]  # bytes so far, bytes in all where the server says so


@dataclass(frozen=True)
class RetryPolicy:
    """Attempts in a row that gain nothing, and the wait after the first, doubled each time."""

    attempts: int = 5
    wait_s: float = 1.0
    timeout_s: float = 30.0


DEFAULT_RETRIES = RetryPolicy()


def fetch(url: str, target: Path, retries: RetryPolicy = DEFAULT_RETRIES) -> Iterator[Progress]:
    """Download `url` to `target`, which appears only when it is complete, and yield progress.

    An interrupted download is resumed. Raises UserError where the server refuses, sends a web page,
    or stays silent, and where the disk is full.
    """
    part = target.with_name(target.name + ".part")
    _make(part.parent)
    failures = 0
    while True:
        before = _size(part)
        try:
            yield from _attempt(url, part, retries.timeout_s)
            break
        # All of them are from the network: writing raises UserErrors.
        except (OSError, HTTPException, ValueError) as error:
            failures = 1 if _size(part) > before else failures + 1
            if failures >= retries.attempts:
                size = _size(part)
                kept = f", {size} bytes are kept for the next attempt" if size else ""
                raise UserError(
                    f"{url} could not be fetched ({_reason(error)}); try again later{kept}",
                    exit_code=MISSING,
                ) from error
            time.sleep(retries.wait_s * 2 ** (failures - 1))
    part.replace(target)
    _note(part).unlink(missing_ok=True)


def check(file: Path, *, md5: str | None = None, sha256: str | None = None) -> None:
    """Compare a download with its published checksums.

    Where one differs, the download is deleted and a UserError raised.
    """
    for algorithm, expected in (("sha256", sha256), ("md5", md5)):
        digest = digests.hashed(file, algorithm) if expected else None
        if digest != expected:
            file.unlink()
            raise UserError(
                f"{file.name} has {algorithm} {digest} instead of {expected}; it was deleted",
                exit_code=MISSING,
            )


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


def _attempt(url: str, part: Path, timeout_s: float) -> Iterator[Progress]:
    try:
        response = urlopen(_request(url, part), timeout=timeout_s)
    except HTTPError as error:
        with error:
            if error.code == 416:  # the kept bytes are no part of the server's file
                part.unlink(missing_ok=True)
            if error.code in PASSING or error.code == 416:
                raise URLError(f"{error.code} {error.reason}") from error
            raise UserError(
                f"{url} answers {error.code} {error.reason}; use another --source",
                exit_code=MISSING,
            ) from error
    with response:
        start = _size(part) if response.status == 206 else 0
        _require_the_rest(response, part, start)
        total = _total(response, start)
        _write_note(part, url, response)
        require_space(part.parent, (total or 0) - start)
        yield from _receive(response, part, start, total, url)
    if total is not None and _size(part) < total:
        raise URLError(f"connection closed after {_size(part)} of {total} bytes")


def _require_the_rest(response: HTTPResponse, part: Path, start: int) -> None:
    """Raises URLError where a partial answer does not begin at the byte that was requested."""
    sent = response.headers.get("Content-Range", "")
    if response.status == 206 and not sent.startswith(f"bytes {start}-"):
        part.unlink(missing_ok=True)
        raise URLError(f"the server sends {sent!r}, not what follows byte {start}")


def _receive(
    response: HTTPResponse, part: Path, start: int, total: int | None, url: str
) -> Iterator[Progress]:
    done = start
    with part.open("r+b" if start else "wb") as stream:
        stream.seek(start)
        while chunk := response.read(CHUNK_BYTES):
            if done == 0 and _is_web_page(chunk):
                raise UserError(
                    f"{url} sends a web page instead of a file, likely a login, a quota or a "
                    f"notice; use another --source",
                    exit_code=MISSING,
                )
            write(stream, chunk, part.parent)
            done += len(chunk)
            yield done, total


def write(stream: IO[bytes], chunk: bytes, folder: Path) -> None:
    """Write and flush. Raises a UserError where the disk takes no more."""
    try:
        stream.write(chunk)
        stream.flush()
    except OSError as error:
        raise full_disk(error, folder) from error


def _request(url: str, part: Path) -> Request:
    """A request for the missing rest, as long as the file is still the same (If-Range)."""
    request = Request(url, headers={"User-Agent": "fsbench", "Accept-Encoding": "identity"})
    note = _read_note(part)
    if _size(part) and note.get("url") == url and note.get("validator"):
        request.add_header("Range", f"bytes={_size(part)}-")
        request.add_header("If-Range", note["validator"])
    return request


def _total(response: HTTPResponse, start: int) -> int | None:
    length = response.headers.get("Content-Length", "")
    is_number = length.isascii() and length.isdigit() and len(length) < 20
    return start + int(length) if is_number else None


def _is_web_page(chunk: bytes) -> bool:
    head = chunk[:512].lstrip().lower()
    return head.startswith((b"<!doctype html", b"<html"))


def _note(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _write_note(part: Path, url: str, response: HTTPResponse) -> None:
    etag = response.headers.get("ETag", "")
    validator = (
        etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")
    )
    write_atomic(_note(part), json.dumps({"url": url, "validator": validator}).encode())


def _read_note(part: Path) -> dict[str, str]:
    """Address and version of the kept bytes; empty, so that they are fetched anew, where the
    note cannot be read.
    """
    try:
        note = json.loads(_note(part).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(note, dict) or not all(
        isinstance(value, str) and _fits_a_header(value) for value in note.values()
    ):
        return {}
    return note


def _fits_a_header(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise full_disk(error, folder) from error


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", "") or error or type(error).__name__)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
