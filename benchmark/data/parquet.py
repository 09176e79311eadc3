"""Image tables of the Hugging Face hub: Parquet files on disk with pictures as bytes in a column.

The `datasets` library reads the class names that it stores in such files. Rows and pictures are
read with pyarrow and Pillow: `datasets` would copy every file into a cache of its own, whatever a
few bytes of it may unpack to; its decoder opens paths and addresses that a cell names, runs
PostScript and turns pictures by their EXIF data, which readers of other sources do not.
"""

from __future__ import annotations

import hashlib
import io
import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.data import digests, rgb
from benchmark.data.class_folders import held_out
from benchmark.data.digests import Content
from benchmark.data.image_rows import SPLITS, ImageRow, ImageRows
from benchmark.data.locations import DatasetLocation
from benchmark.data.sources import HubTable
from benchmark.data.specs import Spec
from benchmark.errors import MISSING, UserError
from benchmark.paths import stamp_of

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class ParquetPictures:
    """Pictures in a column of Parquet files; a key is 'file#row', rows counted from 0 per file."""

    folder: Path
    column: str
    exif: rgb.Exif = "ignore"

    def open(self, key: str) -> Image:
        return rgb.decode(io.BytesIO(self._bytes(key)), str(self.folder / key), self.exif)

    def peculiarities(self, key: str) -> frozenset[str]:
        return rgb.peculiarities(io.BytesIO(self._bytes(key)), str(self.folder / key))

    def fresh_digest(self, key: str) -> str:
        with _readable():
            return digests.anew(self._content(key))

    def digests(self, keys: Sequence[str]) -> list[str]:
        with _readable():
            return digests.remembered([self._content(key) for key in keys], threads=1)

    def _content(self, key: str) -> Content:
        """A row, remembered under the stamp of its file."""
        file, _, row = key.rpartition("#")
        path = self.folder / file
        name = f"{path.name}#{self.column}#{row}"
        return Content(str(path), name, lambda: hashlib.sha256(self._bytes(key)).hexdigest())

    def _bytes(self, key: str) -> bytes:
        file, _, row = key.rpartition("#")
        cell = _read_cell(self.folder / file, self.column, int(row))
        data = cell.get("bytes") if isinstance(cell, dict) else cell
        if not isinstance(data, bytes):
            raise UserError(
                f"image {self.folder / key} holds no bytes; use a table with embedded pictures",
                exit_code=MISSING,
            )
        return data


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{error.filename} cannot be read ({error.strerror}); restore it", exit_code=MISSING
        ) from error


def read(spec: Spec, source: HubTable, location: DatasetLocation) -> ImageRows:
    """Rows in the order of the files, file names sorted."""
    folder = location.folders[0]
    by_split: dict[str, list[ImageRow]] = {split: [] for split in SPLITS}
    split_of: dict[Path, str] = {}
    for split in SPLITS:
        pattern = getattr(source, split)
        for file in sorted(folder.glob(pattern)) if pattern else ():
            _check_apart(spec, file, split_of.setdefault(file.resolve(), split), split)
            name = file.relative_to(folder).as_posix()
            labels = _labels(file, source.label, source.label_names or spec.class_names)
            by_split[split] += [(f"{name}#{row}", label) for row, label in enumerate(labels)]
    pictures = ParquetPictures(folder, source.image, source.exif)
    return ImageRows(held_out(spec, by_split, source.held_out), pictures)


def _check_apart(spec: Spec, file: Path, other: str, split: str) -> None:
    if other != split:
        raise UserError(
            f"{spec.name}: {file} is read as {other} and as {split}; name other files",
            exit_code=MISSING,
        )


def _labels(file: Path, column: str, names: Sequence[str]) -> list[int]:
    """The labels of a file as positions in `names`; they are stored as numbers or as names.

    Raises UserError where the file's own metadata number the classes in another order.
    """
    with _opened(file, column) as opened:
        stored_names = _stored_names(opened.schema_arrow, column)
        values = opened.read([column]).column(column).to_pylist()
    if stored_names and _normalised(stored_names) != _normalised(names):
        raise UserError(
            f"{file} numbers its classes {_shown(stored_names)}, but the dataset's TOML numbers "
            f"them {_shown(names)}; put class_names in the file's order, or give the file's own "
            f"names as source.label_names"
        )
    label_of = {name: label for label, name in enumerate(names)}
    if len(label_of) < len(names) and any(isinstance(value, str) for value in values):
        raise UserError(
            f"{file} stores labels by name, and a class name stands for two classes; "
            f"give the file's own names as source.label_names"
        )
    return [_label(value, label_of, file) for value in values]


