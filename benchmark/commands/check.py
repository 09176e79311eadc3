"""`check`: run cells of the embedded suite again and compare their counts with a golden table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.commands import options as opt
from benchmark.commands.option_fields import refuse_ignored, refuse_trust_alone

if TYPE_CHECKING:
    from benchmark.commands.golden_check import CheckRequest

Golden = Annotated[
    Path | None,
    typer.Option(
        "--golden",
        parser=opt.path,
        metavar="FILE",
        help="Golden table.",
        show_default="the suite's own",
    ),
]
Against = Annotated[
    str, typer.Option("--against", metavar="golden|published", help="What to compare with.")
]
Update = Annotated[
    bool, typer.Option("--update", help="Rewrite the chosen rows instead of comparing.")
]
Tolerance = Annotated[
    int | None,
    typer.Option(
        "--tolerance",
        metavar="IMAGES",
        min=0,
        help="With --update: of the rows written.",
        show_default=False,
    ),
]
KeepIn = Annotated[
    Path | None,
    typer.Option(
        "--results",
        parser=opt.path,
        metavar="DIR",
        help="Keep the records there.",
        show_default=False,
    ),
]


OF_WRITTEN_ROWS = {"set_", "tolerance"}
OF_GOLDEN = {"golden", "update", "seed", "config", "trusted", "device", *OF_WRITTEN_ROWS}


def check(
    context: typer.Context,
    method: opt.Method = opt.NOTHING,
    dataset: opt.Dataset = opt.NOTHING,
    shots: opt.Shots = opt.NOTHING,
    seed: opt.Seed = opt.NOTHING,
    protocol: opt.OfProtocol = "",
    config: opt.Config = None,
    trusted: opt.Trust = opt.NOTHING,
    golden: Golden = None,
    against: Against = "golden",
    update: Update = False,
    tolerance: Tolerance = None,
    set_: opt.Set = opt.NOTHING,
    results: KeepIn = None,
    device: opt.Device = "cpu",
    as_json: opt.Json = False,
    plain: opt.Plain = False,
) -> None:
    """Run cells of the embedded suite again and compare their counts with a golden table.

    Exit code 3 where they differ. With --against published nothing is run: the records of a folder
    are compared with published numbers.
    """
    from benchmark.commands.golden_check import CheckRequest
    from benchmark.reference import GOLDEN

    opt.one_of("against", against, ("golden", "published"))
    _refuse_ignored(context, against, update, config)
    request = CheckRequest(
        methods=method,
        datasets=dataset,
        shots=shots,
        seeds=seed,
        protocol=protocol,
        config=config,
        trusted=trusted,
        settings=set_,
        table=golden or GOLDEN,
        results=results,
        device=device,
        plain=plain,
        as_json=as_json,
    )
    if against == "published":
        raise typer.Exit(_with_published(request))
    raise typer.Exit(_with_golden(request, update, tolerance))


def _refuse_ignored(
    context: typer.Context, against: str, update: bool, config: Path | None
) -> None:
    """UserError for options on the command line that would change nothing."""
    if against == "published":
        refuse_ignored(context, OF_GOLDEN, beside="--against published")
    if not update:
        refuse_ignored(context, OF_WRITTEN_ROWS, without="--update")
        refuse_trust_alone(context, config)


def _with_golden(request: CheckRequest, update: bool, tolerance: int | None) -> int:
    from benchmark.commands import golden_check
    from benchmark.commands.printing import consoles

    out, err = consoles()
    if update:
        return golden_check.update(request, tolerance, err)
    return golden_check.compare(request, out, err)


def _with_published(request: CheckRequest) -> int:
    """Print records beside published numbers; 3 where a comparable one differs."""
    from benchmark.commands.golden_check import OK, REGRESSION
    from benchmark.commands.printing import print_json
    from benchmark.protocols import PROTOCOLS
    from benchmark.records.store import Store
    from benchmark.report import grouping, published, published_table, record_selection

    store = Store(request.results or opt.DEFAULT)
    records = record_selection.select_records(store, [], request.methods, request.datasets)
    shots = request.shots
    protocols = [request.protocol] if request.protocol else PROTOCOLS
    wanted = [
        record
        for record in records
        if (not shots or str(record.identity.shots) in shots)
        and record.identity.evaluation in protocols
    ]
    table = [
        row
        for row in published_table.read_published()
        if (not request.methods or row.method in request.methods)
        and (not request.datasets or row.dataset in request.datasets)
        and (not shots or str(row.shots) in shots)
        and row.evaluation in protocols
    ]
    compared = list(published.compare_published(grouping.group_records(wanted), table))
    if request.as_json:
        print_json(published.published_dicts(compared))
        return REGRESSION if any(each.verdict == "differs" for each in compared) else OK
    print(published.published_text(compared))
    if dispute := published.disputed_text(table):
        print(dispute)
    for missing in published.missing_runs(compared, table):
        print(f"no record       {missing.variant}, {missing.values} values: `{missing.command}`")
    return REGRESSION if any(each.verdict == "differs" for each in compared) else OK
