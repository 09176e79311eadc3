"""A process that decodes pictures for another one: `python -m benchmark.features.decoder_process`
with the number of a connection and that of shared memory. Imports no torch.

A request is (pickled `PictureReader`, keys, slab). The answer is, for each key, where the pixels
lie in the shared memory, or the pixels themselves where the slab is full; None where anything went
wrong, and then the process that asked decodes for itself and sees the error.
"""

from __future__ import annotations

import mmap
import pickle
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

SLAB_BYTES = 24 << 20  # for 32 pictures of 500 x 375, and some more
Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Entry = tuple[int, int, int] | Pixels


def pixels_of(picture: Image) -> Pixels:
    """uint8 pixels_HWC, writable."""
    return np.array(picture, dtype=np.uint8)


def serve(connection: Connection, memory: Pixels) -> None:
    """Answer requests until the other end is closed."""
    sources: dict[bytes, Any] = {}
    with suppress(EOFError, OSError):
        while True:
            pickled, keys, slab = connection.recv()
            connection.send(_answer(sources, pickled, keys, slab, memory))


def _answer(
    sources: dict[bytes, Any], pickled: bytes, keys: list[str], slab: int, memory: Pixels
) -> list[Entry] | None:
    try:
        if pickled not in sources:
            sources.clear()
            sources[pickled] = pickle.loads(pickled)
        return _decode(sources[pickled], keys, slab * SLAB_BYTES, memory)
    except Exception:
        return None


def _decode(pictures: Any, keys: list[str], start: int, memory: Pixels) -> list[Entry]:
    end, entries = start + SLAB_BYTES, list[Entry]()
    for key in keys:
        pixels = np.asarray(pictures.open(key), dtype=np.uint8)
        if start + pixels.size > end:
            entries.append(pixels)
            continue
        memory[start : start + pixels.size] = pixels.ravel()
        entries.append((start, *pixels.shape[:2]))
        start += pixels.size
    return entries


if __name__ == "__main__":
    _memory = mmap.mmap(int(sys.argv[2]), 0)
    serve(Connection(int(sys.argv[1])), np.frombuffer(_memory, np.uint8))
