"""Tables in the formats of files: plain text, Markdown, CSV, LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence

from benchmark.report.averages import Average, MeanAccuracy
from benchmark.report.cell_texts import DASH, FEWER, footnotes, heads, names, row_cells
from benchmark.report.marks import BEST, TIED, Mark
from benchmark.report.result_table import ResultTable
from benchmark.report.text_tables import plain_text

FORMATS = ("text", "markdown", "csv", "latex")
MARKDOWN_MARKS: Mapping[Mark | None, str] = {None: "{}", BEST: "**{}**", TIED: "*{}*"}
LATEX_MARKS: Mapping[Mark | None, str] = {
    None: "{}",
    BEST: r"\textbf{{{}}}",
    TIED: r"\textit{{{}}}",
}


def render(tables: Sequence[ResultTable], form: str) -> str:
    """All tables in one of FORMATS."""
    writers: Mapping[str, Callable[[ResultTable], str]] = {
        "text": plain_text,
        "markdown": markdown,
        "csv": comma_separated,
        "latex": latex,
    }
    return "\n".join(writers[form](table) for table in tables)


def markdown(table: ResultTable) -> str:
    """A pipe table between its title and its footnotes."""
    rows = [heads(table), ["---"] * len(heads(table))]
    for row in table.rows:
        cells = [MARKDOWN_MARKS[mark].format(text) for text, mark in row_cells(row)]
        rows.append([*names(table, row), *(text.replace("±", " ± ") for text in cells)])
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    notes = [f"\n{note}" for note in footnotes(table, "Bold:", "italic:")]
    return "\n".join([f"**{table.title}**", "", *lines, *notes, ""])


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


def latex(table: ResultTable) -> str:
    """A booktabs tabular; the paper needs \\usepackage{booktabs}."""
    notes = footnotes(table, "Bold:", "italic:")
    name_columns = len([head for head in table.heads if head])
    return "\n".join(
        [
            *(f"% {line}" for line in (table.title, *notes)),
            rf"\begin{{tabular}}{{{'l' * name_columns}{'r' * len(table.columns)}}}",
            r"\toprule",
            " & ".join(map(_escaped, heads(table))) + r" \\",
            r"\midrule",
            *_latex_rows(table),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _latex_rows(table: ResultTable) -> list[str]:
    """The rows, with a rule between groups."""
    lines = []
    group = table.rows[0].group if table.rows else ""
    for row in table.rows:
        if row.group != group:
            lines.append(r"\midrule")
            group = row.group
        cells = [LATEX_MARKS[mark].format(_escaped(text)) for text, mark in row_cells(row)]
        lines.append(" & ".join([*map(_escaped, names(table, row)), *cells]) + r" \\")
    return lines


def _escaped(text: str) -> str:
    if text == DASH:
        return "--"
    for character in "&%$#_{}":
        text = text.replace(character, f"\\{character}")
    return text.replace("±", r"\,$\pm$\,").replace(FEWER, r"$^\dagger$")
