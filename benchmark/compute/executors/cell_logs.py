"""What a cell prints, kept beside its record: stage by stage, with what its method and the
libraries had to say.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from benchmark.records.store import Store

REMARKING = ("benchmark", "adapters")  # packages whose log messages go into the cell's log
TAIL = 20_000  # characters of a log that go into a failure


@dataclass(frozen=True)
class Log:
    """The file of a batch, open while it is computed. A log that cannot be written stops nobody:
    what matters is the record.
    """

    file: IO[str]
    start: float

    def say(self, text: str) -> None:
        with suppress(OSError):
            self.file.write(f"[{time.monotonic() - self.start:8.1f} s] {text}\n")
            self.file.flush()


@dataclass(frozen=True)
class Tee:
    """Writes to the terminal and to the log, so that a method's prints, and a debugger in it, work
    as ever.
    """

    shown: IO[str]
    log: Log

    def write(self, text: str) -> int:
        with suppress(OSError):
            self.log.file.write(text)
            self.log.file.flush()
        return self.shown.write(text)

    def __getattr__(self, name: str) -> Any:  # isatty, encoding, and whatever else a terminal has
        return getattr(self.shown, name)


@contextmanager
def logged(store: Store, keys: Sequence[str], title: str, *, own_process: bool) -> Iterator[Log]:
    """A log for a batch; what is printed meanwhile goes there too, both streams, and otherwise to
    stderr.

    In a worker's own process that holds for whatever any library writes to the file descriptors, a
    crash included. Cells of one batch share what is said: each has the whole of it under its own
    name.
    """
    with opened([store.log(key) for key in keys]) as file:
        log = Log(file, time.monotonic())
        log.say(f"{title}, process {os.getpid()} on {socket.gethostname()}")
        with _remarks_to(log), _descriptors_to(file) if own_process else _streams_to(log):
            yield log


class _RemarkHandler(logging.Handler):
    """What the suite's own modules remark goes into the log of the cell, and nowhere else."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.INFO)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.say(record.getMessage())


@contextmanager
def _remarks_to(log: Log) -> Iterator[None]:
    handler, loggers = _RemarkHandler(log), [logging.getLogger(name) for name in REMARKING]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)


@contextmanager
def opened(paths: Sequence[Path]) -> Iterator[IO[str]]:
    """A new file under all these names; nowhere, where it cannot be had."""
    try:
        paths[0].parent.mkdir(parents=True, exist_ok=True)
        for path in paths:
            path.unlink(missing_ok=True)  # it may be one file under several names
        file = paths[0].open("w", encoding="utf-8", errors="replace")
    except OSError:
        file = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 (closed below)
    for other in paths[1:]:
        with suppress(OSError):  # a file system without hard links: one name must do
            os.link(paths[0], other)
    try:
        yield file
    finally:
        with suppress(OSError):  # what the disk had no room for
            file.close()


def tail(store: Store, key: str) -> str:
    """The end of a cell's log; empty where there is none."""
    try:
        return store.log(key).read_text(encoding="utf-8", errors="replace")[-TAIL:]
    except OSError:
        return ""


@contextmanager
def _streams_to(log: Log) -> Iterator[None]:
    tee = Tee(sys.stderr, log)
    with redirect_stdout(cast(IO[str], tee)), redirect_stderr(cast(IO[str], tee)):
        yield


@contextmanager
def _descriptors_to(file: IO[str]) -> Iterator[None]:
    """File descriptors 1 and 2 lead to the log; a crash in native code leaves its stack there."""
    import faulthandler

    kept = [os.dup(1), os.dup(2)]
    try:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
        faulthandler.enable(file)
        yield
    finally:
        faulthandler.disable()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for saved, descriptor in zip(kept, (1, 2), strict=True):
            os.dup2(saved, descriptor)
            os.close(saved)
