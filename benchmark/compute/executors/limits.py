"""How long a cell may take, and what happens when memory runs out."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from benchmark.errors import UserError

GRACE_S = 30.0  # for a method that hears of the limit only when its native code returns


@contextmanager
def time_limit(limit_s: float | None, give_up: Callable[[], None]) -> Iterator[None]:
    """Raise UserError in the block once it has taken `limit_s` seconds.

    Python hears the alarm between two of its own steps. A block that hangs in native code never
    gets there: GRACE_S later `give_up` is called from another thread, to write down what happened,
    and the process ends with exit code 1.
    """
    if limit_s is None:
        yield
        return
    if threading.current_thread() is not threading.main_thread():
        raise UserError(
            "a time limit can only be kept in the main thread of a program; run the grid "
            "from there, or without a limit"
        )

    def alarm(number: int, frame: FrameType | None) -> None:
        raise UserError(
            f"took longer than the time limit of {limit_s:g} s; raise --time-limit or "
            "correct the method",
            exit_code=1,
        )

    def end() -> None:
        give_up()
        os._exit(1)

    backstop = threading.Timer(limit_s + GRACE_S, end)
    backstop.daemon = True
    usual = signal.signal(signal.SIGALRM, alarm)
    backstop.start()
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, usual)
        backstop.cancel()


def out_of_memory(error: BaseException) -> bool:
    """Whether memory, of a GPU or of the machine, was what was missing."""
    import torch

    # torch's CPU allocator has no exception of its own
    refused = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    return refused or isinstance(error, (MemoryError, torch.OutOfMemoryError))


def free_memory() -> None:
    """Give back what the failed attempt still holds."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
