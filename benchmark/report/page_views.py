"""Views of the page: for one setting, number of shots and protocol a matrix, method x dataset.

A mean is over the datasets that the records of the ranked rows of a view hold, be they two of
eleven; of one dataset there is none, as in tables. A row that lacks some of those says how many it
has; the page ranks it with no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.records.record import Record
from benchmark.report.averages import Average, MeanAccuracy, accuracies_by_shots, mean_over_datasets
from benchmark.report.calibration import Calibrations
from benchmark.report.coverage import Coverage
from benchmark.report.image_results import ImageResults
from benchmark.report.marks import BEST, TIED
from benchmark.report.page_numbers import Columns, Number, in_columns, numbers
from benchmark.report.ranking import column_marks
from benchmark.report.variants import EvaluationSetting, MethodVariant, VariantRecords

UNTRAINED = "no support set"
VALIDATION = {
    "none": "no validation images",
    "up-to-4": "min(shots, 4) validation images",
}
Score = Callable[[MethodVariant, Sequence[str], int], Average]


@dataclass(frozen=True)
class Results:
    """All results of one setting; `score` gives a variant's mean over datasets at some shots."""

    setting: EvaluationSetting
    variants: VariantRecords
    score: Score
    ranking: bool = True  # whether the best is marked

    def records(self, variant: MethodVariant, dataset: str, shots: int) -> list[Record]:
        return [
            record
            for record in self.variants[variant].get(dataset, ())
            if record.identity.shots == shots
        ]


def mean_score(variants: VariantRecords) -> Score:
    """Means over seeds and datasets, as in every table."""
    by_shots = {
        variant: {name: accuracies_by_shots(records) for name, records in datasets.items()}
        for variant, datasets in variants.items()
    }

    def score(variant: MethodVariant, datasets: Sequence[str], shots: int) -> Average:
        return mean_over_datasets([by_shots[variant].get(name, {}).get(shots) for name in datasets])

    return score


def cells(results: Results, first: int, found: Calibrations) -> Columns:
    """The results on single datasets; variants are numbered from `first` on, datasets as in the
    setting.
    """
    return in_columns(_cells(results, first, found))


def _cells(results: Results, first: int, found: Calibrations) -> Iterator[dict[str, Number]]:
    for number, variant in enumerate(results.variants, first):
        for place, dataset in enumerate(results.setting.datasets):
            records = results.variants[variant].get(dataset, ())
            for shots in sorted({record.identity.shots for record in records}):
                value = results.score(variant, [dataset], shots)
                if isinstance(value, MeanAccuracy):
                    at_shots = results.records(variant, dataset, shots)
                    named: dict[str, Number] = {"variant": number, "dataset": place, "shots": shots}
                    yield named | numbers(value, at_shots, found)


