"""One folder per class: ImageNet, its offspring, and people's own images."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from benchmark.data.image_rows import SPLITS, ImageRow, ImageRows, deeper
from benchmark.data.locations import DatasetLocation
from benchmark.data.pictures import PictureFiles
from benchmark.data.sources import NO_TEXT, ClassFolders, HeldOut
from benchmark.data.specs import Spec
from benchmark.errors import MISSING, UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".ppm", ".tif", ".tiff")


def read(spec: Spec, source: ClassFolders, location: DatasetLocation) -> ImageRows:
    """Rows class by class, file names sorted: the order of a file system decides nothing."""
    folder = location.holding(source.train or source.test or ".")
    _check_apart(spec, source, folder)
    by_split: dict[str, list[ImageRow]] = {split: [] for split in SPLITS}
    problems: list[str] = []
    for split in SPLITS:
        split_folder = getattr(source, split)
        if not split_folder:
            continue
        by_split[split], empty = _images(folder, split_folder, spec.folders)
        if empty:
            problems.append(
                f"{folder / split_folder} has no images of {len(empty)} classes, "
                f"the first is '{empty[0]}'{deeper(folder, f'{split_folder}/{empty[0]}')}"
            )
    rows = held_out(spec, by_split, source.held_out)
    return ImageRows(rows, PictureFiles(folder, source.exif), problems=tuple(problems))


def _check_apart(spec: Spec, source: ClassFolders, folder: Path) -> None:
    """Raises UserError where links, or a file system that ignores case, make one folder of two
    classes or of two splits.
    """
    places: dict[tuple[int, int], str] = {}
    for split in filter(None, (getattr(source, split) for split in SPLITS)):
        for name in spec.folders:
            place = f"{split}/{name}"
            identity = _identity(folder / place)
            other = places.setdefault(identity, place) if identity else place
            if other != place:
                raise UserError(
                    f"{spec.name}: '{other}' and '{place}' are the same folder in {folder}; every "
                    f"class needs one of its own in every split",
                    exit_code=MISSING,
                )


def _identity(folder: Path) -> tuple[int, int] | None:
    """What is the same for one folder under two names."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def held_out(
    spec: Spec, by_split: Mapping[str, list[ImageRow]], per_class: HeldOut
) -> Mapping[str, list[ImageRow]]:
    """Rows after `per_class` has moved images of every class from train to test and to val."""
    train, test = _divided(spec, by_split["train"], per_class.test)
    train, val = _divided(spec, train, per_class.val)
    return {"train": train, "val": val or by_split["val"], "test": test or by_split["test"]}


def _images(
    folder: Path, split_folder: str, class_folders: tuple[str, ...]
) -> tuple[list[ImageRow], list[str]]:
    """The rows of a split, and the class folders without an image."""
    rows: list[ImageRow] = []
    empty = []
    for label, name in enumerate(class_folders):
        files = _image_names(folder / split_folder / name)
        prefix = os.path.normpath(f"{split_folder}/{name}")
        rows += [(f"{prefix}/{file}", label) for file in files]
        if not files:
            empty.append(name)
    return rows, empty


def _image_names(folder: Path) -> list[str]:
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    images = sorted(
        name for name in names if name.lower().endswith(SUFFIXES) and not name.startswith(".")
    )
    unreadable = next((name for name in images if NO_TEXT.search(name)), None)
    if unreadable is not None:
        raise UserError(
            f"{folder} holds an image whose name is no text, {unreadable!a}; rename it",
            exit_code=MISSING,
        )
    return images


def _divided(
    spec: Spec, rows: list[ImageRow], per_class: int
) -> tuple[list[ImageRow], list[ImageRow]]:
    """The rows that stay, and `per_class` rows of every class, evenly spaced in their order."""
    positions_of: dict[int, list[int]] = {}
    for position, (_, label) in enumerate(rows):
        positions_of.setdefault(label, []).append(position)
    _check_enough(spec, positions_of, per_class)
    taken: set[int] = set()
    for positions in positions_of.values():
        taken |= {positions[i * len(positions) // per_class] for i in range(per_class)}
    return [row for i, row in enumerate(rows) if i not in taken], [rows[i] for i in sorted(taken)]


def _check_enough(spec: Spec, positions_of: Mapping[int, list[int]], per_class: int) -> None:
    for label, positions in positions_of.items():
        if per_class and len(positions) <= per_class:
            raise UserError(
                f"class '{spec.class_names[label]}' of {spec.name} has {len(positions)} images, "
                f"too few to hold out {per_class}; lower source.held_out",
                exit_code=MISSING,
            )
