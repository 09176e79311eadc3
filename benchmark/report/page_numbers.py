"""The numbers of the page in columns, one list per kind of number: smaller than an object per
result, and quicker to read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from benchmark.records.record import Record
from benchmark.report.averages import MeanAccuracy
from benchmark.report.calibration import COVERAGES, Calibrations
from benchmark.report.significance import half_width

SHOWN = 0.8  # the coverage whose accuracy is shown
SECONDS = {
    "encode_s": ("encode_s",),
    "train_s": ("pretrain_s", "fit_s"),
    "predict_s": ("predict_s",),
}
Number = str | float | None
Columns = dict[str, list[Number]]


def in_columns(rows: Iterable[Mapping[str, Number]]) -> Columns:
    """One list per name, None where a row lacks it; columns without anything are left out."""
    kept = list(rows)
    names = dict.fromkeys(name for row in kept for name in row)
    columns = {name: [row.get(name) for row in kept] for name in names}
    return {name: values for name, values in columns.items() if set(values) != {None}}


def numbers(
    value: MeanAccuracy, records: Sequence[Record], found: Calibrations
) -> dict[str, Number]:
    """All that the page shows of one result, which is made of `records`."""
    return accuracy(value) | trust(records, found) | costs(records)


def accuracy(value: MeanAccuracy) -> dict[str, Number]:
    """Mean, sample deviation, half of the 95 % interval, and the number of seeds."""
    std, count = value.std, value.count
    half = half_width(std, count) if std is not None and count > 1 else None
    return {
        "mean": round(value.mean, 5),
        "std": _rounded(std),
        "half": _rounded(half),
        "seeds": count,
    }


def trust(records: Sequence[Record], found: Calibrations) -> dict[str, Number]:
    """Mean per-class accuracy, ECE and accuracy at SHOWN, means over records; the last two only
    where confidences of all of them are kept.
    """
    kept = [each for each in map(found.of, records) if each is not None]
    complete = len(kept) == len(records)
    at = COVERAGES.index(SHOWN)
    return {
        "per_class": _mean([record.class_accuracy for record in records]),
        "ece": _mean([each.ece for each in kept]) if complete else None,
        "covered": _mean([each.at_coverage[at] for each in kept]) if complete else None,
    }


def costs(records: Sequence[Record]) -> dict[str, Number]:
    """Seconds are means over records; memory and trained parameters the largest."""
    seconds: dict[str, Number] = {
        name: round(
            math.fsum(getattr(record.costs, part) for record in records for part in parts)
            / len(records),
            3,
        )
        for name, parts in SECONDS.items()
    }
    return seconds | {
        "peak_mb": round(max(record.costs.peak_mb for record in records)),
        "trainable": max(record.costs.trainable_params for record in records),
    }


def _mean(values: Sequence[float]) -> float:
    return round(math.fsum(values) / len(values), 5)


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 5)
