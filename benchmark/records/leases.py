"""Leases: files that say who is at work on something, without locks of the file system, so that
they hold on network drives too.

A lease is made exclusively and touched every few seconds. That of a process of this machine is free
as soon as the process is dead; that of another machine once it has not been touched for a while of
our own clock. So at worst, after a machine slept or a network was cut, two work on the same thing;
whoever uses a lease must make sure that this costs time only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import LeaseSettingsMismatch, SoftFileLease, Timeout

from benchmark.errors import UserError
from benchmark.paths import clock_of

LEASE_S = 120.0  # without a sign of life from another machine
# a marker that is empty for so long was made by a process that died before it wrote its name into
# it
STILLBORN_S = 30.0
BEAT_S = (
    15.0  # between signs of life; far below LEASE_S, because network file systems show them late
)


def lease(path: Path, lease_s: float = LEASE_S) -> SoftFileLease:
    """Ask the same object again, not a new lease: it remembers since when it has not seen a sign of
    life.
    """
    return SoftFileLease(path, lease_duration=lease_s, heartbeat_interval=min(BEAT_S, lease_s / 4))


@contextmanager
def held(lease: SoftFileLease, *, wait: bool = False) -> Iterator[bool]:
    """Yield whether the lease is ours until the block ends. Raises UserError where none can be
    written.
    """
    try:
        Path(lease.lock_file).parent.mkdir(parents=True, exist_ok=True)
        _acquire(lease, wait)
    except Timeout:
        yield False
        return
    except LeaseSettingsMismatch as error:
        what = f"another program holds {lease.lock_file} for another time than this lease grants it"
        raise UserError(
            f"{what}; use the same version of the suite on all machines that share a folder",
            stops=True,
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot write {lease.lock_file} ({error.strerror}); choose another folder or free it",
            stops=True,
        ) from error
    try:
        yield True
    finally:
        lease.release()


def _acquire(lease: SoftFileLease, wait: bool) -> None:
    """filelock honours an empty marker for ever, so whoever waits looks up from time to time
    whether that is what it waits for.
    """
    while True:
        _clear_stillborn(Path(lease.lock_file))
        try:
            lease.acquire(timeout=STILLBORN_S if wait else 0)
            return
        except Timeout:
            if not wait:
                raise


def _clear_stillborn(marker: Path) -> None:
    with suppress(OSError):
        facts = marker.stat()
        if not facts.st_size and clock_of(marker.parent) - facts.st_mtime > STILLBORN_S:
            marker.unlink()
