"""Results class by class as pandas frames: accuracies from records, confusions from the predictions
beside them.

Both are long: a row per record and class, or per record, true and predicted class. The leading
columns name the record; its other fields are joined by `key` from `load_results`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.records.record import Record
from benchmark.records.store import Store
from benchmark.report.image_results import ImageResults, class_names

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    Array = np.ndarray[Any, Any]

NAMING = (
    *("key", "method", "title", "dataset", "shots", "seed", "backbone", "evaluation", "classes"),
    "preset",
)
CLASS = ("label", "class_name", "correct", "total", "accuracy")
CONFUSION = ("label", "class_name", "predicted", "predicted_name", "images")
WHOLE = ("shots", "seed", "label", "correct", "total", "predicted", "images")
KINDS = {**dict.fromkeys(WHOLE, "int64"), "accuracy": "float64"}  # of columns; the rest are text
Row = tuple[str | int | float | None, ...]


def class_frame(records: Iterable[Record]) -> pd.DataFrame:
    """Accuracy by class, in [0, 1]; missing where a class has no test image.

    Labels are counted from 0 within the classes that were tested. Names of classes are missing
    where the dataset's spec is not the one of the record.
    """
    return _frame(CLASS, (row for record in records for row in _class_rows(record)))


def confusion_frame(
    store: Store, records: Iterable[Record], root: Path | None, notes: list[str]
) -> pd.DataFrame:
    """How many test images of each class were taken for which; pairs that never occur are left out.

    A record whose predictions or whose dataset's labels are not at hand, or do not agree with its
    counts, has no rows; how many there are is added to `notes`. `root` is the folder of datasets.
    """
    images, rows, without = ImageResults(store, root), [], 0
    for record in records:
        found = confusions(record, images.labels_Q(record), images.predicted_Q(record))
        rows += found or []
        without += found is None
    if without:
        notes.append(
            f"{without} records have no confusions: their predictions or their dataset's labels "
            "are not here, or are others (--data-root names the folder of datasets)"
        )
    return _frame(CONFUSION, iter(rows))


def _frame(columns: tuple[str, ...], rows: Iterator[Row]) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame(list(rows), columns=[*NAMING, *columns])
    return frame.astype({name: KINDS.get(name, "string") for name in frame.columns})


def _naming(record: Record) -> Row:
    named = record.identity
    return (
        *(record.key, named.method, record.title, named.dataset, named.shots, named.seed),
        *(named.backbone, named.evaluation, named.classes, named.preset),
    )


def _class_rows(record: Record) -> Iterator[Row]:
    counts, naming = record.counts, _naming(record)
    names = class_names(record) or (None,) * len(counts.total)
    for label, (correct, total) in enumerate(zip(counts.correct, counts.total, strict=True)):
        share = correct / total if total else None
        yield (*naming, label, names[label], correct, total, share)


def confusions(
    record: Record, labels_Q: Array | None, predicted_Q: Array | None
) -> list[Row] | None:
    """(naming, true class and its name, predicted class and its name, images); None where labels or
    predictions are not at hand, or do not give the counts of the record.
    """
    import numpy as np

    counts = record.counts
    if labels_Q is None or predicted_Q is None or len(labels_Q) != len(predicted_Q):
        return None
    classes = len(counts.total)
    if not ((predicted_Q >= 0) & (predicted_Q < classes)).all():
        return None
    images_KK = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(images_KK, (labels_Q, predicted_Q), 1)
    if images_KK.diagonal().tolist() != counts.correct or images_KK.sum(1).tolist() != counts.total:
        return None
    names, naming = class_names(record) or (None,) * classes, _naming(record)
    return [
        (*naming, int(true), names[true], int(told), names[told], int(images_KK[true, told]))
        for true, told in zip(*images_KK.nonzero(), strict=True)
    ]
