"""What the page knows, as plain JSON: an index of all numbers, and one file of details per method
and dataset.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmark import data
from benchmark.data.sampling import class_half
from benchmark.errors import UserError
from benchmark.protocols import ALL, BASE, NEW
from benchmark.records.record import Record
from benchmark.report import shell_commands, significance
from benchmark.report.averages import (
    Average,
    IncompleteMean,
    MeanAccuracy,
    accuracies_by_shots,
    mean_over_datasets,
    mean_over_seeds,
)
from benchmark.report.calibration import Calibrations
from benchmark.report.contamination import seen
from benchmark.report.grouping import GroupedRecords
from benchmark.report.headings import headings
from benchmark.report.image_results import ImageResults
from benchmark.report.marks import BEST, TIED, Mark
from benchmark.report.page_calibration import UNKNOWN, calibration_facts, trust
from benchmark.report.page_halves import harmonic_rows
from benchmark.report.ranking import column_marks
from benchmark.report.variants import EvaluationSetting, MethodVariant, VariantRecords

MARKS = (None, TIED, BEST)  # of a row: a number in the page
MEAN = ""  # stands for the mean over a suite where a dataset's name would stand
WORST_CONFUSIONS = 12
MADE_WITH = ("suite", "commit", "dirty", "device", "support_digest")  # provenance that is shown
FIRST_CHARACTER = 35  # a count is one character of text: compact, and readable by charCodeAt
LARGEST_CHARACTER = 50_000  # beyond 55,260 come characters that cannot stand alone


@dataclass(frozen=True)
class PageIndex:
    """What the page loads at once. `rows` are [variant, dataset, shots, value, costs, mark, trust];
    see `_row`.
    """

    classes: dict[str, list[str]] = field(default_factory=dict)  # of every dataset, in label order
    settings: list[dict[str, Any]] = field(default_factory=list)
    variants: list[dict[str, Any]] = field(default_factory=list)
    rows: list[list[Any]] = field(default_factory=list)


@dataclass(frozen=True)
class PageDetail:
    """All records of one variant and dataset, loaded when somebody looks at one of them."""

    name: str
    content: dict[str, Any]


def index(groups: GroupedRecords, images: ImageResults) -> PageIndex:
    """Settings, variants and numbers, in the order of the tables."""
    content = PageIndex()
    for setting, variants in groups.items():
        content.settings.append(_setting(setting))
        heading_of = headings(variants)
        first = len(content.variants)
        content.variants.extend(
            _variant(len(content.settings) - 1, variant, heading_of[variant])
            for variant in variants
        )
        content.rows.extend(_rows(setting, variants, first, images))
        part = "" if setting.classes == ALL else f"/{setting.classes}"
        content.classes.update(
            (name + part, class_names(records[0]))
            for datasets in variants.values()
            for name, records in datasets.items()
        )
    _add_harmonic(content, groups)
    return content


def _add_harmonic(content: PageIndex, groups: GroupedRecords) -> None:
    """H of base and new as settings of their own, behind those of records; a variant's `parts` are
    the places of the two it is made of.
    """
    places = {
        each: at
        for at, each in enumerate(
            (setting, variant) for setting, variants in groups.items() for variant in variants
        )
    }
    for made in harmonic_rows(groups, MEAN):
        label = f"{made.half(BASE)}".removesuffix(f"{BASE} classes") + "H of base and new"
        content.settings.append({**_setting(made.setting), "label": label, "classes": "H"})
        heading_of = headings(made.rows)
        for variant, rows in made.rows.items():
            described = _variant(len(content.settings) - 1, variant, heading_of[variant])
            parts = [places[made.half(part), variant] for part in (BASE, NEW)]
            content.variants.append({**described, "parts": parts})
            for dataset, shots, value in rows:
                records = [
                    record
                    for name, found in made.base[variant].items()
                    for record in found
                    if dataset in (name, MEAN) and record.identity.shots == shots
                ]
                content.rows.append(
                    _row(len(content.variants) - 1, dataset, shots, value, records, None)
                )


def _setting(setting: EvaluationSetting) -> dict[str, Any]:
    return {
        **vars(setting),
        "label": str(setting),
        "members": list(setting.members),
        "datasets": list(setting.datasets),
    }


def _variant(setting: int, variant: MethodVariant, heading: str) -> dict[str, Any]:
    policy = {"none": "no validation images", "up-to-4": "min(shots, 4) validation images"}.get(
        variant.val, variant.val
    )
    sampling = [] if variant.sampler == "coop" else [f"{variant.sampler} sampling"]
    protocol = (
        [policy, *sampling, str(variant.exposure)]
        if variant.sampler != "none"
        else ["no support set"]
    )
    texts = f"texts {variant.texts} ({variant.texts_digest[:6]})" if variant.texts else ""
    protocol = [part for part in [*protocol, texts] if part]
    return {
        "setting": setting,
        "method": variant.method,
        "heading": heading,
        "version": variant.version,
        "params": dict(variant.params),
        "protocol": "; ".join(filter(None, [*protocol, variant.bar])),
        "ranked": variant.ranked,
    }


def _rows(
    setting: EvaluationSetting, variants: VariantRecords, first: int, images: ImageResults
) -> Iterator[list[Any]]:
    found = Calibrations(images.store)
    whole, tested = setting.members, setting.datasets
    shots_seen = sorted(
        {
            record.identity.shots
            for datasets in variants.values()
            for records in datasets.values()
            for record in records
        }
    )
    columns = [(shots, dataset) for shots in shots_seen for dataset in (*tested, MEAN)]
    marks = column_marks(
        variants, [(shots, [name] if name else whole) for shots, name in columns], images
    )
    mark_of = dict(zip(columns, marks, strict=True))
    for number, (variant, datasets) in enumerate(variants.items(), first):
        numbers = {dataset: accuracies_by_shots(datasets.get(dataset, ())) for dataset in tested}
        for shots in sorted({shots for by_shots in numbers.values() for shots in by_shots}):
            for dataset in tested:
                if by_seed := numbers[dataset].get(shots):
                    records = [
                        record for record in datasets[dataset] if record.identity.shots == shots
                    ]
                    yield _row(
                        number,
                        dataset,
                        shots,
                        mean_over_seeds(by_seed),
                        records,
                        mark_of[shots, dataset].get(variant),
                        found,
                    )
            if len(whole) > 1:
                value = mean_over_datasets([numbers[dataset].get(shots) for dataset in whole])
                records = [
                    record
                    for dataset in whole
                    for record in datasets.get(dataset, ())
                    if record.identity.shots == shots
                ]
                mark = mark_of[shots, MEAN].get(variant)
                known = found if isinstance(value, MeanAccuracy) else None
                if records:
                    yield _row(number, MEAN, shots, value, records, mark, known)


def _row(
    variant: int,
    dataset: str,
    shots: int,
    value: Average,
    records: Sequence[Record],
    mark: Mark | None,
    found: Calibrations | None = None,
) -> list[Any]:
    """[variant, dataset, shots, [mean, std, half interval, seeds] or [have, want], [encode_s, ...,
    peak_mb, trainable], place in MARKS, trust (page_calibration.py)].
    """
    seconds = [
        sum(getattr(record.costs, name) for record in records) / len(records)
        for name in ("encode_s", "pretrain_s", "fit_s", "predict_s")
    ]
    peak, trainable = (
        max(record.costs.peak_mb for record in records),
        max(record.costs.trainable_params for record in records),
    )
    return [
        variant,
        dataset,
        shots,
        _value(value),
        [*(round(second, 3) for second in seconds), round(peak), trainable],
        MARKS.index(mark),
        trust(records, found) if found else UNKNOWN,
    ]


def _value(value: Average) -> list[Any]:
    if isinstance(value, IncompleteMean):
        return [value.have, value.want]
    assert isinstance(value, MeanAccuracy), "rows are made of records"
    width = (
        significance.half_width(value.std, value.count)
        if value.std is not None and value.count > 1
        else None
    )
    return [round(value.mean, 5), _rounded(value.std), _rounded(width), list(value.seeds)]


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 5)


def details(groups: GroupedRecords, images: ImageResults) -> Iterator[PageDetail]:
    """One per variant and dataset, named by their places in the index."""
    number = 0
    for variants in groups.values():
        for datasets in variants.values():
            for dataset, records in datasets.items():
                yield PageDetail(f"{number}-{dataset}", _detail(records, images))
            number += 1


def _detail(records: Sequence[Record], images: ImageResults) -> dict[str, Any]:
    """The command is the first record's: those of the others differ in shots and seed alone."""
    return {
        "run": shell_commands.run_command(records[0].identity),
        "seen": seen(records[0].identity.backbone, records[0].identity.dataset),
        "totals": _packed(records[0].counts.total),
        "costs": list(records[0].costs.model_dump()),
        "records": [_record(record, images) for record in records],
    }


