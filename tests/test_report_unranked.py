"""Rows that are not ranked stand apart in every table, and format."""

from __future__ import annotations

import pytest

from benchmark.records.record import Record
from benchmark.report import grouping, rendering, tables
from benchmark.report.headings import headings
from testbed.synthetic import TINY, digest, identity, scored


def records() -> list[Record]:
    """A diagnostic that is far better than the two methods beside it."""
    made = []
    for dataset in TINY:
        full = {name: digest(name) for name in TINY}
        for seed in (1, 2, 3):
            named = identity("prompt_adapter", dataset, 4, seed, sources=full, source_shots=-1)
            made.append(scored(named, 0.9))
            made.append(scored(identity("coop", dataset, 4, seed), 0.5 + seed / 100))
        made.append(scored(identity("zero_shot", dataset, 0, 0, val="none"), 0.4))
    return made


@pytest.mark.parametrize("kind", tables.KINDS)
@pytest.mark.parametrize("form", rendering.FORMATS)
def test_a_diagnostic_stands_below_all_others_says_so_and_is_never_the_best(
    kind: str, form: str
) -> None:
    groups = grouping.group_records(records())
    made = tables.tables(groups, kind, ranked=True)
    for table in made:
        apart = [tables.NOT_RANKED in row.group for row in table.rows]
        assert any(apart)
        assert apart == sorted(apart)
        assert not any(row.marks for row in table.rows if tables.NOT_RANKED in row.group)
    text = rendering.render(made, form)
    assert "not ranked" in text
    assert text.index("CoOp") < text.rindex("not ranked")


def test_a_prior_that_is_missing_is_told_in_the_row_and_only_there() -> None:
    for sources, expected in (({}, "Prompt-Adapter, no prior"), ({"x": "y"}, "Prompt-Adapter")):
        shown = {"sources": sources, "source_shots": 4 if sources else 0}
        named = identity("prompt_adapter", TINY[0], 4, 1, **shown)
        (variants,) = grouping.group_records([scored(named, 0.5)]).values()
        assert list(headings(variants).values()) == [expected]
    (variants,) = grouping.group_records([scored(identity("coop"), 0.5)]).values()
    assert list(headings(variants).values()) == ["CoOp"]
