"""How far a long loop has come, told to whoever listens: steps of a training, images of an
encoding.

A loop calls `tell` as often as it likes. Unless somebody listens and a second has passed, that is
one comparison. No number depends on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

EVERY_S = 1.0  # between two ticks; the loss of a tick stops a GPU, so it must not come oftener


@dataclass(frozen=True)
class Tick:
    """How much of a loop is done."""

    unit: str  # what is counted: "step" or "encoding image"
    done: int
    total: int
    loss: float | None = None

    def __str__(self) -> str:
        """'step 120 of 800, loss 1.23', 'encoding image 3,200 of 8,041'."""
        loss = "" if self.loss is None else f", loss {self.loss:.3g}"
        return f"{self.unit} {self.done:,} of {self.total:,}{loss}"


Listener = Callable[[Tick], None]


@dataclass
class _Ear:
    """The listener of this process, and when it next wants to hear something."""

    listener: Listener | None = None
    next_s: float = float("inf")


_ear = _Ear()


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Have `listener` called at most every EVERY_S seconds while loops run in this process."""
    before = _ear.listener, _ear.next_s
    _ear.listener, _ear.next_s = listener, time.monotonic()
    try:
        yield
    finally:
        _ear.listener, _ear.next_s = before


def tell(unit: str, done: int, total: int, loss: Callable[[], float] | None = None) -> None:
    """Say that `done` of `total` are done; `loss` is asked for only where somebody hears it."""
    if _ear.listener is None or time.monotonic() < _ear.next_s:
        return
    _ear.listener(Tick(unit, done, total, loss() if loss else None))
    _ear.next_s = time.monotonic() + EVERY_S
