"""Training steps recorded once and replayed: on a GPU a step is some hundred kernels, and starting
them one by one from Python costs far more than running them.

A step is a function of tensors alone: what changes from step to step (batch, rate, losses) is found
through a step number that lies on the device. The first steps of a kind run as they are, the next
one is recorded, and the one after that is run both ways: a loss that has changed in Python since
then (by an iterator, say) shows there, and its training goes on unrecorded, as it does where a step
cannot be recorded at all. An update is not compared: it must be a function of tensors.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

# Steps of a kind before its recording: libraries allocate their workspaces in those of the first
# kind, and with later kinds in one.
WARM_UP, LATER_WARM_UP = 3, 1
WORTHWHILE = 20  # further steps of a kind without which a recording does not pay
AGREEMENT = (
    1e-3  # relative difference between a replayed and a computed loss; sums may be reordered
)

Kind = tuple[int, int]  # how many runs are live, and which of several losses is meant
StepResult = tuple[Tensor, Tensor]  # loss_R and the gradient of the weights
Forward = Callable[[Kind], StepResult]  # kind of step -> loss and gradient of the present step
Move = Callable[[Kind, StepResult], None]  # applies them and goes on to the next step

log = logging.getLogger(__name__)


class Recorder(Protocol):
    """Records what a function does to tensors and gives back how to do it again."""

    def record(
        self, work: Callable[[], StepResult | None]
    ) -> tuple[Callable[[], None], StepResult | None]:
        """Replay, and the tensors that every replay fills. Nothing has been computed yet when this
        returns. Raises RuntimeError for what cannot be recorded."""


class CudaRecorder:
    """CUDA graphs that share one memory pool: they are replayed one at a time and keep nothing but
    what `record` returns."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def record(
        self, work: Callable[[], StepResult | None]
    ) -> tuple[Callable[[], None], StepResult | None]:
        graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.current_stream()
        try:
            with torch.cuda.graph(graph, pool=self._pool, stream=stream):
                filled = work()
        except RuntimeError:
            self._end_recording()
            raise
        return graph.replay, filled

    def _end_recording(self) -> None:
        """After a recording that failed, torch (2.11) leaves its generator and its memory pool as
        if it went on: the next random number outside would be an error, and memory that other
        streams have used would never be free again."""
        device = torch.cuda.current_device()
        generator = torch.cuda.default_generators[device]
        generator.graphsafe_set_state(generator.clone_state())  # a clone is not recording
        with suppress(RuntimeError):
            torch._C._cuda_endAllocateToPool(device, self._pool)


def recorder_for(device: torch.device) -> Recorder | None:
    """None where steps are cheap to start: on a CPU."""
    return CudaRecorder() if device.type == "cuda" else None


@contextmanager
def side_stream(device: torch.device) -> Iterator[None]:
    """A stream of its own on a GPU, since the default stream cannot be recorded."""
    if device.type != "cuda":
        yield
        return
    stream = _stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    try:
        with torch.cuda.stream(stream):
            yield
    finally:
        torch.cuda.current_stream(device).wait_stream(stream)


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


class Steps:
    """Runs steps by kind, each kind recorded once where that pays. State: the recordings so far."""

    def __init__(
        self,
        forward: Forward,
        move: Move,
        kinds: Counter[Kind],
        recorder: Recorder | None,
    ) -> None:
        self._forward, self._move, self._recorder = forward, move, recorder
        self._left = Counter(kinds)
        self._done: Counter[Kind] = Counter()
        self._recorded: dict[Kind, tuple[Callable[[], None], StepResult]] = {}
        self._moves: dict[Kind, Callable[[], None]] = {}

    def run(self, kind: Kind) -> None:
        """The next step, which is of this kind."""
        self._left[kind] -= 1
        self._done[kind] += 1
        if kind in self._moves:
            self._recorded[kind][0]()
            self._moves[kind]()
        elif kind in self._recorded:
            self._compare(kind)
        elif self._pays(kind):
            self._record(kind)
        else:
            self._move(kind, self._forward(kind))

    def _pays(self, kind: Kind) -> bool:
        warm = self._done[kind] > (LATER_WARM_UP if self._recorded else WARM_UP)
        return self._recorder is not None and warm and self._left[kind] >= WORTHWHILE

    def _record(self, kind: Kind) -> None:
        """Record this step and run it from the recording."""
        recording = self._try(lambda: self._forward(kind))
        if recording is None:
            self._move(kind, self._forward(kind))
            return
        replay, filled = recording
        assert filled is not None, "a forward pass returns loss and gradient"
        self._recorded[kind] = replay, filled
        replay()
        self._move(kind, filled)

    def _compare(self, kind: Kind) -> None:
        """The second step: replayed and computed. Only the computed numbers are used."""
        replay, filled = self._recorded[kind]
        replay()
        replayed = tuple(part.clone() for part in filled)
        computed = self._forward(kind)
        self._move(kind, computed)
        if not all(map(_agree, replayed, computed)):
            self._refuse("the loss depends on more than its weights and the step number")
            return
        recording = self._try(lambda: self._move(kind, filled))
        if recording is not None:
            self._moves[kind] = recording[0]

    def _try(
        self, work: Callable[[], StepResult | None]
    ) -> tuple[Callable[[], None], StepResult | None] | None:
        """A recording; None, and no more of them, where `work` cannot be recorded."""
        assert self._recorder is not None, "asked for by _pays"
        try:
            return self._recorder.record(work)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # torch's own, of whatever kind
            reason = str(error).strip().partition("\n")[0]
        self._refuse(reason)
        return None

    def _refuse(self, reason: str) -> None:
        """From here on every step is computed as it is."""
        log.info("training steps are not recorded: %s", reason)
        self._recorder = None
        self._recorded.clear()
        self._moves.clear()


def _agree(replayed: Tensor, computed: Tensor) -> bool:
    """Equal but for the order of sums."""
    largest = float(computed.abs().nan_to_num(0.0, 0.0).max())
    return torch.allclose(
        replayed, computed, rtol=AGREEMENT, atol=AGREEMENT * largest, equal_nan=True
    )
