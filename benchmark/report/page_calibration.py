"""What the page says of mean per-class accuracy and of calibration."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmark.records.record import Record
from benchmark.report.calibration import COVERAGES, Calibration, Calibrations

SHOWN = 0.8  # the coverage that stands in a column
UNKNOWN = [None, None, None]  # of a harmonic mean, and of an incomplete mean


def trust(records: Sequence[Record], found: Calibrations) -> list[float | None]:
    """[mean per-class accuracy, ECE, accuracy at SHOWN], means over records; without
    confidences of all of them nothing but the first.
    """
    accuracy = math.fsum(record.class_accuracy for record in records) / len(records)
    kept = [each for each in map(found.of, records) if each is not None]
    if len(kept) < len(records):
        return [round(accuracy, 5), None, None]
    at = COVERAGES.index(SHOWN)
    error, covered = (
        math.fsum(numbers) / len(kept)
        for numbers in ([each.ece for each in kept], [each.at_coverage[at] for each in kept])
    )
    return [round(accuracy, 5), round(error, 5), round(covered, 5)]


def calibration_facts(kept: Calibration | None) -> dict[str, str]:
    """In words and %, for the list of a record's facts."""
    if kept is None:
        return {}
    pairs = zip(COVERAGES, kept.at_coverage, strict=True)
    return {
        "calibration error": f"{100 * kept.ece:.1f} % ({100 * kept.ece_mass:.1f} % in equal bins)",
        "accuracy at coverage": ", ".join(f"{100 * a:.1f} % at {100 * c:.0f} %" for c, a in pairs),
        "area under risk and coverage": f"{100 * kept.aurc:.1f} %",
    }
