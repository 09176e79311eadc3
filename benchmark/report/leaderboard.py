"""The leaderboard: one CSV row per method x dataset x shots x backbone x protocol.

Its columns are described in results/LEADERBOARD.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from benchmark.records.record import Record
from benchmark.report.averages import seed_of
from benchmark.report.calibration import Calibration, Calibrations
from benchmark.report.contamination import seen
from benchmark.report.grouping import GroupedRecords
from benchmark.report.significance import half_width
from benchmark.report.variants import EvaluationSetting, MethodVariant

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
CALIBRATION = ("ece", "ece_mass", "accuracy_at_50", "accuracy_at_80", "accuracy_at_90", "aurc")
COLUMNS = (
    "schema", "suite", "dataset", "shots", "method", "title", "adapter_version", "params",
    "backbone", "weights_digest", "backbone_saw", "precision", "classes", "sampler", "val",
    "preset", "selection", "sources",
    "source_shots", "target_in_sources", "ranked", "mean", "std", "interval95",
    "class_mean", "class_std", *CALIBRATION, "seeds", "n_seeds",
    "n_test", "encode_s", "pretrain_s", "fit_s", "predict_s", "peak_mb", "trainable_params",
    "added_macs", "images_per_s", "dataset_digest", "transform", "protocol", "suite_version",
    "keys", "evaluation", "learned_on", "learned_classes", "texts",
    "transductive",
)  # fmt: skip
SECONDS = ("encode_s", "pretrain_s", "fit_s", "predict_s")
COSTS = (*SECONDS, "peak_mb", "trainable_params", "added_macs", "images_per_s")
DECIMALS = {
    "mean": 6, "std": 6, "interval95": 6, "class_mean": 6, "class_std": 6,
    "encode_s": 3, "pretrain_s": 3, "fit_s": 3, "predict_s": 3, "peak_mb": 1,
    "added_macs": 0, "images_per_s": 1, **dict.fromkeys(CALIBRATION, 6),
}  # fmt: skip


class Result(NamedTuple):
    """The records behind one row: they differ in their seeds alone."""

    setting: EvaluationSetting
    variant: MethodVariant
    dataset: str
    records: list[Record]


def with_decimals(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame of `leaderboard_frame` as its CSV shows numbers: as texts of fixed decimals."""
    texts = {
        column: [_fixed(value, decimals) for value in frame[column].astype("Float64")]
        for column, decimals in DECIMALS.items()
    }
    return frame.assign(**texts)


def leaderboard_frame(groups: GroupedRecords, found: Calibrations | None = None) -> pd.DataFrame:
    """The rows in the order of the tables, numbers unrounded; missing where there is none."""
    import pandas as pd

    results = list(_results(groups))
    described = pd.DataFrame([_description(result) for result in results])
    return described.join(_numbers(results, found))[list(COLUMNS)]


def _results(groups: GroupedRecords) -> Iterator[Result]:
    for setting, variants in groups.items():
        for variant, datasets in variants.items():
            for dataset, records in sorted(datasets.items()):
                # grouped records are sorted by shots and seed
                for _, same_shots in groupby(records, key=lambda record: record.identity.shots):
                    yield Result(setting, variant, dataset, list(same_shots))


def _numbers(results: list[Result], found: Calibrations | None) -> pd.DataFrame:
    """Accuracies, calibration and costs of each result over its seeds."""
    seeds = _accuracies_and_costs(results, found).groupby("row")
    accuracy = seeds["accuracy"]
    numbers = seeds[list(SECONDS)].mean().join(seeds[["peak_mb", "trainable_params"]].max())
    numbers["mean"] = accuracy.mean()
    numbers["std"] = accuracy.std()
    numbers["class_mean"] = seeds["class_accuracy"].mean()
    numbers["class_std"] = seeds["class_accuracy"].std()
    numbers["n_seeds"] = accuracy.size()
    halves = zip(numbers["std"], numbers["n_seeds"], strict=True)
    numbers["interval95"] = [half_width(std, count) if count > 1 else None for std, count in halves]
    for name in ("added_macs", "images_per_s", *CALIBRATION):
        complete = seeds[name].count() == numbers["n_seeds"]
        numbers[name] = seeds[name].mean().where(complete)
    numbers["trainable_params"] = numbers["trainable_params"].astype("int64")
    numbers["n_test"] = seeds["total"].first()
    return numbers


def _accuracies_and_costs(results: list[Result], found: Calibrations | None) -> pd.DataFrame:
    """One line per record, with the number of the row it belongs to."""
    import pandas as pd

    numbered = [(row, record) for row, result in enumerate(results) for record in result.records]
    records = [record for _, record in numbered]
    columns: dict[str, list[float | None]] = {
        name: [getattr(record.costs, name) for record in records] for name in COSTS
    }
    calibrated = [_calibration(found.of(record) if found else None) for record in records]
    columns |= {name: [each[at] for each in calibrated] for at, name in enumerate(CALIBRATION)}
    return pd.DataFrame(columns, dtype="float64").assign(
        row=[row for row, _ in numbered],
        accuracy=[record.accuracy for record in records],
        class_accuracy=[record.class_accuracy for record in records],
        total=[record.tested for record in records],
    )


def _calibration(kept: Calibration | None) -> tuple[float | None, ...]:
    """In the order of CALIBRATION."""
    if kept is None:
        return (None,) * len(CALIBRATION)
    return kept.ece, kept.ece_mass, *kept.at_coverage, kept.aurc


def _description(result: Result) -> dict[str, object]:
    """What a row is about, in words and names."""
    setting, variant, records = result.setting, result.variant, result.records
    named = records[0].identity
    seeds = [seed_of(record) for record in records]
    versions = {str(record.provenance.get("suite") or "") for record in records}
    return {
        "schema": SCHEMA,
        "suite": setting.suite,
        "dataset": result.dataset,
        "shots": named.shots,
        "method": variant.method,
        "title": variant.title,
        "adapter_version": variant.version,
        "params": json.dumps(named.params, sort_keys=True),
        "backbone": setting.backbone,
        "weights_digest": setting.weights_digest,
        "backbone_saw": seen(setting.backbone, result.dataset),
        "precision": setting.precision,
        "classes": setting.classes,
        "sampler": variant.sampler,
        "val": named.val if variant.preset else variant.val,
        "preset": variant.preset,
        "selection": named.selection,
        "sources": " ".join(sorted(named.sources)),
        "source_shots": "full" if named.source_shots == -1 else str(named.source_shots),
        "target_in_sources": _yes_or_no(variant.exposure.target),
        "ranked": _yes_or_no(variant.ranked),
        "seeds": " ".join(str(seed) for seed in seeds if seed is not None),
        "dataset_digest": named.dataset_digest,
        "transform": setting.transform,
        "protocol": setting.protocol,
        "suite_version": " ".join(sorted(versions)),
        "keys": " ".join(record.key for record in records),
        "evaluation": setting.evaluation,
        "learned_on": setting.learned_on or result.dataset,
        "learned_classes": named.learned_classes or setting.classes,
        "transductive": _yes_or_no(variant.transductive),
        "texts": f"{named.texts}@{named.texts_digest[:12]}" if named.texts else "hand",
    }


def _fixed(value: object, decimals: int) -> str:
    """A number with so many decimals; empty where it is missing."""
    return f"{value:.{decimals}f}" if isinstance(value, float) else ""


def _yes_or_no(truth: bool) -> str:
    return "yes" if truth else "no"
