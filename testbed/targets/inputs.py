"""How inputs are made of seeds, and put into a folder."""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmark.data.unpack import Limits
from testbed.mutation import mutated, mutated_tree

Random = random.Random
BOMB_BYTES = 400 << 20  # when they have gone off
# as in earnest, only smaller, so that bombs go off early
LIMITS = Limits(factor=20, spare_bytes=8 << 20, files=2000)


def from_bytes(seeds: Callable[[], Sequence[bytes]]) -> Callable[[Random], bytes]:
    """Inputs that are seeds with some bytes changed."""
    return lambda rng: mutated(rng, rng.choice(seeds()), seeds())


def from_trees(
    trees: Callable[[], Sequence[Any]], text: Callable[[Any], bytes]
) -> Callable[[Random], bytes]:
    """Inputs that are plain data with values changed, or, one time in three, its text with bytes
    changed.
    """

    def make(rng: Random) -> bytes:
        tree = rng.choice(trees())
        return (
            mutated(rng, text(tree), [text(each) for each in trees()])
            if rng.random() < 0.33
            else text(mutated_tree(rng, tree))
        )

    return make


def written(file: Path, content: bytes) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def nothing_beside(folder: Path, allowed: set[str]) -> None:
    strays = {path.name for path in folder.iterdir()} - allowed
    assert not strays, f"written outside of its folder: {strays}"


def zipped(
    members: dict[str, bytes] | list[tuple[Any, bytes]], method: int = zipfile.ZIP_DEFLATED
) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, body in members.items() if isinstance(members, dict) else members:
            # without the time of day
            archive.writestr(
                name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo(name), body, method
            )
    return packed.getvalue()
