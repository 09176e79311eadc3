"""Leases: files that say who is at work on something, without locks of the file system, so that they hold on network drives too.

A lease is made exclusively and touched every few seconds. That of a process of this machine is free as soon as the process is
dead; that of another machine once it has not been touched for a while of our own clock. So at worst, after a machine slept or a
network was cut, two work on the same thing; whoever uses a lease must make sure that this costs time only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import SoftFileLease, Timeout

from benchmark.errors import UserError

LEASE_S = 120.0  # without a sign of life from another machine
BEAT_S = 15.0  # between signs of life; far below LEASE_S, because network file systems show them late


def lease(path: Path, lease_s: float = LEASE_S) -> SoftFileLease:
    """Ask the same object again, not a new one: it remembers since when it has not seen a sign of life."""
    return SoftFileLease(path, lease_duration=lease_s, heartbeat_interval=min(BEAT_S, lease_s / 4))


@contextmanager
def held(one: SoftFileLease, *, wait: bool = False) -> Iterator[bool]:
    """Yield whether the lease is ours until the block ends. Raises UserError where none can be written."""
    try:
        Path(one.lock_file).parent.mkdir(parents=True, exist_ok=True)
        one.acquire(timeout=-1 if wait else 0)
    except Timeout:
        yield False
        return
    except OSError as error:
        raise UserError(f"cannot write {one.lock_file} ({error.strerror}); choose another folder or free it", stops=True) from error
    try:
        yield True
    finally:
        one.release()
