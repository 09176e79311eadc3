"""`board`: one page of all submissions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.commands import options as opt
from benchmark.commands.printing import warn
from benchmark.commands.submit import COMMUNITY
from benchmark.errors import counted

Source = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="Folder of submissions."),
]
Html = Annotated[
    Path,
    typer.Option("--html", parser=opt.path, metavar="DIR", help="Folder of the page."),
]


def board(source: Source = COMMUNITY, html: Html = Path("board")) -> None:
    """Write a page of all submissions of a folder, which opens from disk.

    Exit code 1 where two contradict each other; the first by name is shown.
    """
    from benchmark.report.board import write_board

    opt.require_folder("html", html)
    written = write_board(source, html)
    found = f"{counted(written.records, 'record')} of {counted(len(written.names), 'submission')}"
    print(f"{html / 'index.html'}: {found}")
    warn([*written.notes, *written.conflicts])
    raise typer.Exit(1 if written.conflicts else 0)
