"""One file over HTTP: resumed where it stopped, retried, and checked against its checksum.

Written here because no library at hand does it: pooch starts a file anew each time, and
huggingface_hub, which serves its own hub only, begins a file anew in every process.
"""

from __future__ import annotations

import gzip
import json
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError

from benchmark.data import digests, file_kinds, http_messages
from benchmark.data.disk_space import make, require_space, write
from benchmark.errors import MISSING, UserError
from benchmark.paths import write_atomic

CHUNK_BYTES = 1 << 20
GROWTH, SPARE_BYTES = 20, 1 << 30  # what an encoded file may grow to: times its size, and more
Progress = tuple[int, int | None]  # bytes so far, bytes in all where the server says so


@dataclass(frozen=True)
class RetryPolicy:
    """Attempts in a row that gain nothing, and the wait after the first, doubled each time.

    A server that asks for a longer wait gets it, up to `longest_wait_s`.
    """

    attempts: int = 5
    wait_s: float = 1.0
    timeout_s: float = 30.0
    longest_wait_s: float = 120.0


@dataclass(frozen=True)
class FileFacts:
    """What is known of a file before it is fetched."""

    size: int | None = None  # bytes
    has_checksum: bool = False  # which will be compared afterwards
    copies: int = 1  # the room it takes in the end, in times its size: unpacking needs more
    secrets: Mapping[str, str] | None = None  # headers for its own host alone


DEFAULT_RETRIES = RetryPolicy()
NO_FACTS = FileFacts()


def fetch(
    url: str, target: Path, retries: RetryPolicy = DEFAULT_RETRIES, facts: FileFacts = NO_FACTS
) -> Iterator[Progress]:
    """Download `url` to `target`, which appears only when it is complete, and yield progress.

    An interrupted download is resumed. Raises UserError where the server refuses, sends a web page
    or another file, or stays silent, and before anything is written where the disk cannot hold it.
    """
    part = target.with_name(target.name + ".part")
    make(part.parent)
    require_space(part.parent, facts.copies * (facts.size or 0) - _size(part))
    failures = 0
    while True:
        before = _size(part)
        try:
            yield from _attempt(url, part, retries.timeout_s, facts)
            break
        # All of them are from the network: writing raises UserErrors.
        except (OSError, HTTPException, ValueError) as error:
            failures = 1 if _size(part) > before else failures + 1
            _wait(url, part, retries, failures, error)
    part.replace(target)
    _note(part).unlink(missing_ok=True)


def check(file: Path, *, md5: str | None = None, sha256: str | None = None) -> None:
    """Compare a download with its published checksum, the sha256 where both are known.

    Where it differs, the download is deleted and a UserError raised.
    """
    algorithm, expected = ("sha256", sha256) if sha256 else ("md5", md5)
    digest = digests.hashed(file, algorithm) if expected else None
    if digest != expected:
        file.unlink()
        raise UserError(
            f"{file.name} has {algorithm} {digest} instead of {expected}; it was deleted",
            exit_code=MISSING,
        )


def _wait(url: str, part: Path, retries: RetryPolicy, failures: int, error: Exception) -> None:
    """Wait for the next attempt. Raises UserError where none is left or none can help."""
    asked_s = http_messages.retry_after_s(error)
    if lasting := http_messages.lasting(error):
        problem = f"{url} cannot be fetched ({lasting})"
    elif asked_s > retries.longest_wait_s:
        problem = f"{url} asks to be left alone for {asked_s / 60:.0f} minutes; try again then"
    elif failures >= retries.attempts:
        problem = f"{url} could not be fetched ({http_messages.reason(error)}); try again later"
    else:
        time.sleep(max(retries.wait_s * 2 ** (failures - 1), asked_s))
        return
    kept = f", {_size(part)} bytes are kept for the next attempt" if _size(part) else ""
    raise UserError(problem + kept, exit_code=MISSING) from error


def _attempt(url: str, part: Path, timeout_s: float, facts: FileFacts) -> Iterator[Progress]:
    with _answer(url, part, timeout_s, facts) as response:
        start = _size(part) if response.status == 206 else 0
        _require_the_rest(response, part, start)
        total, coding = _checked_size(url, response, facts)
        if start == 0:
            if _size(part):  # before the note, which would name older bytes by the new version
                part.unlink()
            note = {"url": url, "validator": http_messages.validator(response)}
            write_atomic(_note(part), json.dumps(note).encode())
        require_space(part.parent, facts.copies * (total or facts.size or 0) - start)
        head_seen = start > 0 or bool(coding)
        for done in _receive(response, part, start):
            if not head_seen:
                _refuse_web_page(url, part)
                head_seen = True
            yield done, total
    _require_whole(part, total)
    if coding:
        _decode(part)
        _refuse_web_page(url, part)


