"""Tables of the Hugging Face hub, read from Parquet files on disk: pictures are bytes in a column."""

from __future__ import annotations

import hashlib
import io
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.data.class_folders import held_out
from benchmark.data.image_rows import SPLITS, ImageRow, ImageRows
from benchmark.data.locations import DatasetLocation
from benchmark.data.pictures import decode
from benchmark.data.sources import HubTable
from benchmark.data.specs import Spec
from benchmark.errors import MISSING, UserError

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class ParquetPictures:
    """Pictures in a column of Parquet files; a key is 'file#row', the row counted within the file."""

    folder: Path
    column: str

    def open(self, key: str) -> Image:
        return decode(io.BytesIO(self._bytes(key)), str(self.folder / key))

    def digest(self, key: str) -> str:
        return hashlib.sha256(self._bytes(key)).hexdigest()

    def _bytes(self, key: str) -> bytes:
        file, _, row = key.rpartition("#")
        cell = _cell(self.folder / file, self.column, int(row))
        data = cell.get("bytes") if isinstance(cell, dict) else cell
        if not isinstance(data, bytes):
            raise UserError(
                f"image {self.folder / key} holds no bytes; use a table whose pictures are embedded",
                exit_code=MISSING,
            )
        return data


def read(spec: Spec, source: HubTable, location: DatasetLocation) -> ImageRows:
    """Rows in the order of the files, file names sorted."""
    folder = location.folders[0]
    rows: dict[str, list[ImageRow]] = {split: [] for split in SPLITS}
    for split in SPLITS:
        pattern = getattr(source, split)
        for file in sorted(folder.glob(pattern)) if pattern else ():
            rows[split] += _rows(spec, source, folder, file)
    return ImageRows(held_out(spec.name, rows, source.cut), ParquetPictures(folder, source.image))


def _rows(spec: Spec, source: HubTable, folder: Path, file: Path) -> list[ImageRow]:
    with _opened(file, source.label) as opened:
        found = opened.read([source.label]).column(source.label).to_pylist()
    name = file.relative_to(folder).as_posix()
    labels = {class_name: label for label, class_name in enumerate(spec.class_names)}
    return [(f"{name}#{row}", _label(value, labels, file)) for row, value in enumerate(found)]


@contextmanager
def _opened(file: Path, column: str) -> Iterator[Any]:
    """A Parquet file; whatever its library says against it becomes a UserError."""
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        with pyarrow.parquet.ParquetFile(file) as opened:
            if (
                opened.metadata.num_rows > file.stat().st_size
            ):  # labels alone can be packed without end, pictures cannot
                raise ValueError("more rows than bytes")
            yield opened
    except (OSError, KeyError, ValueError, OverflowError, pyarrow.ArrowException) as error:
        raise UserError(
            f"{file} is no Parquet file with a column '{column}' ({error}); fetch it again",
            exit_code=MISSING,
        ) from error


def _label(value: Any, labels: dict[str, int], file: Path) -> int:
    label = labels.get(value) if isinstance(value, str) else value
    if not isinstance(label, int) or not 0 <= label < len(labels):
        raise UserError(
            f"{file} has the label {value!r}, which is none of the {len(labels)} class names; correct class_names"
        )
    return label


def _cell(file: Path, column: str, row: int) -> Any:
    ends = _group_ends(file, column)
    group = bisect_right(ends, row)
    try:
        return _group(file, column, group)[row - (ends[group - 1] if group else 0)].as_py()
    except (
        LookupError,
        ValueError,
        OverflowError,
    ) as error:  # fewer cells than the file promises, or text that is none
        raise UserError(
            f"row {row} of {file} cannot be read ({error}); fetch it again", exit_code=MISSING
        ) from error


@lru_cache(maxsize=256)
def _group_ends(file: Path, column: str) -> list[int]:
    with _opened(file, column) as opened:
        return list(
            accumulate(opened.metadata.row_group(i).num_rows for i in range(opened.num_row_groups))
        )


@lru_cache(maxsize=2)  # pictures are mostly read in order; more groups would only hold memory
def _group(file: Path, column: str, group: int) -> Any:
    with _opened(file, column) as opened:
        return opened.read_row_group(group, columns=[column]).column(column).combine_chunks()
