"""Pictures decoded ahead of the encoder, by threads or by processes.

Pillow decodes outside the interpreter's lock but converts inside it, so threads stop helping at
four or so, which is too slow for a GPU. Processes (decoder_process.py) do not stop there. They
write the pixels into memory shared with this process, from where copies to a GPU start without
waiting.
"""

from __future__ import annotations

import atexit
import mmap
import os
import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from benchmark.data import ImageTable
from benchmark.features.decoder_process import SLAB_BYTES, pixels_of

DECODERS = min(8, os.cpu_count() or 1)  # threads; changes no number
PROCESSES = min(16, os.cpu_count() or 1)
FEWEST = 256  # pictures for which processes are started
CHUNK = 32  # pictures decoded at a time, at most
SLABS = 2 * PROCESSES + 4
Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], ahead: int, threads: int
) -> Iterator[Result]:
    """function(item) of every item in order, computed by threads at most `ahead` items early."""
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="features")
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class Decoded:
    """uint8 pixels_HWC of some pictures; in shared memory they are valid until `release()`."""

    pictures: list[Tensor]
    release: Callable[[], None] = lambda: None


def decoded(
    table: ImageTable, positions: Sequence[int], *, by_processes: bool
) -> Generator[Decoded, None, None]:
    """The pictures at `positions` in order, a few at a time.

    At most four chunks may be kept without being released. Raises what `table.open` raises.
    """
    size = max(1, min(CHUNK, len(positions) // PROCESSES))
    parts = [positions[start : start + size] for start in range(0, len(positions), size)]
    pickled = _pickled(table.pictures) if by_processes and _pays(len(positions)) else None
    if pickled is None:
        yield from in_order(lambda part: _decoded_here(table, part), parts, 2 * DECODERS, DECODERS)
        return
    pool, taken = decoding_pool(), set[int]()
    ask = lambda part: _decoded_there(pool, taken, pickled, table, part)  # noqa: E731
    try:
        yield from in_order(ask, parts, 2 * PROCESSES, PROCESSES)
    finally:
        for slab in list(taken):
            _give_back(pool, taken, slab)


def _pays(count: int) -> bool:
    """Whether so many pictures are worth processes: fewer are needed once those are running."""
    running = decoding_pool.cache_info().currsize > 0
    fewest = min(CHUNK, FEWEST) if running else FEWEST
    return count >= fewest and hasattr(os, "memfd_create")  # shared memory, on Linux


def _pickled(pictures: object) -> bytes | None:
    with suppress(pickle.PicklingError, AttributeError, TypeError):
        return pickle.dumps(pictures)
    return None


def _decoded_here(table: ImageTable, positions: Sequence[int]) -> Decoded:
    return Decoded([torch.from_numpy(pixels_of(table.open(i))) for i in positions])


@dataclass(frozen=True)
class DecodingPool:
    """Processes that wait for requests, and the memory that they share with this one."""

    memory_fd: int
    memory: np.ndarray[Any, np.dtype[np.uint8]]
    idle: SimpleQueue[Connection]
    free_slabs: SimpleQueue[int]


@cache
def decoding_pool() -> DecodingPool:
    """The pool of this process, started when it is first needed."""
    fd = os.memfd_create("fsbench-pictures")
    os.ftruncate(fd, SLABS * SLAB_BYTES)
    memory = np.frombuffer(mmap.mmap(fd, SLABS * SLAB_BYTES), np.uint8)
    if torch.cuda.is_available():  # copies from registered memory do not wait
        torch.cuda.cudart().cudaHostRegister(memory.ctypes.data, memory.nbytes, 0)
    pool = DecodingPool(fd, memory, SimpleQueue(), SimpleQueue())
    for slab in range(SLABS):
        pool.free_slabs.put(slab)
    for _ in range(PROCESSES):
        pool.idle.put(_started(fd))
    return pool


def _started(memory_fd: int) -> Connection:
    """The connection to a new process, which ends when this end of it is closed."""
    here, there = Pipe()
    command = [sys.executable, "-m", "benchmark.features.decoder_process"]
    process = subprocess.Popen(
        [*command, str(there.fileno()), str(memory_fd)],
        stdin=subprocess.DEVNULL,
        pass_fds=[there.fileno(), memory_fd],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
    )
    there.close()
    atexit.register(_ended, here, process)
    return here


def _ended(connection: Connection, process: subprocess.Popen[bytes]) -> None:
    connection.close()
    process.terminate()
    process.wait()


def _decoded_there(
    pool: DecodingPool,
    taken: set[int],
    pickled: bytes,
    table: ImageTable,
    positions: Sequence[int],
) -> Decoded:
    """By the next idle process; by this thread where no process can do it."""
    slab, connection = pool.free_slabs.get(), pool.idle.get()
    taken.add(slab)
    try:
        connection.send((pickled, [table.keys[i] for i in positions], slab))
        answer = connection.recv()
    except (EOFError, OSError):  # it has died
        connection, answer = _started(pool.memory_fd), None
    pool.idle.put(connection)
    if answer is None:
        _give_back(pool, taken, slab)
        return _decoded_here(table, positions)
    pictures = [_received(pool, entry) for entry in answer]
    return Decoded(pictures, lambda: _give_back(pool, taken, slab))


def _give_back(pool: DecodingPool, taken: set[int], slab: int) -> None:
    if slab in taken:
        taken.remove(slab)
        pool.free_slabs.put(slab)


def _received(pool: DecodingPool, entry: Any) -> Tensor:
    """A picture from shared memory (start, height, width), or one too large for that."""
    if isinstance(entry, np.ndarray):
        return torch.from_numpy(entry)
    start, height, width = entry
    flat = pool.memory[start : start + height * width * 3]
    return torch.from_numpy(flat.reshape(height, width, 3))
