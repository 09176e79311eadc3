"""Tables as wide as a terminal or a page, measured: in characters, and in the widths of Computer
Modern that matplotlib brings along.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib
import pytest
from matplotlib.ft2font import FT2Font

from benchmark.cli import execute
from benchmark.records.record import Record
from benchmark.report import cost_tables, grouping, latex_tables, latex_width, tables, text_tables
from benchmark.report.footnotes import wrapped
from benchmark.report.headings import headings
from benchmark.report.result_table import ResultRow, ResultTable
from testbed.synthetic import CLASSIC, digest, grid, identity, scored, write

LONG = {"n_ctx": 4, "ctx_init": "a photo of a", "class_position": "end"}
# what TeX prints for the commands in cells; two ems and a third of one
PRINTED = {r"\quad ": "mm", r"\,$\pm$\,": "±", r"$^\dagger$": "†", "--": "-", r"\ldots{}": "mm"}


def records() -> list[Record]:
    """Eleven datasets with a hole, two backbones, long names, a diagnostic, one without shots."""
    made = list(grid(["tip_adapter_f", "cross_modal_probe"], CLASSIC, (1, 16), (1, 2)))
    made += grid(["prompt_adapter_f"], CLASSIC[:-1], (16,), (1, 2), backbones=("RN50/openai",))
    full = {name: digest(name) for name in CLASSIC}
    for name in CLASSIC:
        made.append(scored(identity("zero_shot", name, 0, 0, val="none"), 0.4))
        made.append(scored(identity("coop", name, 16, 1, params=LONG), 0.5))
        named = identity("prompt_adapter", name, 16, 1, sources=full, source_shots=-1)
        made.append(scored(named, 0.9))
    return made


@cache
def shown(kind: str) -> list[ResultTable]:
    groups = grouping.group_records(records())
    if kind == "cost":
        return cost_tables.cost_tables(groups)
    return tables.tables(groups, kind, ranked=True)


KINDS = (*tables.KINDS, "cost")


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("kind", KINDS)
def test_tables_are_no_wider_than_a_terminal_and_say_every_name_and_note_once(
    kind: str, width: int
) -> None:
    text = text_tables.plain_text(shown(kind), width)
    assert max(map(len, text.splitlines())) <= width
    words = " ".join(text.split())
    for table in shown(kind):
        for fact in table.facts:
            assert words.count(fact) == 1
        for note in table.notes[:1]:
            assert words.count(note) == 1
    (_, variants) = grouping.group_records(records()).values()
    (heading,) = (each for each in headings(variants).values() if "n_ctx" in each)
    assert heading in words
    assert (f"[1] {heading}" in words) == (
        kind != "dataset-shots" and len(heading) > width * 2 // 5
    )


def test_a_pipe_is_as_wide_as_columns_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, grid(["coop"], CLASSIC, shots=(4,)))
    monkeypatch.setenv("COLUMNS", "80")
    assert execute(["report", "--table", "method-dataset", "--results", str(tmp_path)]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


PAPER = r"""\documentclass{article}
\usepackage{booktabs,longtable}
\setlength{\textwidth}{%dpt}
\begin{document}
%s
\end{document}
"""


@cache
def cmr10() -> FT2Font:
    font = FT2Font(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "cmr10.ttf")
    font.set_size(10, 72)
    return font


def points(text: str) -> float:
    """The width of a text in cmr10 at 10 pt; a plus-minus sign is as wide as a plus, and has a
    sixth of an em on either side.
    """
    thin = text.count("±") * 10 / 3
    return thin + sum(
        cmr10().load_char(ord(each)).linearHoriAdvance / 65536
        for each in text.replace("±", "+").replace("†", "0")
    )


def test_characters_are_as_wide_as_in_computer_modern() -> None:
    usual = [chr(code) for code in range(33, 127) if chr(code) not in r"_{}|<>\\"]
    for character in usual:
        assert latex_width.ems(character) == pytest.approx(points(character) / 10, abs=0.002)


def printed(cell: str) -> tuple[str, bool]:
    """What stands in a cell, and whether it is bold."""
    for command, text in PRINTED.items():
        cell = cell.replace(command, text)
    bare = re.sub(r"\\text(?:bf|it)\{(.*)\}", r"\1", cell)
    return bare.replace("\\", ""), r"\textbf" in cell


def measured(text: str) -> float:
    """The width of the first tabular or longtable in pt: the widest cell of every column, in the
    size of letters of the table, and the space between columns.
    """
    size, wider = {r"\small": (9, 1.03), r"\footnotesize": (8, 1.063)}[
        next(line for line in text.splitlines() if line in (r"\small", r"\footnotesize"))
    ]
    gap = 2 * float(re.search(r"tabcolsep\}\{([\d.]+)pt", text)[1])  # type: ignore[index]
    lines = [line for line in text.splitlines() if line.endswith(r" \\")]
    cells = [line.removesuffix(r" \\").split(" & ") for line in lines if " & " in line]
    widths: Sequence[float] = [
        max(points(bare) * (1.15 if bold else 1) for bare, bold in map(printed, column))
        for column in zip(*cells, strict=True)
    ]
    groups = [
        points(printed(each)[0]) for each in re.findall(r"multicolumn.*@\{\}\}\{(.*)\} ", text)
    ]
    beside = gap * (len(widths) - 1)
    return max(sum(widths) * size * wider / 10 + beside, max(groups, default=0) * size * wider / 10)


@pytest.mark.parametrize("text_width", [237, 345, 497])
@pytest.mark.parametrize("kind", KINDS)
def test_latex_is_no_wider_than_the_text_and_hardly_narrower_than_it_could_be(
    kind: str, text_width: float
) -> None:
    for table in shown(kind):
        text = latex_tables.latex([table], text_width)
        assert measured(text) <= text_width
        blocks = text.count(r"\midrule[\heavyrulewidth]") + 1
        if blocks > 1:  # one block fewer would not have fitted
            assert measured(text) * blocks / (blocks - 1) > 0.75 * text_width


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs pdflatex")
@pytest.mark.parametrize("text_width", [237, 345, 497])
def test_latex_itself_sets_all_tables_within_the_text(tmp_path: Path, text_width: float) -> None:
    tables = [table for kind in KINDS for table in shown(kind)]
    (tmp_path / "paper.tex").write_text(
        PAPER % (text_width, latex_tables.latex(tables, text_width)), encoding="utf-8"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    for _ in range(2):  # the second time long tables know their columns
        said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert said.returncode == 0, said.stdout[-2000:]
    assert "Overfull" not in said.stdout


def test_long_tables_may_break_over_pages_and_captions_explain_signs_alone() -> None:
    long, short = (latex_tables.latex(shown(kind)[1:]) for kind in ("dataset-shots", "cost"))
    assert r"\begin{longtable}" in long
    assert r"\endhead" in long
    assert r"\begin{table}" in short
    (marked,) = (each for each in shown("method-shots") if any(row.marks for row in each.rows))
    text = latex_tables.latex([marked])
    (caption,) = re.findall(r"\\caption\{(.*)\}", text)
    assert "Bold: best of its column; italic: cannot be told from it" in caption
    assert "[1]" not in caption
    (below,) = re.findall(r"\\parbox\{\\linewidth\}\{(.*)\}\n", text, re.DOTALL)
    assert "\\par\n[1] CoOp, class\\_position=end" in below  # a bracket behind \\\\ is its argument
    assert "pipeline" not in text[text.index("\\begin") :]  # a comment before it


def test_a_line_ends_between_no_word_and_its_number() -> None:
    note = "image pipeline 1-pillow12, protocol 1; intervals of 95 % over seeds"
    for width in range(24, 60):
        lines = wrapped(note, width).split("\n")
        assert " ".join(line.strip() for line in lines) == note
        assert not any(line.strip().startswith(("1;", "%", "95")) for line in lines)
        assert max(map(len, lines)) <= width


def test_columns_that_do_not_fit_stand_in_even_blocks() -> None:
    row = ResultRow("a method", tuple("123456789"))
    table = ResultTable("Numbers", ("", "method"), tuple(f"column-{at}" for at in range(9)), (row,))
    for width, expected in ((80, [5, 4]), (54, [3, 3, 3]), (10_000, [9])):
        blocks = text_tables.plain_text([table], width).split("\n\n")
        assert [block.count("column") for block in blocks] == expected, width
