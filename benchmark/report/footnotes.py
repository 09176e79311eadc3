"""What stands below tables: notes of one table under it, what holds for all of them once."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence

from benchmark.report.averages import IncompleteMean
from benchmark.report.cell_texts import FEWER, row_cells
from benchmark.report.result_table import ResultTable

WIDEST = 100  # characters of a line of notes, where a terminal is wider or there is none
NO_BREAK = "\u00a0"
KEPT_TOGETHER = re.compile(r"(?<=\w) (?=\d+\b)|(?<=\d) (?=%)")  # the spaces that no line ends at
TESTS = "paired tests over images, seeds or datasets, Holm, 95 %"


def footnotes(
    tables: Sequence[ResultTable], best: str = "*", tied: str = "~"
) -> tuple[list[list[str]], list[str]]:
    """The notes of each table alone, and those below all: what every table says, what its signs
    mean, and facts about backbones and data. `best` and `tied` are how these are marked.
    """
    common = [note for note in tables[0].notes if all(note in other.notes for other in tables)]
    alone = [[note for note in table.notes if note not in common] for table in tables]
    facts = dict.fromkeys(fact for table in tables for fact in table.facts)
    return alone, [*signs(tables, best, tied), *common, *facts]


def wrapped(note: str, width: int) -> str:
    """A sentence in lines of at most `width` characters; those after its first are indented. A
    number stays beside the word before it, and a percent sign beside its number.
    """
    lines = textwrap.fill(
        KEPT_TOGETHER.sub(NO_BREAK, note),
        width,
        subsequent_indent="  ",
        break_on_hyphens=False,
        break_long_words=False,
    )
    return lines.replace(NO_BREAK, " ")


def signs(tables: Sequence[ResultTable], best: str, tied: str) -> Iterator[str]:
    """What the signs in cells mean, of those that occur."""
    rows = [row for table in tables for row in table.rows]
    if any(row.marks for row in rows):
        yield f"{best} best of its column; {tied} cannot be told from it ({TESTS})"
    texts = [text for row in rows for text, _ in row_cells(row)]
    if any("±" in text for text in texts):
        yield "± is the sample deviation over seeds"
    if any(FEWER in text for text in texts):
        yield f"{FEWER} fewer seeds than the rest of the row"
    if any(isinstance(value, IncompleteMean) for row in rows for value in row.values):
        yield "(n/m) in place of a mean: n of the m datasets that it is over are there"
