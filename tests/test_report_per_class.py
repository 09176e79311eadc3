"""Mean per-class accuracy: by hand, in tables, and unasked where support sets are imbalanced."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from benchmark.records.record import Record
from benchmark.records.store import Store
from benchmark.report import grouping, tables
from benchmark.report.averages import ACCURACY, PER_CLASS, MeanAccuracy
from benchmark.report.frames import load_results
from testbed.synthetic import identity, record, write
from tests.conftest import Invoke, leaderboard_csv

TITLE = "Mean per-class accuracy in %"


def uneven(method: str, right: tuple[int, int, int], **fields: object) -> Record:
    """Of 80, 10 and 10 test images."""
    return record(identity(method, "my_pets", **fields), right, (80, 10, 10))  # type: ignore[arg-type]


def some(sampler: str) -> list[Record]:
    return [
        uneven("coop", (80, 1, 0), seed=1, sampler=sampler),
        uneven("coop", (70, 5, 3), seed=2, sampler=sampler),
        uneven("zero_shot", (40, 9, 5), shots=0, seed=0, val="none"),
    ]


def test_every_class_with_test_images_counts_the_same() -> None:
    made = record(identity(), (3, 0, 5), (10, 0, 5))
    assert made.class_accuracy == pytest.approx((0.3 + 1.0) / 2)
    assert made.accuracy == pytest.approx(8 / 15)
    assert record(identity(), (0, 0), (0, 0)).class_accuracy == 0


def test_with_as_many_images_of_every_class_both_are_one() -> None:
    made = record(identity(), (3, 7, 5), (10, 10, 10))
    assert made.class_accuracy == pytest.approx(made.accuracy, abs=1e-15)


@pytest.mark.parametrize("kind", tables.KINDS)
def test_tables_of_both_metrics_differ_in_their_numbers_alone(kind: str) -> None:
    groups = grouping.group_records(some("coop"))
    plain, by_class = (tables.tables(groups, kind, metric=m) for m in (ACCURACY, PER_CLASS))
    assert [table.title.replace("Accuracy in %", TITLE) for table in plain] == [
        table.title for table in by_class
    ]
    assert [labels(table) for table in plain] == [labels(table) for table in by_class]
    assert not set(means(plain)) & set(means(by_class))
    assert len(means(plain)) == len(means(by_class)) >= 2


def labels(table: tables.ResultTable) -> list[str]:
    return [row.label for row in table.rows]


def means(several: list[tables.ResultTable]) -> list[float]:
    values = [value for table in several for row in table.rows for value in row.values]
    return [value.mean for value in values if isinstance(value, MeanAccuracy)]


def test_the_mean_over_seeds_is_of_each_seeds_mean_over_classes() -> None:
    (table,) = tables.tables(grouping.group_records(some("coop")), metric=PER_CLASS)
    values = {row.group: row.values for row in table.rows if row.label == "my_pets"}
    four_shot = values["CoOp"][1]
    assert isinstance(four_shot, MeanAccuracy)
    assert four_shot.mean == pytest.approx(((1 + 0.1) / 3 + (0.875 + 0.5 + 0.3) / 3) / 2)


def test_it_is_shown_unasked_where_support_sets_are_imbalanced(
    invoke: Invoke, tmp_path: Path
) -> None:
    write(tmp_path / "even", some("coop"))
    write(tmp_path / "skewed", [*some("realistic"), *some("coop")])
    assert TITLE not in invoke("report", "--results", tmp_path / "even").out
    shown = invoke("report", "--results", tmp_path / "skewed").out
    plain, by_class = shown.split(TITLE)
    assert plain.count("CoOp") == 2
    assert "realistic sampling" in by_class
    assert by_class.count("CoOp") == 1
    assert "Zero-shot CLIP" in by_class
    asked = invoke("report", "--results", tmp_path / "even", "--metric", "per-class").out
    assert asked.startswith(TITLE)
    only = invoke("report", "--results", tmp_path / "skewed", "--metric", "accuracy").out
    assert TITLE not in only


def test_an_unknown_metric_is_named(invoke: Invoke, tmp_path: Path) -> None:
    told = invoke("report", "--results", tmp_path, "--metric", "per-clas")
    assert told.code == 2
    assert "did you mean 'per-class'?" in told.err


def test_exports_hold_it_beside_accuracy(tmp_path: Path) -> None:
    rows = csv.DictReader(io.StringIO(leaderboard_csv(grouping.group_records(some("relaxed")))))
    coop = next(row for row in rows if row["method"] == "coop")
    assert float(coop["class_mean"]) == pytest.approx((1.1 / 3 + 1.675 / 3) / 2, abs=1e-6)
    assert float(coop["class_std"]) == pytest.approx(abs(1.1 - 1.675) / 3 / 2**0.5, abs=1e-6)
    assert float(coop["mean"]) == pytest.approx((0.81 + 0.78) / 2)
    write(tmp_path, some("relaxed"))
    frame = load_results(tmp_path)
    assert frame["class_accuracy"].tolist() == [
        each.class_accuracy for each in sorted(Store(tmp_path).records(), key=_order)
    ]


def _order(made: Record) -> tuple[str, int]:
    return made.identity.method, made.identity.seed