@dataclass(frozen=True)
class View:
    """The rows of one number of shots and one protocol, each with the shots of its records."""

    results: Results
    shots: int
    protocol: str
    rows: Mapping[MethodVariant, int]

    @property
    def shown(self) -> list[str]:
        """The datasets that any row holds."""
        return [name for name in self.results.setting.datasets if self._held(name, self.rows)]

    @property
    def averaged(self) -> list[str]:
        """The datasets of the mean, if there is one; rows that are not ranked do not add any."""
        ranked = [row for row in self.rows if row.ranked] or list(self.rows)
        members = self.results.setting.members
        held = Coverage(tuple(each for each in members if self._held(each, ranked)), len(members))
        return list(held.datasets) if held.several else []

    def _held(
        self, dataset: str, rows: Sequence[MethodVariant] | Mapping[MethodVariant, int]
    ) -> bool:
        return any(self.held(row, dataset) for row in rows)

    def held(self, row: MethodVariant, dataset: str) -> list[Record]:
        return self.results.records(row, dataset, self.rows[row])

    def described(self, first: int, images: ImageResults, found: Calibrations) -> dict[str, Any]:
        """What the page is told; rows and columns of marks are places, -1 is the mean."""
        averaged, shown = self.averaged, self.shown
        marks = self._marks(shown, averaged, images) if self.results.ranking else []
        place = {variant: at for at, variant in enumerate(self.rows)}
        columns = [*range(len(shown)), -1]
        led: dict[str, list[list[int]]] = {
            mark: [
                [place[variant], column]
                for column, own in zip(columns, marks, strict=bool(marks))
                for variant, has in own.items()
                if has == mark
            ]
            for mark in (BEST, TIED)
        }
        return {
            "shots": self.shots,
            "protocol": self.protocol,
            "datasets": shown,
            "averaged": averaged,
            "rows": in_columns(self._rows(first, averaged, found)),
            **led,
        }

    def _rows(
        self, first: int, averaged: Sequence[str], found: Calibrations
    ) -> Iterator[dict[str, Number]]:
        """The mean of every row over those of the datasets that it has."""
        number = {variant: at for at, variant in enumerate(self.results.variants, first)}
        for variant, shots in self.rows.items():
            own = [name for name in averaged if self.held(variant, name)]
            named: dict[str, Number] = {
                "variant": number[variant],
                "shots": shots,
                "have": len(own),
            }
            value = self.results.score(variant, own, shots) if own else None
            if isinstance(value, MeanAccuracy):
                records = [record for name in own for record in self.held(variant, name)]
                yield named | numbers(value, records, found)
            else:
                yield named

    def _marks(
        self, shown: Sequence[str], averaged: Sequence[str], images: ImageResults
    ) -> list[dict[MethodVariant, Any]]:
        compared = {
            row: {name: self.held(row, name) for name in shown} for row in self.rows if row.ranked
        }
        columns = [*((self.shots, [name]) for name in shown), (self.shots, averaged)]
        return column_marks(compared, columns, images)


def views(results: Results) -> Iterator[View]:
    """One per number of shots and protocol. Methods without a support set stand in all of them that
    have their texts; rows that are not ranked in all.
    """
    shots_of = {
        variant: {record.identity.shots for records in datasets.values() for record in records}
        for variant, datasets in results.variants.items()
    }
    trained = sorted({shots for each in shots_of.values() for shots in each if shots})
    for shots in trained or [0]:
        present = {
            variant: shots if shots in seen else 0
            for variant, seen in shots_of.items()
            if seen & {shots, 0}
        }
        ranked = [variant for variant in present if variant.ranked]
        for representative in _protocols(ranked) or list(present)[:1]:
            rows = {
                variant: own
                for variant, own in present.items()
                if not variant.ranked or _together(variant, representative)
            }
            yield View(results, shots, protocol_text(representative), rows)


def _protocols(ranked: Sequence[MethodVariant]) -> list[MethodVariant]:
    """A row of every protocol; one without a support set only where no other has its texts."""
    trained = {row.protocol: row for row in ranked if row.sampler != "none"}
    worded = {row.worded for row in trained.values()}
    others = {row.worded: row for row in ranked if row.worded not in worded}
    return [*trained.values(), *others.values()]


def _together(row: MethodVariant, other: MethodVariant) -> bool:
    """Whether a ranked row stands in the view of another."""
    return row.protocol == other.protocol or (row.sampler == "none" and row.worded == other.worded)


def protocol_text(variant: MethodVariant) -> str:
    """What `MethodVariant.protocol` holds, in words: equal where rows are ranked together."""
    val, sampler, preset, texts, digest, transductive, exposure = variant.protocol
    drawn = [
        VALIDATION.get(val, f"validation images {val}"),
        "" if sampler == "coop" else f"{sampler} sampling",
        f"as {preset}" if preset else "",
        "transductive" if transductive else "",
        str(exposure) if exposure else "",
    ]
    worded = f"texts {texts} ({digest[:6]})" if texts else ""
    return "; ".join(filter(None, [*([UNTRAINED] if sampler == "none" else drawn), worded]))
