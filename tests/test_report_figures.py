"""Figures are drawn for every setting, in both formats, the same bytes each time; what they show is
taken from the axes.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.errors import UserError
from benchmark.records.record import Record
from benchmark.report import figures, grouping
from benchmark.report.headings import headings
from testbed.synthetic import TINY, digest, grid, identity, scored


def few() -> list[Record]:
    zero = [scored(identity("zero_shot", name, 0, 0, val="none"), 0.4) for name in TINY]
    full = {name: digest(name) for name in TINY}
    barred = [
        scored(identity("prompt_adapter", name, 16, 1, sources=full, source_shots=-1), 0.99)
        for name in TINY
    ]
    return [*grid(["coop", "linear_probe"]), *zero, *barred]


def test_three_figures_in_two_formats_the_same_each_time(tmp_path: Path) -> None:
    first = figures.write_figures(tmp_path / "a", grouping.group_records(few()))
    again = figures.write_figures(tmp_path / "b", grouping.group_records(few()))
    assert [path.name.split("-")[0] for path in first[::2]] == ["curves", "cost", "differences"]
    assert {path.suffix for path in first} == {".pdf", ".png"}
    assert all(path.stat().st_size > 5000 for path in first)
    assert all(
        first_file.read_bytes() == second_file.read_bytes()
        for first_file, second_file in zip(first, again, strict=True)
        if first_file.suffix == ".png"
    )


def test_curves_hold_a_panel_for_the_mean_and_one_per_dataset_and_no_diagnostic() -> None:
    ((setting, by_line),) = grouping.group_records(few()).items()
    heading_of = headings(by_line)
    numbers = {
        heading_of[line]: figures._numbers(setting, records)
        for line, records in by_line.items()
        if line.exposure.ranked
    }
    figure = figures.curves(setting, numbers, [1, 2, 4, 8, 16])
    titles = [axes.get_title() for axes in figure.axes if axes.get_visible()]
    assert titles == ["mean of 3 datasets", *TINY]
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert sorted(labels) == ["CoOp", "Linear probe", "Zero-shot CLIP"]
    bars = figure.axes[0].containers[0]
    assert len(bars[0].get_xdata()) == 5


def test_an_unknown_baseline_and_nothing_to_draw_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="to be a baseline; did you mean 'CoOp'"):
        figures.write_figures(tmp_path, grouping.group_records(few()), baseline="Coop")
    with pytest.raises(UserError, match="nothing to draw"):
        figures.write_figures(
            tmp_path, grouping.group_records([scored(identity("zero_shot", shots=0, seed=0), 0.5)])
        )