def _stored_names(schema: Any, column: str) -> list[str]:
    """Class names that the `datasets` library wrote beside the table; none where it did not.

    Its `Features.from_arrow_schema` would drop the names without a word where the column has
    another integer type than int64, so the column's own entry is read instead.
    """
    metadata = (schema.metadata or {}).get(b"huggingface")
    if metadata is None:
        return []
    from datasets import ClassLabel, Features  # more than a second, paid only by these files

    try:
        features = (json.loads(metadata).get("info") or {}).get("features") or {}
        column_features = {name: features[name] for name in features if name == column}
        feature = Features.from_dict(column_features).get(column)
        return [str(name) for name in feature.names] if isinstance(feature, ClassLabel) else []
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"its 'huggingface' metadata cannot be read: {error}") from error


def picture_columns(file: Path) -> list[str]:
    """Columns that may hold pictures: of bytes, or of bytes beside a path."""
    import pyarrow  # type: ignore[import-untyped]

    with _opened(file, "") as opened:
        fields = list(opened.schema_arrow)
    return [
        field.name
        for field in fields
        if pyarrow.types.is_binary(field.type)
        or pyarrow.types.is_large_binary(field.type)
        or (pyarrow.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0)
    ]


def label_columns(file: Path) -> dict[str, list[str]]:
    """Columns that may hold labels, those with names of classes first, and these names."""
    import pyarrow

    with _opened(file, "") as opened:
        schema = opened.schema_arrow
        named = {field.name: _stored_names(schema, field.name) for field in schema}
    plain = {
        field.name: named[field.name]
        for field in schema
        if pyarrow.types.is_integer(field.type) or pyarrow.types.is_string(field.type)
    }
    return dict(sorted(plain.items(), key=lambda item: not item[1]))


def distinct_labels(files: Sequence[Path], column: str) -> Counter[Any]:
    """How often every value of a column stands in the files."""
    counts: Counter[Any] = Counter()
    for file in files:
        with _opened(file, column) as opened:
            counts.update(opened.read([column]).column(column).to_pylist())
    return counts


def _normalised(names: Sequence[str]) -> list[str]:
    return [name.replace("_", " ").casefold() for name in names]


def _shown(names: Sequence[str], most: int = 30) -> str:
    """A list of names with their labels, cut short where it is long."""
    listed = ", ".join(f"{label} '{name}'" for label, name in enumerate(names[:most]))
    return f"{listed} and so on to {len(names) - 1}" if len(names) > most else listed


@contextmanager
def _opened(file: Path, column: str) -> Iterator[Any]:
    """A Parquet file; whatever its library says against it becomes a UserError."""
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        with pyarrow.parquet.ParquetFile(file) as opened:
            # Labels alone can be packed without end, pictures cannot.
            if opened.metadata.num_rows > file.stat().st_size:
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
            f"{file} has the label {value!r}, which is none of the {len(labels)} class names; "
            f"correct class_names"
        )
    return label


def _read_cell(file: Path, column: str, row: int) -> Any:
    try:
        stamp = stamp_of(file)
        ends = _row_group_ends(file, column, stamp)
        group = bisect_right(ends, row)
        cells = _row_group(file, column, group, stamp)
        return cells[row - (ends[group - 1] if group else 0)].as_py()
    # Fewer rows than the file's header states, or bytes that are not the text they should be.
    except (OSError, LookupError, ValueError, OverflowError) as error:
        raise UserError(
            f"row {row} of {file} cannot be read ({error}); fetch it again", exit_code=MISSING
        ) from error


@lru_cache(maxsize=256)
def _row_group_ends(file: Path, column: str, stamp: str) -> list[int]:
    """The number of rows up to the end of each row group. `stamp` is for the memory alone: a
    table that was rewritten is read again.
    """
    with _opened(file, column) as opened:
        return list(
            accumulate(opened.metadata.row_group(i).num_rows for i in range(opened.num_row_groups))
        )


@lru_cache(maxsize=2)  # pictures are mostly read in order; more groups would only hold memory
def _row_group(file: Path, column: str, group: int, stamp: str) -> Any:
    """The cells of a row group; `stamp` as above."""
    with _opened(file, column) as opened:
        return opened.read_row_group(group, columns=[column]).column(column).combine_chunks()
