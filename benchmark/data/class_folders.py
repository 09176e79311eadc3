"""One folder per class: ImageNet, its offspring, and people's own images."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from benchmark.data.image_rows import SPLITS, ImageRow, ImageRows
from benchmark.data.locations import DatasetLocation
from benchmark.data.pictures import PictureFiles
from benchmark.data.sources import NO_TEXT, ClassFolders, Cut
from benchmark.data.specs import Spec
from benchmark.errors import MISSING, UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".ppm", ".tif", ".tiff")


def read(spec: Spec, source: ClassFolders, location: DatasetLocation) -> ImageRows:
    """Rows class by class, file names sorted: the order of a file system decides nothing."""
    folder = location.holding(source.train or source.test or ".")
    rows: dict[str, list[ImageRow]] = {split: [] for split in SPLITS}
    problems: list[str] = []
    for split in SPLITS:
        if below := getattr(source, split):
            rows[split], empty = _images(folder, below, spec.folders)
            problems += (
                [
                    f"{folder / below} has no images of {len(empty)} classes, the first is '{empty[0]}'"
                ]
                if empty
                else []
            )
    return ImageRows(
        held_out(spec.name, rows, source.cut), PictureFiles(folder), problems=tuple(problems)
    )


def held_out(
    name: str, rows: Mapping[str, list[ImageRow]], cut: Cut
) -> Mapping[str, list[ImageRow]]:
    """Rows after `cut` has moved images of every class from train to test and to val."""
    train, test = _divided(name, rows["train"], cut.test)
    train, val = _divided(name, train, cut.val)
    return {"train": train, "val": val or rows["val"], "test": test or rows["test"]}


def _images(
    folder: Path, below: str, class_folders: tuple[str, ...]
) -> tuple[list[ImageRow], list[str]]:
    rows: list[ImageRow] = []
    empty = []
    for label, name in enumerate(class_folders):
        files, prefix = _files(folder / below / name), os.path.normpath(f"{below}/{name}")
        rows += [(f"{prefix}/{file}", label) for file in files]
        empty += [] if files else [name]
    return rows, empty


def _files(folder: Path) -> list[str]:
    try:
        found = os.listdir(folder)
    except OSError:
        return []
    images = sorted(
        name for name in found if name.lower().endswith(SUFFIXES) and not name.startswith(".")
    )
    odd = next((name for name in images if NO_TEXT.search(name)), None)
    if odd is not None:
        raise UserError(
            f"{folder} holds an image whose name is no text, {odd!a}; rename it", exit_code=MISSING
        )
    return images


def _divided(
    name: str, rows: list[ImageRow], per_class: int
) -> tuple[list[ImageRow], list[ImageRow]]:
    """`per_class` rows of every class, evenly spaced in their order, apart from the rest."""
    members: dict[int, list[int]] = {}
    for position, (_, label) in enumerate(rows):
        members.setdefault(label, []).append(position)
    short = next(
        (label for label, positions in members.items() if len(positions) <= per_class), None
    )
    if per_class and short is not None:
        raise UserError(
            f"class {short} of {name} has {len(members[short])} images, too few to hold out {per_class}; lower source.cut",
            exit_code=MISSING,
        )
    taken = {
        positions[i * len(positions) // per_class]
        for positions in members.values()
        for i in range(per_class)
    }
    return [row for i, row in enumerate(rows) if i not in taken], [rows[i] for i in sorted(taken)]
