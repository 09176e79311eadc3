"""Costs beside accuracy, from made-up records."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from benchmark.cli import app
from benchmark.records.record import Record
from benchmark.report import rendering
from benchmark.report.cost_tables import cost_tables
from benchmark.report.grouping import group_records
from testbed.synthetic import TINY, identity, scored, write


def suite_records(method: str, shots: int, accuracy: float, **costs: object) -> list[Record]:
    """One seed on each dataset of the suite."""
    records = [scored(identity(method, dataset, shots), accuracy) for dataset in TINY]
    return [
        record.model_copy(update={"costs": record.costs.model_copy(update=costs)})
        for record in records
    ]


def test_a_row_says_what_its_accuracy_costs() -> None:
    records = suite_records(
        "cones", 16, 0.75, added_macs=51_200, images_per_s=2000.0
    ) + suite_records("cones", 1, 0.5, added_macs=1)
    (table,) = cost_tables(group_records(records))
    text = rendering.markdown([table])
    assert "| ConES | 16 |" in text
    for part in ("75.0", "8.19k", "51.2k", "1.50", "2.00", "410", "2k"):
        assert part in text, part


def test_what_old_records_lack_is_a_dash() -> None:
    (table,) = cost_tables(group_records(suite_records("cones", 4, 0.75)))
    assert table.rows[0].values[3] == table.rows[0].values[-1] == "-"


def test_seconds_that_were_shared_are_said_to_be() -> None:
    alone, shared = (
        cost_tables(group_records(suite_records("cones", 4, 0.75, batched_runs=seeds)))[0]
        for seeds in (1, 3)
    )
    assert not any("batch" in note for note in alone.notes)
    assert any("trained in one batch is each one's share" in note for note in shared.notes)


def test_the_command_shows_them(tmp_path: Path) -> None:
    write(tmp_path, suite_records("cones", 16, 0.75, added_macs=51_200, images_per_s=2000.0))
    shown = CliRunner().invoke(app, ["report", "--cost", "--results", str(tmp_path)])
    assert shown.exit_code == 0, shown.output
    assert "51.2k" in shown.output
    assert "peak MiB then counts encoding" in " ".join(shown.output.split())
