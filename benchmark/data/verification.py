"""Every image read again and decoded: which cannot be, which have changed since the first time."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from benchmark.data import rgb
from benchmark.data.image_rows import ImageRows
from benchmark.data.locations import NOTES
from benchmark.data.specs import Spec
from benchmark.errors import UserError

THREADS = min(8, os.cpu_count() or 1)  # that decode; changes no result
AT_ONCE = 256  # images between two looks at the progress
MOST_NAMED = 10  # images in a message


class StoredPictures(Protocol):
    """Pictures that lie on a disk; `peculiarities` decodes one, or raises UserError."""

    def fresh_digest(self, key: str) -> str: ...

    def peculiarities(self, key: str) -> frozenset[str]: ...


@dataclass(frozen=True)
class Examined:
    """An image as it is now: the digest of its content, and why it cannot be decoded, if so."""

    key: str
    digest: str
    fault: str = ""
    peculiarities: frozenset[str] = frozenset()

    @property
    def line(self) -> str:
        """Its line of the manifest."""
        return f"{self.digest} {self.key}"


def examined(rows: ImageRows, keys: Sequence[str]) -> Iterator[Examined]:
    """Every image of `keys` in order, as it is now and not as it is remembered."""
    pictures = cast(StoredPictures, rows.pictures)
    with ThreadPoolExecutor(THREADS, thread_name_prefix="verify") as pool:
        for start in range(0, len(keys), AT_ONCE):
            part = keys[start : start + AT_ONCE]
            yield from pool.map(lambda key: _examined(pictures, key), part)


def _examined(pictures: StoredPictures, key: str) -> Examined:
    digest = ""
    try:
        digest = pictures.fresh_digest(key)
        return Examined(key, digest, peculiarities=pictures.peculiarities(key))
    except UserError as error:
        return Examined(key, digest, fault=str(error))


def faults(images: Sequence[Examined]) -> str | None:
    """A sentence about the images that cannot be decoded; None where there is none."""
    faulty = [each for each in images if each.fault]
    if not faulty:
        return None
    named = ", ".join(each.key for each in faulty[:MOST_NAMED])
    more = " and so on" if len(faulty) > MOST_NAMED else ""
    reason = faulty[0].fault.partition(";")[0]
    return (
        f"{len(faulty)} of {len(images)} images cannot be read: {named}{more}; of the first: "
        f"{reason}"
    )


def remarks(images: Sequence[Examined], exif: rgb.Exif) -> list[str]:
    """A sentence for each peculiarity, with the number of images that have it."""
    counts = Counter(name for each in images for name in each.peculiarities)
    shown = {name: text for name, text in rgb.PECULIARITIES.items() if counts[name]}
    if exif == "apply":
        shown.pop(rgb.TURNED, None)
    return [f"{counts[name]} of {len(images)} images {text}" for name, text in shown.items()]


def manifest_file(spec: Spec, root: Path) -> Path:
    """The file a first reading leaves: one line 'sha256 key' per image, sorted by key."""
    return root / NOTES / f"{spec.key}.manifest"


def problem(spec: Spec, lines: Sequence[str], first_lines: Path) -> str | None:
    """What is wrong with the images, naming the first that changed; None where nothing is."""
    if first_lines.is_file():
        before = frozenset(first_lines.read_text(encoding="utf-8", errors="replace").split("\n"))
        changed = [line.partition(" ")[2] for line in lines if line not in before]
        if changed:
            return (
                f"{len(changed)} of {len(lines)} images have changed since they were first "
                f"verified, the first is {changed[0]}"
            )
    expected: str | None = getattr(spec.source, "content_sha256", None)
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    if expected and digest != expected:
        return f"the images are not the published ones: sha256 {digest[:12]}, not {expected[:12]}"
    return None
