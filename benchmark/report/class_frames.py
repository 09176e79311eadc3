"""Results class by class as pandas frames: accuracies from records, confusions from the predictions
beside them.

Both are long: a row per record and class, or per record, true and predicted class. The leading
columns name the record; its other fields are joined by `key` from `load_results`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from benchmark.records.record import Record
from benchmark.report.image_results import ImageResults

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


def class_frame(images: ImageResults, records: Iterable[Record]) -> pd.DataFrame:
    """Accuracy by class, in [0, 1]; missing where a class has no test image.

    Labels are counted from 0 within the classes that were tested. Names of classes are missing
    where the dataset's spec is not the one of the record and the store keeps none.
    """
    return _frame(CLASS, (row for record in records for row in _class_rows(record, images)))


def confusion_frame(
    images: ImageResults, records: Iterable[Record], notes: list[str]
) -> pd.DataFrame:
    """How many test images of each class were taken for which; pairs that never occur are left out.

    A record whose predictions or whose dataset's labels are not at hand, or do not agree with its
    counts, has no rows; how many there are is added to `notes`.
    """
    rows: list[Row] = []
    without = 0
    for record in records:
        found = confusions(record, images)
        rows += found or []
        without += found is None
    if without:
        notes.append(
            f"{without} records have no confusions: their predictions or their dataset's labels "
            "are not here, or are others (--data-root names the folder of datasets, --dataset the "
            "TOML of one of your own)"
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


def _class_rows(record: Record, images: ImageResults) -> Iterator[Row]:
    counts, naming = record.counts, _naming(record)
    names = images.class_names(record) or (None,) * len(counts.total)
    for label, (correct, total) in enumerate(zip(counts.correct, counts.total, strict=True)):
        share = correct / total if total else None
        yield (*naming, label, names[label], correct, total, share)


def confusions(record: Record, images: ImageResults) -> list[Row] | None:
    """(naming, true class and its name, predicted class and its name, images); None where labels or
    predictions are not at hand, or do not give the counts of the record.
    """
    import numpy as np

    labels_Q, predicted_Q = images.labels_Q(record), images.predicted_Q(record)
    classes = images.classes(record)
    if labels_Q is None or predicted_Q is None or classes is None:
        return None
    if not _are_counted(record, labels_Q, predicted_Q, classes):
        return None
    pairs_P, images_P = np.unique(labels_Q * classes + predicted_Q, return_counts=True)
    label_P, told_P = np.divmod(pairs_P, classes)
    names, naming = images.class_names(record) or (None,) * classes, _naming(record)
    return [
        (*naming, label, names[label], told, names[told], count)
        for label, told, count in np.stack([label_P, told_P, images_P], axis=1).tolist()
    ]


def _are_counted(record: Record, labels_Q: Array, predicted_Q: Array, classes: int) -> bool:
    """Whether these predictions of these images give the counts of a record, which may be a
    stranger's: nothing is as large as it says before that is known.
    """
    import numpy as np

    if len(record.counts.total) != classes or len(labels_Q) != len(predicted_Q):
        return False
    right_K = np.bincount(labels_Q[labels_Q == predicted_Q], minlength=classes)
    total_K = np.bincount(labels_Q, minlength=classes)
    counted = (right_K.tolist(), total_K.tolist()) == (record.counts.correct, record.counts.total)
    return counted and bool(((predicted_Q >= 0) & (predicted_Q < classes)).all())
