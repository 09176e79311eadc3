"""sha256 of files, remembered in the cache folder.

A file is read again only where its stamp is another: size, inode, time of its last writing, and
time of its last change of any kind, which a rename moves as well and no program can set back. So
a second run costs one query per file. What the cache folder says is believed only in the form that
is written here; a line of any other form is not remembered.

Not seen are bytes that change without a change of the stamp: on a disk that goes bad, through a
mapping in memory that is written back later, or while the system's clock is set back. `prepare
--verify` reads every byte and puts the memory right. Of a file system that keeps whole seconds
alone nothing is remembered.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock

from benchmark import paths
from benchmark.paths import cache_dir, is_settled

Memo = dict[str, tuple[str, str]]  # name -> (stamp, sha256)
LINE = re.compile(r"([0-9a-f]{64}) (\d+-\d+-\d+-\d+) ([^\n]+)")
THREADS = min(8, os.cpu_count() or 1)  # that read files; changes no digest
AT_ONCE = 512  # digests are written down after so many
PUT_RIGHT = Lock()  # of the threads that verify


@dataclass(frozen=True)
class Content:
    """Something in a file, with a name of its own in the file's folder, and how it is hashed."""

    file: str  # a path; text is much faster to compare and to take apart than pathlib's
    name: str
    compute: Callable[[], str]


def of_file(path: Path) -> str:
    """sha256 of the bytes of a file."""
    return of_files([path])[0]


def of_files(paths: Sequence[Path | str]) -> list[str]:
    """sha256 of the bytes of every file. Raises OSError, with the file's name, for what is no
    regular file or cannot be read.
    """
    return remembered([whole(path) for path in paths])


def anew(content: Content) -> str:
    """The digest of a content, always read anew; a memory that says otherwise is put right."""
    memory = _memories([content])[content.file]
    stamp, digest = paths.stamp_of(content.file), content.compute()
    with PUT_RIGHT:
        if _known(memory, content.name, stamp) != digest and is_settled(content.file, stamp):
            _write_down(memory, [(digest, stamp, content.name)])
    return digest


def whole(path: Path | str) -> Content:
    """All bytes of a file."""
    file = os.fspath(path)
    return Content(file, os.path.basename(file), partial(hashed, file))


def remembered(contents: Sequence[Content], threads: int = THREADS) -> list[str]:
    """The digest of every content; those that are not remembered are computed by `threads`."""
    stamps = {file: paths.stamp_of(file) for file in dict.fromkeys(each.file for each in contents)}
    memories = _memories(contents)
    digests = [_known(memories[each.file], each.name, stamps[each.file]) for each in contents]
    unknown = [i for i, digest in enumerate(digests) if not digest]
    for start in range(0, len(unknown), AT_ONCE):
        part = unknown[start : start + AT_ONCE]
        with ThreadPoolExecutor(threads, thread_name_prefix="digests") as pool:
            computed = list(pool.map(lambda i: contents[i].compute(), part))
        entries: dict[Path, list[tuple[str, str, str]]] = {}
        for i, digest in zip(part, computed, strict=True):
            digests[i] = digest
            file, name = contents[i].file, contents[i].name
            if is_settled(file, stamps[file]):
                entries.setdefault(memories[file], []).append((digest, stamps[file], name))
        for memory, lines in entries.items():
            _write_down(memory, lines)
    return digests


def _memories(contents: Sequence[Content]) -> dict[str, Path]:
    """The memory of the folder of every file."""
    cache = cache_dir()
    folder_of = {each.file: os.path.dirname(each.file) for each in contents}
    memory_of = {folder: _memory(folder, cache) for folder in set(folder_of.values())}
    return {file: memory_of[folder] for file, folder in folder_of.items()}


def hashed(path: Path | str, algorithm: str = "sha256") -> str:
    """Digest of a file, always read anew."""
    paths.require_regular(path)
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def _known(memory: Path, name: str, stamp: str) -> str:
    """The remembered digest, or ''."""
    known = _remembered(memory).get(name)
    return known[1] if known and known[0] == stamp and paths.is_fine(stamp) else ""


@lru_cache(maxsize=4096)  # folders, not files: ImageNet has a thousand
def _memory(folder: str, cache: Path) -> Path:
    return (
        cache / "digests" / hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:24]
    )


@lru_cache(maxsize=4096)
def _remembered(memory: Path) -> Memo:
    memo: Memo = {}
    try:
        text = memory.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return memo
    for line in text.split("\n"):
        if match := LINE.fullmatch(line):  # a line torn by a crash is simply not remembered
            digest, stamp, name = match.groups()
            memo[name] = (stamp, digest)
    return memo


def _write_down(memory: Path, entries: Sequence[tuple[str, str, str]]) -> None:
    """One write to the end, so that lines of several processes never mix.

    On a full disk, or in a cache folder that may only be read, the digests are not remembered.
    """
    _remembered(memory).update({name: (stamp, digest) for digest, stamp, name in entries})
    lines = "".join(f"{digest} {stamp} {name}\n" for digest, stamp, name in entries)
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(memory, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError:
        return
    try:
        os.write(handle, lines.encode(errors="replace"))
    except OSError:
        pass
    finally:
        os.close(handle)
