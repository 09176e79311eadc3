"""Commands that get things ready: datasets, weights, stored features. Part of the command line in
cli.py.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmark.commands import options as opt
from benchmark.errors import MISSING, UserError

if TYPE_CHECKING:
    from benchmark.data.prepare_events import PrepareEvent

app = typer.Typer(add_completion=False)


@app.command()
def prepare(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME...]", help="Datasets, suites, TOML files, or all."),
    ] = None,
    suite: opt.Suite = opt.NOTHING,
    backbone: opt.Backbone = opt.NOTHING,
    data_root: opt.DataRoot = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--source", metavar="LABEL", help="Take it from there, opt-in sources included."
        ),
    ] = None,
    accept_licence: Annotated[
        list[str],
        typer.Option(
            "--accept-licence",
            callback=opt.words,
            metavar="NAME,...",
            help="Licences you accept, or all.",
        ),
    ] = opt.NOTHING,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every image again and compare.")
    ] = False,
    adopt: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="Use a folder you have, where it lies."),
    ] = None,
    status: Annotated[
        bool, typer.Option("--status", help="Only say what is there of every dataset.")
    ] = False,
    offline: opt.Offline = False,
    as_json: opt.Json = False,
    plain: opt.Plain = False,
) -> None:
    """Get datasets and weights ready: fetched or adopted, checked, written down. What is ready
    already is only checked.

    Exit code 4 where something is missing or a licence is not accepted; what to do then is printed
    at the end.
    """
    from benchmark import data

    asked = [*(names or []), *suite]
    if status:
        return _show(_status(data_root), as_json)
    if not asked and not backbone:
        raise UserError(
            f"prepare what? Name datasets, suites ({', '.join(data.suites())}), all, or a --backbone; --status shows what is there"
        )
    events: list[PrepareEvent] = []
    if asked:
        from benchmark.data.preparation import prepare_datasets

        expected = prepare_datasets(
            asked, data_root, accept_licence, source, adopt, verify, offline
        )
        _tell_licences(asked, data_root)
        events = _shown(expected, plain or as_json)
    failures = [(event.dataset, event.error) for event in events if event.error]
    failures += _weights(backbone, offline)
    if as_json:
        print(json.dumps(_outcomes(events, backbone, failures), indent=1))
    raise typer.Exit(_told(failures))


def _shown(events: Any, plain: bool) -> list[PrepareEvent]:
    """All events, after they were shown as they came; those without an end in them (progress) are
    dropped.
    """
    from rich.console import Console

    from benchmark.commands import live, live_prepare

    console = Console(stderr=True)
    view = (
        live_prepare.lines(console)
        if live.wants_plain(console, plain)
        else live_prepare.bars(console)
    )
    ends: list[PrepareEvent] = []
    with view as show:
        for event in events:
            show(event)
            if event.step in ("ready", "failed"):
                ends.append(event)
    return ends


def _tell_licences(asked: Sequence[str], root: Path | None) -> None:
    """The licence of whatever may have to be fetched, before anything is."""
    from benchmark import data
    from benchmark.data import catalog

    for name in catalog.expand(asked):
        spec = data.read_spec(name)
        if not data.prepared(name, root) and spec.licence:
            print(f"licence of {spec.name}: {spec.licence}", file=sys.stderr)


def _weights(names: Sequence[str], offline: bool) -> list[tuple[str, UserError]]:
    """Bring the weights of backbones here; those that cannot be had."""
    from benchmark.backbones.download import prepare_backbone

    failures = []
    for name in names:
        try:
            print(f"{name}: {prepare_backbone(name, offline)}", file=sys.stderr)
        except UserError as error:
            failures.append((name, error))
    return failures


def _outcomes(
    events: Sequence[PrepareEvent],
    weights: Sequence[str],
    failures: Sequence[tuple[str, UserError]],
) -> list[dict[str, Any]]:
    failed = {name: str(error) for name, error in failures}
    named = [("dataset", event.dataset, event.text) for event in events] + [
        ("backbone", name, "") for name in weights
    ]
    return [
        {"kind": kind, "name": name, "ready": name not in failed, "text": failed.get(name, text)}
        for kind, name, text in named
    ]


def _told(failures: Sequence[tuple[str, UserError]]) -> int:
    """Say at the end what a person has to do; the exit code."""
    if not failures:
        return 0
    print(f"\n{len(failures)} not ready:", file=sys.stderr)
    for name, error in failures:
        sentence = str(error)
        print(
            f"  {sentence if sentence.startswith(name) else f'{name}: {sentence}'}", file=sys.stderr
        )
    codes = [error.exit_code for _, error in failures]
    return MISSING if MISSING in codes else codes[0]


def _status(root: Path | None) -> list[dict[str, Any]]:
    from benchmark import data
    from benchmark.data.availability import availability
    from benchmark.data.locations import read_receipt

    return [
        {"name": row.name, "state": row.state, "images": row.images or None, "classes": row.classes}
        | {
            "accepted": bool(read_receipt(data.read_spec(row.name), root).licence),
            "registration": row.registration,
        }
        | {
            "from": row.sources or None,
            "licence": row.licence or None,
            "folder": row.folder or None,
        }
        for row in availability(root)
    ]


def _show(found: list[dict[str, Any]], as_json: bool) -> None:
    from benchmark.commands import listing

    print(json.dumps(found, indent=1) if as_json else listing.text(found))


@app.command()
def features(
    backbone: opt.Backbone = opt.NOTHING,
    clear: Annotated[
        bool, typer.Option("--clear", help="Delete what is shown; it can be computed again.")
    ] = False,
    older_than: Annotated[
        float,
        typer.Option(
            "--older-than", metavar="DAYS", help="Only what was written so long ago.", min=0
        ),
    ] = 0,
    as_json: opt.Json = False,
) -> None:
    """Show the stored image features, by backbone and kind of view, or clear them."""
    from benchmark.backbones import weights
    from benchmark.features import inventory
    from benchmark.paths import cache_dir

    root = cache_dir() / "features"
    found = inventory.select(
        inventory.list_files(root), [weights.canonical(name) for name in backbone], older_than
    )
    if clear:
        inventory.remove(root, found)
    rows = inventory.table_rows(found)
    if rows or as_json:
        _show(rows, as_json)
    size_mb = sum(shard.size_bytes for shard in found) / 1e6
    verb = "cleared from" if clear else "in"
    print(
        f"{sum(shard.rows for shard in found)} rows, {size_mb:.1f} MB {verb} {root}",
        file=sys.stderr,
    )
