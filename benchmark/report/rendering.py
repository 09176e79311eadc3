"""Tables in the formats of files: plain text, Markdown, CSV; LaTeX is in latex_tables.py."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence

from benchmark.report.averages import Average, MeanAccuracy
from benchmark.report.cell_texts import heads, names, row_cells
from benchmark.report.footnotes import footnotes
from benchmark.report.latex_tables import TEXT_WIDTH, latex
from benchmark.report.marks import BEST, TIED, Mark
from benchmark.report.result_table import ResultTable
from benchmark.report.text_tables import plain_text

FORMATS = ("text", "markdown", "csv", "latex")
MARKDOWN_MARKS: Mapping[Mark | None, str] = {None: "{}", BEST: "**{}**", TIED: "*{}*"}


def render(tables: Sequence[ResultTable], form: str, text_width: float = TEXT_WIDTH) -> str:
    """All tables in one of FORMATS; in LaTeX at most `text_width` pt wide."""
    writers: Mapping[str, Callable[[Sequence[ResultTable]], str]] = {
        "text": plain_text,
        "markdown": markdown,
        "csv": lambda each: "\n".join(map(comma_separated, each)),
        "latex": lambda each: latex(each, text_width),
    }
    return writers[form](tables) if tables else ""


def markdown(tables: Sequence[ResultTable]) -> str:
    """Pipe tables, each between its title and its notes, and notes of all of them at the end."""
    alone, together = footnotes(tables, "Bold:", "italic:")
    parts = [
        "\n\n".join([f"**{table.title}**", _pipe_table(table), *notes])
        for table, notes in zip(tables, alone, strict=True)
    ]
    return "\n\n".join([*parts, *together, ""])


def _pipe_table(table: ResultTable) -> str:
    rows = [heads(table), ["---"] * len(heads(table))]
    for row in table.rows:
        cells = [MARKDOWN_MARKS[mark].format(text) for text, mark in row_cells(row)]
        rows.append([*names(table, row), *(text.replace("±", " ± ") for text in cells)])
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in escaped)


def comma_separated(table: ResultTable) -> str:
    """Fractions, not percent: one column each for mean, sample deviation and number of seeds."""
    scored = [index for index, name in enumerate(table.columns) if name != "seeds"]
    scores = [table.columns[index] for index in scored]
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    parts = [f"{name} {part}" for name in scores for part in ("mean", "std", "seeds")]
    out.writerow(["table", *filter(None, table.heads), *parts])
    for row in table.rows:
        numbers = [part for index in scored for part in _parts(row.values[index])]
        out.writerow([table.title, *names(table, row), *numbers])
    return text.getvalue()


def _parts(value: Average | str) -> list[str]:
    if not isinstance(value, MeanAccuracy):
        return ["", "", ""]
    return [f"{value.mean:.6f}", "" if value.std is None else f"{value.std:.6f}", str(value.count)]
