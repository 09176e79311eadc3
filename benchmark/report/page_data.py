"""What the page knows from the start, as plain JSON: settings, rows, and all numbers of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from benchmark.protocols import ALL, BASE, NEW
from benchmark.records.record import Record
from benchmark.report.calibration import Calibrations
from benchmark.report.grouping import GroupedRecords
from benchmark.report.headings import headings
from benchmark.report.image_results import ImageResults
from benchmark.report.page_halves import halves_results
from benchmark.report.page_names import short_names
from benchmark.report.page_views import Results, cells, mean_score, protocol_text, views
from benchmark.report.variants import EvaluationSetting


@dataclass(frozen=True)
class PageIndex:
    """What the page loads at once. `settings` hold the columns of their numbers, see page_views.py;
    the place of a variant in `variants` is its number everywhere.
    """

    classes: dict[str, list[str]] = field(default_factory=dict)  # of every dataset, in label order
    settings: list[dict[str, Any]] = field(default_factory=list)
    variants: list[dict[str, Any]] = field(default_factory=list)

    def add(
        self,
        setting: Mapping[str, Any],
        results: Results,
        images: ImageResults,
        found: Calibrations,
    ) -> None:
        """Add a setting with its variants and numbers."""
        first = len(self.variants)
        shown = [view.described(first, images, found) for view in views(results)]
        self.settings.append({**setting, "cells": cells(results, first, found), "views": shown})
        self.variants.extend(_variants(results))


def index(
    groups: GroupedRecords, images: ImageResults, found: Calibrations | None = None
) -> PageIndex:
    """Settings, variants and numbers, in the order of the tables; H of base and new behind those of
    records.
    """
    found = found or Calibrations(images.store)
    content = PageIndex()
    for setting, variants in groups.items():
        results = Results(setting, variants, mean_score(variants))
        content.add(_setting(setting, setting.task), results, images, found)
        content.classes.update(_classes(setting, results, images))
    rows = [(setting, variant) for setting, variants in groups.items() for variant in variants]
    place = {row: number for number, row in enumerate(rows)}
    for base, results in halves_results(groups):
        first = len(content.variants)
        task = base.task.removesuffix(f"{BASE} classes") + "H of base and new"
        content.add(_setting(base, task) | {"classes": "H"}, results, images, found)
        for part in (BASE, NEW):
            half = replace(base, classes=part)
            for variant, described in zip(results.variants, content.variants[first:], strict=True):
                described.setdefault("parts", []).append(place[half, variant])
    return content


def _setting(setting: EvaluationSetting, task: str) -> dict[str, Any]:
    """What a reader chooses it by, and what its numbers are about."""
    return {
        "task": task or setting.evaluation,
        "suite": setting.suite,
        "backbone": setting.backbone,
        "precision": setting.precision,
        "pipeline": f"weights {setting.weights_digest[:8]}, images {setting.transform}, "
        f"version {setting.protocol}",
        "classes": setting.classes,
        "members": list(setting.members),
        "datasets": list(setting.datasets),
    }


def _variants(results: Results) -> list[dict[str, Any]]:
    names, heading_of = short_names(results.variants), headings(results.variants)
    return [
        {
            "method": variant.method,
            "name": names[variant],
            "heading": heading_of[variant],
            "version": variant.version,
            "params": dict(variant.params),
            "protocol": protocol_text(variant),
            "prior": str(variant.exposure),
            "bar": variant.bar,  # why it is not ranked
        }
        for variant in results.variants
    ]


def _classes(
    setting: EvaluationSetting, results: Results, images: ImageResults
) -> dict[str, list[str]]:
    part = "" if setting.classes == ALL else f"/{setting.classes}"
    return {
        name + part: _names(records[0], images)
        for datasets in results.variants.values()
        for name, records in datasets.items()
    }


def _names(record: Record, images: ImageResults) -> list[str]:
    """Numbers where the names of the classes are not known here."""
    known = images.class_names(record)
    return list(known) or [f"class {label}" for label in range(len(record.counts.total))]