def _answer(url: str, part: Path, timeout_s: float, facts: FileFacts) -> HTTPResponse:
    """Raises UserError for a final refusal, and OSError for one that may pass."""
    note = _read_note(part)
    validator = note.get("validator", "") if note.get("url") == url else ""
    request = http_messages.request(url, _size(part), validator, facts.secrets or {})
    try:
        return http_messages.send(request, timeout_s)
    except HTTPError as error:
        error.close()
        if error.code == 416:  # the kept bytes are no part of the server's file
            part.unlink(missing_ok=True)
        elif error.code not in http_messages.PASSING:
            raise UserError(f"{url} {http_messages.refusal(error)}", exit_code=MISSING) from error
        raise


def _require_the_rest(response: HTTPResponse, part: Path, start: int) -> None:
    """Raises URLError where a partial answer does not begin at the byte that was requested, or
    comes from another version of the file. Without its note the next attempt begins at byte 0.
    """
    if response.status != 206:
        return
    sent = response.headers.get("Content-Range", "")
    if not sent.startswith(f"bytes {start}-"):
        _note(part).unlink(missing_ok=True)
        raise URLError(f"the server sends {sent!r}, not what follows byte {start}")
    if http_messages.is_other_version(response, _read_note(part).get("validator", "")):
        _note(part).unlink(missing_ok=True)
        raise URLError("the file on the server has changed meanwhile")


def _require_whole(part: Path, total: int | None) -> None:
    """Raises URLError where there are other than `total` bytes; what is too long is deleted."""
    size = _size(part)
    if total is None or size == total:
        return
    if size > total:
        part.unlink()
        raise URLError(f"the server sends {size} bytes of a file that has {total}")
    raise URLError(f"the answer ended after {size} of {total} bytes")


def _checked_size(url: str, response: HTTPResponse, facts: FileFacts) -> tuple[int | None, str]:
    """The bytes to expect, and how they are encoded; UserError where that cannot be our file."""
    total, coding = (
        http_messages.total_bytes(response),
        http_messages.encoding(response, url),
    )
    if coding not in {"", "gzip"}:
        raise UserError(
            f"{url} is sent in the encoding '{coding[:40]}', which is not understood; "
            f"use another --source",
            exit_code=MISSING,
        )
    if not coding and total is not None and facts.size not in {None, total}:
        raise UserError(
            f"{url} has {total} bytes instead of {facts.size}, so it is another file; "
            f"use another --source",
            exit_code=MISSING,
        )
    unseen = http_messages.ends_unseen(response, total)
    if unseen and not coding and facts.size is None and not facts.has_checksum:
        raise UserError(
            f"{url} states no length and no checksum is known, so nobody could tell whether it "
            f"came whole; use another --source, or state its sha256 in the TOML",
            exit_code=MISSING,
        )
    return (total if coding or total is not None else facts.size), coding


def _receive(response: HTTPResponse, part: Path, start: int) -> Iterator[int]:
    """Write what comes; yield the bytes that are there."""
    done = start
    with part.open("r+b" if start else "wb") as stream:
        stream.seek(start)
        while chunk := response.read(CHUNK_BYTES):
            write(stream, chunk, part.parent)
            done += len(chunk)
            yield done


def _refuse_web_page(url: str, part: Path) -> None:
    with part.open("rb") as stream:
        head = stream.read(file_kinds.HEAD_BYTES)
    if file_kinds.is_web_page(head):
        part.unlink()
        _note(part).unlink(missing_ok=True)
        raise UserError(
            f"{url} sends a web page instead of a file, likely a login, a quota or a notice; "
            f"use another --source",
            exit_code=MISSING,
        )


def _decode(part: Path) -> None:
    """Undo gzip. Raises URLError, and deletes the bytes, where they are cut short or damaged."""
    decoded = part.with_name(part.name + ".decoded")
    left = GROWTH * _size(part) + SPARE_BYTES
    try:
        with gzip.open(part) as source, decoded.open("wb") as sink:
            while chunk := source.read(CHUNK_BYTES):
                left -= len(chunk)
                if left < 0:
                    raise EOFError("it grows without end")
                write(sink, chunk, part.parent)
        decoded.replace(part)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        part.unlink()
        raise URLError(f"its gzip encoding is damaged or cut short: {error}") from error
    finally:
        decoded.unlink(missing_ok=True)


def _note(part: Path) -> Path:
    return part.with_name(part.name + ".json")


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


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0
