"""sha256 of files, remembered in the cache folder by path, size and modification time."""

from __future__ import annotations

import errno
import hashlib
import os
from functools import lru_cache
from pathlib import Path
from stat import S_ISREG

from benchmark.paths import cache_dir

Memo = dict[str, tuple[str, str]]  # file name -> (stamp, sha256)


def of_file(path: Path) -> str:
    """sha256 of the bytes of a file, read again only after its size or time changed."""
    stat = _regular(path)
    stamp = f"{stat.st_size}-{stat.st_mtime_ns}"
    memory = _memory(str(path.parent), cache_dir())
    known = _remembered(memory).get(path.name)
    if known and known[0] == stamp:
        return known[1]
    digest = hashed(path)
    _remembered(memory)[path.name] = (stamp, digest)
    _append(memory, f"{digest} {stamp} {path.name}\n")
    return digest


def hashed(path: Path, algorithm: str = "sha256") -> str:
    """Digest of a file, always read anew."""
    _regular(path)
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def _regular(path: Path) -> os.stat_result:
    """Raises OSError for a pipe or a device, which may have no end."""
    status = path.stat()
    if not S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
    return status


@lru_cache(maxsize=4096)  # folders, not files: ImageNet has a thousand
def _memory(folder: str, cache: Path) -> Path:
    return cache / "digests" / hashlib.sha256(os.path.realpath(folder).encode()).hexdigest()[:24]


@lru_cache(maxsize=4096)  # folders, not files: ImageNet has a thousand
def _remembered(memory: Path) -> Memo:
    memo: Memo = {}
    if memory.is_file():
        for line in memory.read_text(encoding="utf-8", errors="replace").splitlines():
            digest, _, rest = line.partition(" ")
            stamp, _, name = rest.partition(" ")
            if len(digest) == 64 and name:  # a line torn by a crash is simply not remembered
                memo[name] = (stamp, digest)
    return memo


def _append(memory: Path, line: str) -> None:
    """One short write to the end, so that lines of several processes never mix.

    On a full disk the digest is not remembered.
    """
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(memory, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError:
        return
    try:
        os.write(handle, line.encode())
    except OSError:
        pass
    finally:
        os.close(handle)
