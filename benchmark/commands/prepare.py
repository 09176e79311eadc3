"""`prepare`: get datasets and weights ready."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmark.commands import options as opt
from benchmark.commands.printing import print_json
from benchmark.errors import MISSING, UserError

if TYPE_CHECKING:
    from benchmark.data.prepare_events import PrepareEvent

ON_REQUEST = "*"  # marks a source that is never taken unasked
Failures = Sequence[tuple[str, UserError]]  # what is not ready, and why
Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAME...]", help="Datasets, suites, TOML files, or all."),
]
Source = Annotated[
    str | None,
    typer.Option("--source", metavar="LABEL", help="Take it from there, opt-in sources included."),
]
AcceptLicence = Annotated[
    list[str],
    typer.Option(
        "--accept-licence",
        callback=opt.words,
        metavar="NAME,...",
        help="Licences you accept, or all.",
    ),
]
Verify = Annotated[bool, typer.Option("--verify", help="Read and decode every image and compare.")]
AdoptFrom = Annotated[
    Path | None,
    typer.Option(
        "--from", parser=opt.path, metavar="DIR", help="Use a folder you have, where it lies."
    ),
]
Status = Annotated[bool, typer.Option("--status", help="Only say what is there of every dataset.")]


def prepare(
    names: Names = None,
    suite: opt.Suite = opt.NOTHING,
    backbone: opt.Backbone = opt.NOTHING,
    data_root: opt.NewDataRoot = None,
    source: Source = None,
    accept_licence: AcceptLicence = opt.NOTHING,
    verify: Verify = False,
    adopt_from: AdoptFrom = None,
    status: Status = False,
    offline: opt.Offline = False,
    as_json: opt.Json = False,
    plain: opt.Plain = False,
) -> None:
    """Get datasets and weights ready: fetched or adopted, and checked.

    What is ready already is only checked. Exit code 4 where something is missing or a licence is
    not accepted; what to do then is printed at the end.
    """
    if status:
        return _print_status(data_root, as_json)
    wanted = [*(names or []), *suite]
    _require_something(wanted, backbone)
    events: list[PrepareEvent] = []
    if wanted:
        from benchmark.data import preparation

        _print_licences(wanted, data_root)
        steps = preparation.prepare_datasets(
            wanted, data_root, accept_licence, source, adopt_from, verify, offline
        )
        events = _show(steps, plain or as_json)
    failures = [(event.dataset, event.error) for event in events if event.error]
    failures += _prepare_weights(backbone, offline)
    if as_json:
        print_json(_as_dicts(events, backbone, failures))
    _print_failures(failures)
    raise typer.Exit(_exit_code(failures))


def _require_something(wanted: Sequence[str], backbones: Sequence[str]) -> None:
    from benchmark import data

    if not wanted and not backbones:
        raise UserError(
            f"prepare what? Name datasets, suites ({', '.join(data.suites())}), all, "
            "or a --backbone; --status shows what is there"
        )


def _show(events: Iterable[PrepareEvent], plain: bool) -> list[PrepareEvent]:
    """Show events as they come; return those that end the preparation of a dataset."""
    from rich.console import Console

    from benchmark.commands.prepare_view import prepare_view

    ends: list[PrepareEvent] = []
    with prepare_view(Console(stderr=True), plain) as on_event:
        for event in events:
            on_event(event)
            if event.step in ("ready", "failed"):
                ends.append(event)
    return ends


def _print_licences(names: Sequence[str], data_root: Path | None) -> None:
    """Print the licence of whatever may have to be fetched, before anything is."""
    from benchmark import data
    from benchmark.data import catalog

    for name in catalog.expand(names):
        spec = data.read_spec(name)
        if not data.prepared(name, data_root) and spec.licence:
            print(f"licence of {spec.name}: {spec.licence}", file=sys.stderr)


def _prepare_weights(names: Sequence[str], offline: bool) -> list[tuple[str, UserError]]:
    """Download the weights of backbones and load each once; return those that failed."""
    from benchmark.backbones.download import prepare_backbone

    failures = []
    for name in names:
        if not offline:
            print(f"{name}: fetched where it is not here", file=sys.stderr)
        try:
            file = prepare_backbone(name, offline)
            print(f"{name}: {file}: {_described(name)}", file=sys.stderr)
        except UserError as error:
            failures.append((name, error))
    return failures


def _described(name: str) -> str:
    """What a backbone turns out to be when it is loaded."""
    from benchmark.backbones import abilities, clip, weights
    from benchmark.backbones.preprocessing import guessed

    name = weights.canonical(name)
    backbone = clip.load(name)
    wanted, offered = backbone.preprocessing, abilities.offered(name)
    millions = sum(weight.numel() for weight in backbone.model.parameters()) / 1e6
    lacking = [what for need, what in abilities.ABILITIES.items() if need not in offered]
    return "; ".join(
        [
            f"{millions:.1f} million parameters, features of length {backbone.dim}",
            f"pictures {wanted.width} x {wanted.height} ({wanted.fit}, {wanted.interpolation})",
            *([f"it has not: {', '.join(lacking)}"] if lacking else []),
            *filter(None, [guessed(name)]),
        ]
    )


def _as_dicts(
    events: Sequence[PrepareEvent], backbones: Sequence[str], failures: Failures
) -> list[dict[str, Any]]:
    """What `prepare --json` prints."""
    errors = {name: str(error) for name, error in failures}
    prepared = [("dataset", event.dataset, event.text) for event in events]
    prepared += [("backbone", name, "") for name in backbones]
    return [
        {"kind": kind, "name": name, "ready": name not in errors, "text": errors.get(name, text)}
        for kind, name, text in prepared
    ]


def _print_failures(failures: Failures) -> None:
    """Print at the end what a person has to do."""
    if failures:
        print(f"\n{len(failures)} not ready:", file=sys.stderr)
    for name, error in failures:
        sentence = str(error)
        named = sentence if sentence.startswith(name) else f"{name}: {sentence}"
        print(f"  {named}", file=sys.stderr)


def _exit_code(failures: Failures) -> int:
    codes = [error.exit_code for _, error in failures]
    if not codes:
        return 0
    return MISSING if MISSING in codes else codes[0]


def _print_status(data_root: Path | None, as_json: bool) -> None:
    """Print what is there of every dataset."""
    from benchmark.commands.row_tables import print_rows

    rows = _status_rows(data_root)
    if as_json:
        print_json(rows)
        return
    shown = [row | {"from": _marked(row), "licence": _licence_text(row)} for row in rows]
    print_rows(shown, ("name", "state", "images", "from", "licence"))
    print(f"{ON_REQUEST} only where you ask for it, as in `prepare dtd --source mirror`")


def _marked(row: Mapping[str, Any]) -> str:
    """Where a dataset can be had, short enough for a terminal of 80 columns."""
    return (row["from"] or "-").replace(" (opt-in)", ON_REQUEST)


def _licence_text(row: Mapping[str, Any]) -> str:
    """The licence, after what a person has done or has to do for it."""
    steps = [
        word
        for word, applies in (
            ("accepted", row["accepted"]),
            ("registration needed", row["registration"]),
        )
        if applies
    ]
    return ": ".join([*steps, row["licence"] or "-"])


def _status_rows(data_root: Path | None) -> list[dict[str, Any]]:
    from benchmark import data
    from benchmark.data.availability import availability
    from benchmark.data.locations import read_receipt

    return [
        {
            "name": row.name,
            "state": row.state,
            "images": row.images or None,
            "classes": row.classes,
            "accepted": bool(read_receipt(data.read_spec(row.name), data_root).licence),
            "registration": row.registration,
            "from": row.sources or None,
            "licence": row.licence or None,
            "folder": row.folder or None,
        }
        for row in availability(data_root)
    ]
