"""What the page loads when somebody looks closer: the list of a setting's records, and all that is
kept of the records of one variant and dataset.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.records.record import Record
from benchmark.report import shell_commands
from benchmark.report.calibration import COVERAGES, Calibration, Calibrations
from benchmark.report.contamination import seen
from benchmark.report.grouping import GroupedRecords
from benchmark.report.image_results import ImageResults
from benchmark.report.page_numbers import Number, in_columns
from benchmark.report.page_script import packed
from benchmark.report.variants import EvaluationSetting, VariantRecords

WORST_CONFUSIONS = 12
MADE_WITH = ("suite", "commit", "dirty", "device", "support_digest")  # provenance that is shown


@dataclass(frozen=True)
class PageDetail:
    """One file of the page."""

    name: str
    content: dict[str, Any]


def record_lists(groups: GroupedRecords) -> Iterator[PageDetail]:
    """One per setting, named by its place in the index: every record in columns."""
    first = 0
    for place, (setting, variants) in enumerate(groups.items()):
        yield PageDetail(str(place), in_columns(_listed(setting, variants, first)))
        first += len(variants)


def _listed(
    setting: EvaluationSetting, variants: VariantRecords, first: int
) -> Iterator[dict[str, Number]]:
    for number, datasets in enumerate(variants.values(), first):
        for place, dataset in enumerate(setting.datasets):
            for record in datasets.get(dataset, ()):
                yield {
                    "variant": number,
                    "dataset": place,
                    "shots": record.identity.shots,
                    "seed": record.identity.seed,
                    "accuracy": round(record.accuracy, 5),
                    "key": record.key,
                }


def details(
    groups: GroupedRecords, images: ImageResults, found: Calibrations | None = None
) -> Iterator[PageDetail]:
    """One per variant and dataset, named by their places in the index."""
    found = found or Calibrations(images.store)
    number = 0
    for variants in groups.values():
        for datasets in variants.values():
            for dataset, records in datasets.items():
                yield PageDetail(f"{number}-{dataset}", _detail(records, images, found))
            number += 1


def _detail(records: Sequence[Record], images: ImageResults, found: Calibrations) -> dict[str, Any]:
    """The command is the first record's: those of the others differ in shots and seed alone."""
    return {
        "run": shell_commands.run_command(records[0].identity),
        "seen": seen(records[0].identity.backbone, records[0].identity.dataset),
        "totals": packed(records[0].counts.total),
        "costs": list(records[0].costs.model_dump()),
        "records": [_record(record, images, found) for record in records],
    }


def _record(record: Record, images: ImageResults, found: Calibrations) -> dict[str, Any]:
    optional = {
        "notes": record.notes,
        "made": {name: record.provenance[name] for name in MADE_WITH if name in record.provenance},
        "confusions": _confusions(record, images),
        "calibration": calibration_facts(found.of(record)),
    }
    return {
        "key": record.key,
        "shots": record.identity.shots,
        "seed": record.identity.seed,
        "correct": packed(record.counts.correct),
        "costs": [
            value if value is None else round(value, 3)
            for value in record.costs.model_dump().values()
        ],
    } | {name: value for name, value in optional.items() if value}


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


def _confusions(record: Record, images: ImageResults) -> list[list[int]] | None:
    """[true class, predicted class, images], the commonest first; None without predictions."""
    right_Q = images.right_Q(record)
    if right_Q is None:
        return None
    labels_Q, predicted_Q = images.labels_Q(record), images.predicted_Q(record)
    import numpy as np

    pairs, counts = np.unique(
        np.array([labels_Q, predicted_Q])[:, ~right_Q], axis=1, return_counts=True
    )
    order = np.argsort(-counts, kind="stable")[:WORST_CONFUSIONS]
    return [[int(pairs[0, at]), int(pairs[1, at]), int(counts[at])] for at in order]
