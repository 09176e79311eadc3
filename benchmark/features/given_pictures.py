"""Pictures that a user names for prediction: files, folders of them, or lists of paths."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.data import ImageTable
from benchmark.data.class_folders import SUFFIXES
from benchmark.data.pictures import PictureFiles
from benchmark.data.rgb import Exif
from benchmark.errors import MISSING, UserError
from benchmark.features.decoding import DECODERS, in_order

LISTS = (".csv", ".txt")
COLUMN = "path"  # of a list with a heading
MOST_LIST_BYTES = 1 << 30


@dataclass(frozen=True)
class GivenPictures:
    """Paths of pictures as they were given, in order, and how many other files the folders hold."""

    paths: tuple[str, ...]
    others: int = 0


def find_pictures(given: Sequence[Path]) -> GivenPictures:
    """The pictures of files, of folders with all below them, and of lists of paths (.csv, .txt).

    Of a folder files are taken whose names say that they are pictures, in the order of their paths.
    Raises UserError where there are none, or for a path that is not there.
    """
    paths: list[str] = []
    others = 0
    for each in given:
        if each.is_dir():
            files = sorted(file for file in each.rglob("*") if file.is_file())
            pictures = [str(file) for file in files if is_picture(file)]
            paths, others = paths + pictures, others + len(files) - len(pictures)
        elif each.suffix.lower() in LISTS:
            paths += _listed(each)
        elif is_picture(each) or each.exists():  # of many, one that is not there is named later
            paths.append(str(each))
        else:
            raise UserError(
                f"there is no folder or file {each}; name folders, pictures or lists of them",
                exit_code=MISSING,
            )
    if not paths:
        raise UserError(
            f"there are no pictures in {', '.join(map(str, given[:3]))}; their names end with"
            f" {', '.join(SUFFIXES)}",
            exit_code=MISSING,
        )
    return GivenPictures(tuple(paths), others)


def is_picture(file: Path) -> bool:
    """Whether its name says so."""
    return file.name.lower().endswith(SUFFIXES) and not file.name.startswith(".")


def _listed(file: Path) -> list[str]:
    """Column "path" of a table, or the first column of one without such a heading; paths are
    relative to the list."""
    try:
        if file.stat().st_size > MOST_LIST_BYTES:
            raise ValueError("it is larger than 1 GiB")
        rows = [row for row in csv.reader(file.read_text("utf-8-sig").splitlines()) if any(row)]
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{file} cannot be read as a list of paths ({error})") from error
    heading = [cell.strip().lower() for cell in rows[0]] if rows else []
    column = heading.index(COLUMN) if COLUMN in heading else 0
    body = rows[1:] if COLUMN in heading else rows
    short = next((row for row in body if len(row) <= column), None)
    if short is not None:
        raise UserError(f"{file} has a row without a path: {','.join(short)[:60]!r}; add it")
    return [str(file.parent / row[column].strip()) for row in body]


def table_of(paths: Sequence[str], exif: Exif) -> ImageTable:
    """The pictures as a table; all have the label 0, which nothing reads."""
    absolute = [Path(path).absolute() for path in paths]
    root = Path(absolute[0].anchor)
    keys = tuple(path.relative_to(root).as_posix() for path in absolute)
    return ImageTable(keys, (0,) * len(keys), PictureFiles(root, exif))


def unreadable(table: ImageTable) -> Iterator[tuple[int, str]]:
    """Position of every picture that cannot be decoded, and why."""

    def problem(i: int) -> str:
        try:
            table.digest(i)
            table.open(i)
        except UserError as error:
            return str(error)
        return ""

    for i, sentence in enumerate(in_order(problem, range(len(table)), 4 * DECODERS, DECODERS)):
        if sentence:
            yield i, sentence
