"""The leaderboard: one CSV row per method x dataset x shots x backbone x protocol. Columns:
results/LEADERBOARD.md.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from statistics import fmean

from benchmark.records.record import Record
from benchmark.report.averages import mean_over_seeds, seed_of
from benchmark.report.grouping import EvaluationSetting, GroupedRecords, MethodVariant, title
from benchmark.report.significance import half_width

SCHEMA = 1
COLUMNS = (
    *(
        "schema",
        "suite",
        "dataset",
        "shots",
        "method",
        "title",
        "adapter_version",
        "params",
        "backbone",
        "weights_digest",
    ),
    *("classes", "sampler", "val", "sources", "source_shots", "target_in_sources", "ranked"),
    *("mean", "std", "interval95", "seeds", "n_seeds", "n_test"),
    *(
        "encode_s",
        "pretrain_s",
        "fit_s",
        "predict_s",
        "peak_mb",
        "trainable_params",
        "added_macs",
        "images_per_s",
    ),
    *("dataset_digest", "transform", "protocol", "suite_version", "keys"),
)


def leaderboard_csv(groups: GroupedRecords) -> str:
    """CSV text. Accuracies are fractions; costs are means over the row's seeds."""
    text = io.StringIO()
    write = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    write.writeheader()
    write.writerows(leaderboard_rows(groups))
    return text.getvalue()


def leaderboard_rows(groups: GroupedRecords) -> Iterator[dict[str, object]]:
    """The rows as dictionaries, in the order of the tables."""
    for setting, variants in groups.items():
        for variant, datasets in variants.items():
            for dataset, records in sorted(datasets.items()):
                for shots in sorted({record.identity.shots for record in records}):
                    yield _row(
                        setting,
                        variant,
                        dataset,
                        [record for record in records if record.identity.shots == shots],
                    )


def _row(
    setting: EvaluationSetting, variant: MethodVariant, dataset: str, records: Sequence[Record]
) -> dict[str, object]:
    named = records[0].identity
    result = mean_over_seeds({seed_of(record): record.accuracy for record in records})
    return {
        "schema": SCHEMA,
        "suite": setting.suite,
        "dataset": dataset,
        "shots": named.shots,
        "method": variant.method,
        "title": title(variant.method),
        "adapter_version": variant.version,
        "params": json.dumps(dict(variant.params), sort_keys=True),
        "backbone": setting.backbone,
        "weights_digest": setting.weights_digest,
        "classes": setting.classes,
        "sampler": variant.sampler,
        "val": variant.val,
        "sources": " ".join(sorted(named.sources)),
        "source_shots": "full" if named.source_shots == -1 else named.source_shots,
        "target_in_sources": _yes(variant.exposure.target),
        "ranked": _yes(variant.exposure.ranked),
        "mean": f"{result.mean:.6f}",
        "std": "" if result.std is None else f"{result.std:.6f}",
        "interval95": f"{half_width(result.std, result.count):.6f}"
        if result.std is not None
        else "",
        "seeds": " ".join(str(seed) for seed in result.seeds if seed is not None),
        "n_seeds": result.count,
        "n_test": sum(records[0].counts.total),
        **_costs(records),
        "dataset_digest": named.dataset_digest,
        "transform": setting.transform,
        "protocol": setting.protocol,
        "suite_version": " ".join(
            sorted({str(record.provenance.get("suite") or "") for record in records})
        ),
        "keys": " ".join(record.key for record in records),
    }


def _costs(records: Sequence[Record]) -> dict[str, object]:
    seconds = ("encode_s", "pretrain_s", "fit_s", "predict_s")
    means: dict[str, object] = {
        name: f"{fmean(getattr(record.costs, name) for record in records):.3f}" for name in seconds
    }
    return means | {
        "peak_mb": f"{max(record.costs.peak_mb for record in records):.1f}",
        "trainable_params": max(record.costs.trainable_params for record in records),
        "added_macs": _mean_of(records, "added_macs", "{:.0f}"),
        "images_per_s": _mean_of(records, "images_per_s", "{:.1f}"),
    }


def _mean_of(records: Sequence[Record], cost: str, form: str) -> str:
    """The mean of a cost that old records lack; empty where one of them does."""
    values = [getattr(record.costs, cost) for record in records]
    return "" if None in values else form.format(fmean(values))


def _yes(truth: bool) -> str:
    return "yes" if truth else "no"
