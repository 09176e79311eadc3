r"""Tables for papers: booktabs in a float with a caption, no wider than the text. The caption says
what the numbers are and what their signs mean; notes about rows and data stand below the table.

A table that is too wide gets smaller letters, then its columns in two or more blocks below one
another. One that is longer than a page is a longtable.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from benchmark.report.cell_texts import DASH, FEWER, row_cells, two_lines
from benchmark.report.footnotes import signs
from benchmark.report.headings import dataset_title
from benchmark.report.latex_width import ems
from benchmark.report.marks import BEST, TIED, Mark
from benchmark.report.result_table import ResultRow, ResultTable
from benchmark.report.short_names import shortened

TEXT_WIDTH = 345.0  # pt: \textwidth of LaTeX's article class at 10 pt, the narrowest in wide use
LABEL = 30  # characters of the name of a row at most
CHARACTER = 5.3  # pt, of the name of a group on average, rather too many than too few
MOST_ROWS = 40  # on a page, below a caption and between headings
MARKS: Mapping[Mark | None, str] = {None: "{}", BEST: r"\textbf{{{}}}", TIED: r"\textit{{{}}}"}
INDENT = r"\quad "  # of rows below the name of their group


@dataclass(frozen=True)
class Letters:
    """A size of letters, and the space between columns that goes with it."""

    command: str
    em: float  # pt, a little more than its name says: small Computer Modern is wider
    gap: float  # pt, twice \tabcolsep


SIZES = (Letters(r"\small", 9.3, 8.0), Letters(r"\footnotesize", 8.6, 6.0))


def latex(tables: Sequence[ResultTable], text_width: float = TEXT_WIDTH) -> str:
    r"""Each table as a float of at most `text_width` pt; needs \usepackage{booktabs}, and longtable
    for those that are longer than a page.
    """
    return "\n".join(_float(_prepared(table, text_width), text_width) for table in tables)


def _prepared(table: ResultTable, text_width: float) -> ResultTable:
    """With names that fit, and datasets under their titles."""
    rows = tuple(replace(row, label=dataset_title(row.label)) for row in table.rows)
    columns = tuple(map(dataset_title, table.columns))
    return shortened(replace(table, rows=rows, columns=columns), LABEL, int(text_width / CHARACTER))


def _float(table: ResultTable, text_width: float) -> str:
    letters, blocks = _layout(table, text_width)
    across = 1 + len(blocks[0])
    facts = [f"% {fact}" for fact in table.facts]
    caption = rf"\caption{{{_caption(table)}}}"
    columns = rf"{{@{{}}l{'r' * (across - 1)}@{{}}}}"
    set_in = [letters.command, rf"\setlength{{\tabcolsep}}{{{letters.gap / 2:g}pt}}"]
    if len(blocks) * len(table.rows) <= MOST_ROWS:
        lines = [r"\begin{table}[t]", r"\centering", caption, r"\smallskip", *set_in]
        lines += [rf"\begin{{tabular}}{columns}", *_body(table, blocks, across)]
        end = [r"\bottomrule", r"\end{tabular}", *_notes(table), r"\end{table}"]
    else:
        lines = [r"\begingroup", *set_in, r"\setlength{\LTcapwidth}{\textwidth}"]
        lines += [rf"\begin{{longtable}}{columns}", rf"{caption} \\"]
        if len(blocks) == 1:
            lines += [*_head(table, blocks[0], across), r"\endfirsthead"]
            lines += [
                *_head(table, blocks[0], across),
                r"\endhead",
                *_rows(table, blocks[0], across),
            ]
        else:
            lines += _body(table, blocks, across)
        end = [r"\bottomrule", r"\end{longtable}", *_notes(table), r"\endgroup"]
    return "\n".join([*facts, *lines, *end, ""])


def _caption(table: ResultTable) -> str:
    """The title, and what the signs mean that occur."""
    meanings = "; ".join(signs([table], "Bold:", "italic:"))
    return _escaped(f"{table.title}.{meanings and f' {meanings}.'}")


def _notes(table: ResultTable) -> list[str]:
    r"""Below the table, each on a line of its own, in the width of the text. `\\` would end no line
    here: it takes the bracket that begins a note for its own.
    """
    if not table.notes:
        return []
    lines = "\\par\n".join(map(_escaped, table.notes))
    box = rf"\parbox{{\linewidth}}{{\footnotesize\raggedright {lines}}}"
    return [r"\par\smallskip\noindent", box]


def _layout(table: ResultTable, text_width: float) -> tuple[Letters, list[range]]:
    """The largest letters at which all columns stand side by side; else the smallest and as few
    blocks as fit, one column each at the worst.
    """
    names, columns = _widths(table)
    count = len(columns)
    for letters in SIZES:
        if _width(names, columns, [range(count)], letters) <= text_width:
            return letters, [range(count)]
    for across in range(count - 1, 0, -1):
        each = -(-count // -(-count // across))  # as even as so many blocks can be
        blocks = [range(at, min(at + each, count)) for at in range(0, count, each)]
        if _width(names, columns, blocks, letters) <= text_width:
            break
    return letters, blocks


def _widths(table: ResultTable) -> tuple[float, list[float]]:
    """Of names and of every column, in em."""
    indent = 1.0 if any(row.group for row in table.rows) else 0.0
    names = max(ems(name) + indent for name in (table.heads[1], *(row.label for row in table.rows)))
    cells = [[ems(text, bold=mark == BEST) for text, mark in row_cells(row)] for row in table.rows]
    values = [max(column) for column in zip(*cells, strict=True)]
    headings = [max(map(ems, lines)) for lines in _headings(table)]
    return names, [max(pair) for pair in zip(values, headings, strict=True)]


def _headings(table: ResultTable) -> list[tuple[str, str]]:
    """Two lines above each column, the first of which may be empty."""
    longest = [max(len(text) for text, _ in column) for column in _columns_of(table)]
    return [two_lines(name, width) for name, width in zip(table.columns, longest, strict=True)]


def _columns_of(table: ResultTable) -> Iterator[tuple[tuple[str, Mark | None], ...]]:
    return zip(*(row_cells(row) for row in table.rows), strict=True)


def _width(
    names: float, columns: Sequence[float], blocks: Sequence[range], letters: Letters
) -> float:
    """In pt; columns of blocks below one another are as wide as the widest of them."""
    places = range(len(blocks[0]))
    widest = [max(columns[block[at]] for block in blocks if at < len(block)) for at in places]
    return letters.em * (names + sum(widest)) + letters.gap * len(widest)


def _body(table: ResultTable, blocks: Sequence[range], across: int) -> Iterator[str]:
    """All blocks below one another."""
    for block in blocks:
        yield from _head(table, block, across)
        yield from _rows(table, block, across)


def _head(table: ResultTable, block: range, across: int) -> Iterator[str]:
    headings = [_headings(table)[at] for at in block]
    yield r"\toprule" if block.start == 0 else r"\midrule[\heavyrulewidth]"
    if any(upper for upper, _ in headings):
        yield _line(["", *(_escaped(upper) for upper, _ in headings)], across)
    yield _line([_escaped(table.heads[1]), *(_escaped(lower) for _, lower in headings)], across)
    yield r"\midrule"


def _rows(table: ResultTable, block: range, across: int) -> Iterator[str]:
    """Rows of a group stand under its name, below a rule."""
    for place, (group, rows) in enumerate(groupby(table.rows, key=lambda row: row.group)):
        if place:
            yield r"\midrule"
        if group:
            yield rf"\multicolumn{{{across}}}{{@{{}}l@{{}}}}{{{_escaped(group)}}} \\"
        for row in rows:
            name = (INDENT if group else "") + _escaped(row.label)
            yield _line([name, *_cells(row, block)], across)


def _cells(row: ResultRow, block: range) -> list[str]:
    cells = row_cells(row)
    return [MARKS[cells[at][1]].format(_escaped(cells[at][0])) for at in block]


def _line(cells: Sequence[str], across: int) -> str:
    return " & ".join([*cells, *[""] * (across - len(cells))]) + r" \\"


def _escaped(text: str) -> str:
    text = text.replace("\\", "\0")
    for character in "&%$#_{}":
        text = text.replace(character, f"\\{character}")
    signs = {
        "\0": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "±": r"\,$\pm$\,",
        FEWER: r"$^\dagger$",
        "…": r"\ldots{}",
    }
    for character, command in signs.items():
        text = text.replace(character, command)
    return text.replace(DASH, "--", 1) if text == DASH or text.startswith(f"{DASH} (") else text
