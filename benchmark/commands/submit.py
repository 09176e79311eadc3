"""`submit`: pack records so that others can check them, and check what others packed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.commands import options as opt
from benchmark.commands.option_fields import (
    RecordFilters,
    refuse_ignored,
    refuse_trust_alone,
    takes_fields,
)
from benchmark.commands.printing import warn
from benchmark.errors import UserError

COMMUNITY = Path("results/community")
Source = Annotated[
    Path | None,
    typer.Argument(
        metavar="DIR",
        help="A folder of records; with --check one of submissions.",
        show_default="results",
    ),
]
Name = Annotated[
    str,
    typer.Option(
        "--name", metavar="NAME", help="What the submission is called.", show_default=False
    ),
]
To = Annotated[
    Path,
    typer.Option("--to", parser=opt.path, metavar="DIR", help="Folder of submissions."),
]
Check = Annotated[
    bool,
    typer.Option("--check", help="Check the submissions of a folder instead; all, or --name."),
]
Replays = Annotated[
    int,
    typer.Option(
        "--replays",
        metavar="N",
        min=0,
        max=1000,
        help="With --check: how many cells of the embedded suite are computed again, of each.",
    ),
]
ReplaySeed = Annotated[
    int | None,
    typer.Option(
        "--replay-seed",
        metavar="NUMBER",
        min=0,
        help="With --check: draw these cells so that the same draw can be made again.",
        show_default="a new draw",
    ),
]


@takes_fields
def submit(
    context: typer.Context,
    filters: RecordFilters,
    source: Source = None,
    name: Name = "",
    to: To = COMMUNITY,
    check: Check = False,
    replays: Replays = 2,
    replay_seed: ReplaySeed = None,
    data_root: opt.DataRoot = None,
) -> None:
    """Pack records with their predictions for a pull request; nothing is sent.

    With --check: is every submission what it says? Exit code 3 where not.
    """
    if check:
        place = _place(source, to, filters)
        raise typer.Exit(_check(place, name, replays, replay_seed, data_root))
    refuse_ignored(context, {"replays", "replay_seed", "data_root"}, without="--check")
    refuse_trust_alone(context, filters.config)
    from benchmark.commands.record_choice import chosen_records
    from benchmark.records import submission
    from benchmark.records.store import Store
    from benchmark.report.unknown_here import said_of_private

    if not name:
        raise UserError("a submission needs a name, as in `submit results --name my-lab`")
    notes: list[str] = []
    store = Store(source or opt.DEFAULT)
    records = chosen_records(store, filters, notes)
    if notes:
        raise UserError(
            f"{'; '.join(notes)}; nothing was packed, since a submission is whole or not at all: "
            "mend this, or choose other records (--method, --dataset, --shots, ...)"
        )
    packed = submission.pack(store, records, to, name)
    print(f"{packed.records} records in {packed.folder}, {packed.bytes / 1e3:.0f} kB")
    print("look at it, try it with `submit --check`, and add it to a pull request")
    if packed.left_out:
        warn([f"left out, as it may name your machine: {', '.join(packed.left_out)}"])
    warn(said_of_private(records))


def _place(source: Path | None, to: Path, filters: RecordFilters) -> Path:
    """The folder of submissions that is to be checked; UserError for what --check cannot obey."""
    if filters != RecordFilters():
        raise UserError(
            "--check looks at whole submissions; leave out the options that choose records, and "
            "take one submission by --name"
        )
    if source and to not in (source, COMMUNITY):
        raise UserError(f"--check looks into one folder, and {source} and {to} are two; name one")
    return source or to


def _check(
    folder: Path, name: str, replays: int, replay_seed: int | None, data_root: Path | None
) -> int:
    """Every submission is looked at, also after one that is refused."""
    from benchmark.records.submission import submissions
    from benchmark.report.submission_checks import check_submission

    code = 0
    for each in submissions(folder, name):
        try:
            print(check_submission(each, data_root, replays, replay_seed))
        except UserError as error:
            code = max(code, 3)
            warn([f"{each.name}: {error}"])
    return code
