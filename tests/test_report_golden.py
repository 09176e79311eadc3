"""Every format of every table, word for word: tests/golden/ holds what a small made-up store
prints.

After a change of looks that is meant: `python -m tests.test_report_golden` writes the files anew;
read the difference.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.report import grouping, rendering, tables
from testbed.synthetic import TINY, digest, grid, identity, scored
from tests.conftest import leaderboard_csv

FOLDER = Path(__file__).parent / "golden"
SUFFIX = {"text": "txt", "markdown": "md", "csv": "csv", "latex": "tex"}
NAMES = [f"{kind}.{SUFFIX[form]}" for kind in tables.KINDS for form in rendering.FORMATS] + [
    "leaderboard.csv"
]


def groups() -> grouping.GroupedRecords:
    """Two plug-ins that no adapter of ours can change, with a hole, a prior, a diagnostic and a
    method without shots.
    """
    some = [
        record
        for record in grid(["lab.first", "lab.second"], shots=(1, 4))
        if record.identity.seed < 3 or record.identity.method != "lab.second"
    ]
    holed = [
        record
        for record in some
        if (record.identity.dataset, record.identity.shots, record.identity.method)
        != ("tiny_shapes", 4, "lab.first")
    ]
    zero = [scored(identity("lab.zero", name, 0, 0, val="none"), 0.4) for name in TINY]
    full = {name: digest(name) for name in TINY}
    barred = [
        scored(identity("lab.full", name, 4, 1, sources=full, source_shots=-1), 0.9)
        for name in TINY
    ]
    return grouping.group_records([*holed, *zero, *barred])


def written(name: str) -> str:
    if name == "leaderboard.csv":
        return leaderboard_csv(groups())
    kind, suffix = name.split(".")
    form = next(form for form, ending in SUFFIX.items() if ending == suffix)
    return rendering.render(tables.tables(groups(), kind, ranked=True), form)


@pytest.mark.parametrize("name", NAMES)
def test_a_format_is_what_it_was(name: str) -> None:
    assert written(name) == (FOLDER / name).read_text(encoding="utf-8")


def test_nothing_else_lies_among_the_golden_files() -> None:
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(NAMES)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in NAMES:
        (FOLDER / name).write_text(written(name), encoding="utf-8")
