"""What the means of tables are over where a suite is only partly there, and the sentences below
tables: every kind of table is made from the same records.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from benchmark.cli import execute
from benchmark.errors import UserError
from benchmark.records.record import Record
from benchmark.records.store import Store
from benchmark.report import calibration_tables, cost_tables, grouping, tables
from benchmark.report.averages import IncompleteMean, MeanAccuracy
from benchmark.report.calibration import Calibrations
from benchmark.report.record_selection import select_records
from benchmark.report.result_table import ResultTable
from testbed.synthetic import CLASSIC, grid, identity, scored, write

THREE = ("caltech101", "dtd", "ucf101")


def made(records: Iterable[Record], folder: Path) -> dict[str, ResultTable]:
    """One table of every kind, at the highest number of shots."""
    groups = grouping.group_records(records)
    found = {kind: tables.tables(groups, kind)[-1] for kind in tables.KINDS}
    (cost,) = cost_tables.cost_tables(groups)
    (calibration,) = calibration_tables.calibration_tables(groups, Calibrations(Store(folder)))
    return found | {"cost": cost, "calibration": calibration}


def test_one_dataset_of_a_suite_stands_under_its_own_name_in_every_table(tmp_path: Path) -> None:
    shown = made([scored(identity("coop", "dtd", 4), 0.25)], tmp_path)
    for kind, table in shown.items():
        (row,) = table.rows
        numbers = [value.mean for value in row.values if isinstance(value, MeanAccuracy)]
        assert numbers == [0.25], kind
        assert "mean" not in " ".join([table.title, *table.columns, row.label]), kind
        assert "dtd" in " ".join([table.title, *table.columns, row.label]), kind


def test_a_mean_over_a_part_of_a_suite_says_so_in_every_table(tmp_path: Path) -> None:
    records = list(grid(["coop"], THREE, (16,), (1,)))
    mean = sum(record.accuracy for record in records) / 3
    for kind, table in made(records, tmp_path).items():
        row = table.rows[-1]
        scores = [value for value in row.values if isinstance(value, MeanAccuracy)]
        assert scores[-1].mean == pytest.approx(mean), kind
        assert "mean of 3 of 11" in " ".join([table.title, *table.columns, row.label]), kind
    whole = made(grid(["coop"], CLASSIC, (16,), (1,)), tmp_path)
    assert whole["method-dataset"].columns == (*CLASSIC, "mean", "seeds")
    assert "mean of 11 datasets" in whole["method-shots"].title


def test_a_row_that_lacks_datasets_has_no_mean_and_the_shared_ones_are_named(
    tmp_path: Path,
) -> None:
    records = [*grid(["coop"], THREE, (16,), (1,)), *grid(["taskres"], THREE[:2], (16,), (1,))]
    for kind, table in made(records, tmp_path).items():
        values = [value for row in table.rows for value in row.values]
        assert IncompleteMean(2, 3) in values, kind
        assert "not every row has ucf101" in table.notes
    for other, said in [
        (THREE[1], "dtd is the only dataset that all rows have"),
        ("eurosat", "there is no dataset that all rows have"),
    ]:
        fewer = [*records, *grid(["gda"], [other], (16,), (1,))]
        assert said in made(fewer, tmp_path)["method-dataset"].notes
    costs = made(records, tmp_path)["cost"].rows
    assert costs[1].label.endswith(" (2 of 3 datasets)")


def test_doubts_about_images_are_said_once(tmp_path: Path) -> None:
    remark = "3 of 6 test images are in train or val as well"
    records = [
        each.model_copy(update={"provenance": {"data_remarks": [remark]}})
        for each in grid(["coop", "taskres"], ["dtd"], (1, 4), (1, 2))
    ]
    for kind in tables.KINDS:
        assert made(records, tmp_path)[kind].facts[1:] == (f"dtd: {remark}",)
    strange = {"data_remarks": ["\x1b[2J\nwiped", {"no": "text"}]}
    records = [each.model_copy(update={"provenance": strange}) for each in records]
    assert made(records, tmp_path)["method-shots"].facts[1:] == ("dtd: ?[2J wiped",)


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        ([("test", ""), ("test", "test")], "selected on the test set, not ranked"),
        ([("full", "")], "selected on the full validation split, not ranked"),
        (
            [("full", ""), ("full", "test")],
            "selected on the full validation split for caltech101; on the full validation split "
            "and the test set for dtd; not ranked",
        ),
    ],
)
def test_a_diagnostic_says_which_labels_its_settings_were_selected_on(
    tmp_path: Path, kinds: list[tuple[str, str]], words: str
) -> None:
    fields = [{"val": val, "selection": selection} for val, selection in kinds]
    records = [
        scored(identity("lab.best", name, 4, 1, preset="released", **each), 0.9)
        for name, each in zip(THREE, fields, strict=False)
    ]
    notes = made(records, tmp_path)["method-shots"].notes
    assert any(note.endswith(f": {words}") for note in notes), notes


def test_filters_keep_what_uses_no_images_and_refuse_what_no_record_has(tmp_path: Path) -> None:
    zero = scored(identity("zero_shot", "dtd", 0, 0, val="none"), 0.4)
    write(tmp_path, [zero, *grid(["coop"], ["dtd", "tiny_digits"])])

    def counted(**filters: object) -> int:
        return len(select_records(Store(tmp_path), [], **filters))  # type: ignore[arg-type]

    assert counted(shots=[1, 4]) == 1 + 2 * 2 * 3
    assert counted(shots=[0]) == 1
    assert counted(shots=[4], seeds=[2], suites=["classic"], sampler="coop", val="up-to-4") == 2
    with pytest.raises(UserError, match="number of shots '3'; known are 0, 1, 2, 4, 8, 16"):
        counted(shots=[3])
    with pytest.raises(UserError, match="there is no suite 'clasic'; did you mean 'classic'"):
        counted(suites=["clasic"])


def test_the_command_takes_filters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, grid(["coop"]))
    flags = ["report", "--table", "method-shots", "--results", str(tmp_path)]
    assert execute([*flags, "--shots", "1,4", "--seed", "1", "--suite", "tiny"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == [
        "method",
        "1-shot",
        "4-shot",
        "seeds",
    ]
