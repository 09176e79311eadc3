"""Records as pandas frames, one row per record: for notebooks and for the leaderboard."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

from pydantic import BaseModel

from benchmark.records.record import Costs, Identity, Record, Scalar
from benchmark.records.store import Store
from benchmark.report.record_selection import select_records

if TYPE_CHECKING:
    import pandas as pd

ORDER = ["backbone", "method", "dataset", "shots", "seed", "key"]
NOTE = "note_"  # begins the names of columns that hold an adapter's notes


def load_results(folder: str | Path) -> pd.DataFrame:
    """Every record below `folder`, one row each, sorted by backbone, method, dataset, shots, seed.

    Columns, in this order, always there and always of the same dtype:

    - `key`, the method's `title`, then the fields of the identity;
      `params` and `sources` (dataset -> digest) are JSON;
    - `correct` and `total` (test images), `accuracy` and `class_accuracy` (fractions; the second is
      the mean over classes);
    - the costs: seconds end in `_s`, `peak_mb` is in MiB; missing where a record lacks one;
    - `note_NAME` for every note of an adapter that any record has, in alphabetical order: float64
      for numbers, boolean for truth values, string for anything else.

    Files that cannot be read are passed over with a warning. Raises UserError where there is no
    record at all.
    """
    problems: list[str] = []
    records = select_records(Store(Path(folder)), problems)
    for problem in problems:
        warnings.warn(problem, stacklevel=2)
    return sorted_frame(records)


def sorted_frame(records: Iterable[Record]) -> pd.DataFrame:
    """The frame of `load_results`."""
    return records_frame(records).sort_values(ORDER, ignore_index=True)


def records_frame(records: Iterable[Record]) -> pd.DataFrame:
    """The columns of `load_results`, in the order given."""
    import pandas as pd

    kept = list(records)
    columns: dict[str, pd.Series] = {
        "key": pd.Series([record.key for record in kept], dtype="string"),
        "title": pd.Series([record.title for record in kept], dtype="string"),
        **_columns(Identity, [record.identity.model_dump() for record in kept]),
        "correct": pd.Series([record.right for record in kept], dtype="int64"),
        "total": pd.Series([record.tested for record in kept], dtype="int64"),
        "accuracy": pd.Series([record.accuracy for record in kept], dtype="float64"),
        "class_accuracy": pd.Series([record.class_accuracy for record in kept], dtype="float64"),
        **_columns(Costs, [record.costs.model_dump() for record in kept]),
        **_note_columns([record.notes for record in kept]),
    }
    return pd.DataFrame(columns)


def _columns(model: type[BaseModel], rows: list[dict[str, object]]) -> dict[str, pd.Series]:
    """One column per field of `model`, its dtype from the field's type; objects become JSON."""
    import pandas as pd

    columns = {}
    for name, field in model.model_fields.items():
        values = [row[name] for row in rows]
        dtype = _dtype(field.annotation)
        if dtype == "json":
            values = [json.dumps(value, sort_keys=True) for value in values]
        columns[name] = pd.Series(values, dtype="string" if dtype == "json" else dtype)
    return columns


def _dtype(annotation: Any) -> str:
    """int64, or Int64 where a value may be missing; float64; string; json for everything else."""
    optional = NoneType in get_args(annotation)
    kind = get_args(annotation)[0] if optional else annotation
    kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    whole = "Int64" if optional else "int64"
    return {int: whole, float: "float64", str: "string"}.get(kind, "json")


def _note_columns(notes: list[Mapping[str, Scalar]]) -> dict[str, pd.Series]:
    names = sorted({name for each in notes for name in each})
    return {f"{NOTE}{name}": _note_column([each.get(name) for each in notes]) for name in names}


def _note_column(values: list[Scalar]) -> pd.Series:
    """A note with its narrowest dtype; whole numbers are floats, since some may be missing."""
    import pandas as pd

    types = {type(value) for value in values if value is not None}
    if types <= {bool}:
        return pd.Series(values, dtype="boolean")
    if types <= {int, float}:
        return pd.Series(values, dtype="float64")
    return pd.Series([None if value is None else str(value) for value in values], dtype="string")
