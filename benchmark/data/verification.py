"""Every image read again and compared with its first reading, or with a published digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmark.data import digests
from benchmark.data.image_rows import ImageRows
from benchmark.data.locations import NOTES
from benchmark.data.pictures import PictureFiles
from benchmark.data.specs import Spec
from benchmark.errors import MISSING, UserError


def manifest_file(spec: Spec, root: Path) -> Path:
    """The file a first reading leaves: one line 'sha256 key' per image, sorted by key."""
    return root / NOTES / f"{spec.key}.manifest"


def manifest_lines(rows: ImageRows) -> Iterator[str]:
    """The manifest's lines as the images are now, not as they are remembered."""
    for key in sorted(rows.keys()):
        yield f"{_fresh(rows, key)} {key}"


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


def _fresh(rows: ImageRows, key: str) -> str:
    if not isinstance(rows.pictures, PictureFiles):
        return rows.pictures.digest(key)
    try:
        return digests.hashed(rows.pictures.folder / key)
    except OSError as error:
        raise UserError(
            f"image {rows.pictures.folder / key} cannot be read ({error.strerror})",
            exit_code=MISSING,
        ) from error
