"""A table as text: for the terminal, Markdown, CSV, LaTeX. Percent exists here and nowhere else."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmark.report.averages import Average, IncompleteMean, MeanAccuracy
from benchmark.report.tables import ResultRow, ResultTable

if TYPE_CHECKING:
    from rich.text import Text

FORMATS = ("text", "markdown", "csv", "latex")
DASH = "-"
FEWER = "†"
LEADS = "*"


def render(tables: Sequence[ResultTable], form: str) -> str:
    """All tables in one of FORMATS."""
    make = {
        "text": lambda table: terminal(table).plain,
        "markdown": markdown,
        "csv": comma_separated,
        "latex": latex,
    }[form]
    return "\n".join(make(table) for table in tables)


def shown(value: Average | str, most: int = 0, pm: str = "±") -> str:
    """71.3±0.8; a dagger says that fewer than `most` seeds, those of the rest of its row, stand
    behind the number.
    """
    match value:
        case None:
            return DASH
        case str():
            return value
        case IncompleteMean(have, want):
            return f"{DASH} ({have}/{want})"
        case MeanAccuracy(mean, std, seeds):
            spread = "" if std is None else f"{pm}{100 * std:.1f}"
            return f"{100 * mean:.1f}{spread}{FEWER if len(seeds) < most else ''}"


def _cells(row: ResultRow, pm: str = "±", mark: str = f"{{}}{LEADS}") -> list[str]:
    most = max((value.count for value in row.values if isinstance(value, MeanAccuracy)), default=0)
    texts = [shown(value, most, pm) for value in row.values]
    return [mark.format(text) if index in row.leads else text for index, text in enumerate(texts)]


def terminal(table: ResultTable) -> Text:
    """Fixed columns, a group's name once above its rows, means in bold."""
    from rich.text import Text

    body = [_cells(row) for row in table.rows]
    indent = "  " if table.heads[0] else ""
    first = max([len(indent + row.label) for row in table.rows] + [len(table.heads[1])])
    widths = [max(map(len, column)) for column in zip(table.columns, *body, strict=True)]
    text = Text(f"{table.title}\n", style="")
    text.stylize("bold cyan")
    text.append(_line(" " * first, table.columns, widths, first), style="dim")
    group = ""
    for row, cells in zip(table.rows, body, strict=True):
        if row.group != group:
            group = row.group
            text.append(f"{group}\n", style="bold")
        text.append(
            _line(indent + row.label, cells, widths, first), style="bold" if row.mean else ""
        )
    for note in _notes(table):
        text.append(f"{note}\n", style="dim")
    return text


def _line(label: str, cells: Sequence[str], widths: Sequence[int], first: int) -> str:
    padded = "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
    return f"{label.ljust(first)}  {padded}\n"


def _plain_rows(table: ResultTable, pm: str, mark: str) -> list[list[str]]:
    lead = [[row.group, row.label] if table.heads[0] else [row.label] for row in table.rows]
    return [[*names, *_cells(row, pm, mark)] for names, row in zip(lead, table.rows, strict=True)]


def _notes(table: ResultTable, mark: str = LEADS) -> list[str]:
    daggers = any(FEWER in cell for row in table.rows for cell in _cells(row))
    notes = (
        [f"{mark} cannot be told from the best of its column (paired tests, Holm, 95 %)"]
        if any(row.leads for row in table.rows)
        else []
    )
    return [
        *notes,
        *table.notes,
        *([f"{FEWER} fewer seeds than the rest of the row"] if daggers else []),
    ]


def _heads(table: ResultTable) -> list[str]:
    return [*filter(None, table.heads), *table.columns]


def markdown(table: ResultTable) -> str:
    rows = [_heads(table), ["---"] * len(_heads(table)), *_plain_rows(table, " ± ", "**{}**")]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(
        [f"**{table.title}**", "", *lines, *(f"\n{note}" for note in _notes(table, "Bold:")), ""]
    )


def comma_separated(table: ResultTable) -> str:
    """Fractions, not percent: one column each for mean, sample deviation and number of seeds."""
    scored = [index for index, name in enumerate(table.columns) if name != "seeds"]
    heads = [
        f"{table.columns[index]} {part}" for index in scored for part in ("mean", "std", "seeds")
    ]
    text = io.StringIO()
    write = csv.writer(text, lineterminator="\n")
    write.writerow(["table", *filter(None, table.heads), *heads])
    for row in table.rows:
        lead = [row.group, row.label] if table.heads[0] else [row.label]
        write.writerow(
            [table.title, *lead, *(part for index in scored for part in _parts(row.values[index]))]
        )
    return text.getvalue()


def _parts(value: Average | str) -> list[str]:
    if not isinstance(value, MeanAccuracy):
        return ["", "", ""]
    return [f"{value.mean:.6f}", "" if value.std is None else f"{value.std:.6f}", str(value.count)]


def latex(table: ResultTable) -> str:
    """A booktabs tabular; the paper needs \\usepackage{booktabs}."""
    lead = len([head for head in table.heads if head])
    rows = [
        " & ".join(map(_escaped, cells)) + r" \\" for cells in _plain_rows(table, "PM", "BF[{}]")
    ]
    breaks = {
        index
        for index in range(1, len(table.rows))
        if table.rows[index].group != table.rows[index - 1].group
    }
    body = [
        line
        for index, row in enumerate(rows)
        for line in ([r"\midrule", row] if index in breaks else [row])
    ]
    return "\n".join(
        [
            *(f"% {line}" for line in (table.title, *_notes(table, "Bold:"))),
            rf"\begin{{tabular}}{{{'l' * lead}{'r' * len(table.columns)}}}",
            r"\toprule",
            " & ".join(map(_escaped, _heads(table))) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _escaped(text: str) -> str:
    for character in "&%$#_{}":
        text = text.replace(character, f"\\{character}")
    text = f"\\textbf{{{text[3:-1]}}}" if text.startswith("BF[") else text
    return (
        ("--" if text == DASH else text).replace("PM", r"\,$\pm$\,").replace(FEWER, r"$^\dagger$")
    )
