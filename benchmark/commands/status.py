"""`status`: how a grid is getting on that runs elsewhere."""

from __future__ import annotations

from typing import Annotated

import typer

from benchmark.commands import options as opt
from benchmark.commands.printing import consoles, warn
from benchmark.protocols import protocol_of

Watch = Annotated[
    bool,
    typer.Option(
        "--watch", help="Look every 2 s until all is done, nothing ran for 10 s, or Ctrl-C."
    ),
]


def status(
    results: opt.Results = opt.DEFAULT,
    watch: Watch = False,
    protocol: opt.OfProtocol = "",
    as_json: opt.Json = False,
    plain: opt.Plain = False,
) -> None:
    """Say how a grid is getting on that runs in another terminal or on another machine.

    Counts the cells that are done, running, failed and waiting, and estimates the time left.
    """
    from benchmark.commands import progress_view
    from benchmark.records.store import Store

    out, _ = consoles()
    notes: list[str] = []
    store = Store(results)

    def wanted(cell: str) -> bool:
        return protocol in ("", protocol_of(cell))

    if watch:
        progress_view.print_until_done(
            store, out, notes, as_json=as_json, plain=plain, wanted=wanted
        )
    else:
        progress_view.print_once(store, out, notes, as_json=as_json, wanted=wanted)
    warn(notes)
