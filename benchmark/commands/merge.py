"""`merge`: copy the records of several folders into one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.commands import options as opt
from benchmark.commands.printing import warn

Sources = Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders of records.")]


def merge(sources: Sources, results: opt.Results = opt.DEFAULT) -> None:
    """Copy the records of several folders into one (--results).

    Exit code 1 where the same key has other counts.
    """
    from benchmark.records import combine
    from benchmark.records.store import Store

    done = combine.combine([Store(source) for source in sources], Store(results))
    known = f"{done.known} were there already"
    print(f"{done.added} records added to {results}, {known}, {len(done.conflicts)} conflicts")
    warn([*done.passed_over, *(f"conflict: {conflict}" for conflict in done.conflicts)])
    raise typer.Exit(1 if done.conflicts else 0)