def _record(record: Record, images: ImageResults) -> dict[str, Any]:
    optional = {
        "notes": record.notes,
        "made": {name: record.provenance[name] for name in MADE_WITH if name in record.provenance},
        "confusions": _confusions(record, images),
        "calibration": calibration_facts(Calibrations(images.store).of(record)),
    }
    return {
        "key": record.key,
        "shots": record.identity.shots,
        "seed": record.identity.seed,
        "correct": _packed(record.counts.correct),
        "costs": [
            value if value is None else round(value, 3)
            for value in record.costs.model_dump().values()
        ],
    } | {name: value for name, value in optional.items() if value}


def _packed(counts: Sequence[int]) -> str | list[int]:
    """Text; numbers where one is too large for a character of its own."""
    if max(counts, default=0) > LARGEST_CHARACTER:
        return list(counts)
    return "".join(chr(FIRST_CHARACTER + count) for count in counts)


def class_names(record: Record) -> list[str]:
    """The names of a record's classes, or numbers where the dataset is unknown here or has changed
    since.
    """
    try:
        spec = data.read_spec(record.identity.dataset)
    except UserError:
        spec = None
    count = len(record.counts.total)
    names = _half_of(spec.class_names, record.identity.classes) if spec else []
    same = (
        spec is not None and len(names) == count and spec.digest == record.identity.dataset_digest
    )
    return names if same else [f"class {number}" for number in range(count)]


def _half_of(names: Sequence[str], which: str) -> list[str]:
    if which == ALL:
        return list(names)
    return [names[label] for label in class_half(len(names), which)]


def _confusions(record: Record, images: ImageResults) -> list[list[int]] | None:
    """[true class, predicted class, images], the commonest first; None without predictions."""
    right_Q = images.right_Q(record)
    if right_Q is None:
        return None
    labels_Q, predicted_Q = images.labels_Q(record.identity.dataset), images.predicted_Q(record)
    import numpy as np

    pairs, counts = np.unique(
        np.array([labels_Q, predicted_Q])[:, ~right_Q], axis=1, return_counts=True
    )
    order = np.argsort(-counts, kind="stable")[:WORST_CONFUSIONS]
    return [[int(pairs[0, at]), int(pairs[1, at]), int(counts[at])] for at in order]


def script(function: str, *values: Any) -> str:
    """A JavaScript file that hands data to the page; unlike JSON it can be loaded from disk. No
    '</' can end the script early.
    """
    words = ",".join(
        json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
        for value in values
    )
    return f"{function}({words});\n"
