"""`export`: write the leaderboard as CSV, or the classifier matrix of a kept adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.commands import options as opt
from benchmark.commands.printing import warn

Out = Annotated[
    Path | None,
    typer.Option(
        "--out", parser=opt.path, metavar="FILE", help="Where to write.", show_default="stdout"
    ),
]
Adapter = Annotated[
    str,
    typer.Option(
        "--adapter",
        metavar="KEY",
        help="Write the classifier matrix of a kept adapter instead: logits = f W' + b of a unit "
        "image feature f. The ending of --out says how: .csv, .safetensors or .npz.",
        show_default=False,
    ),
]


def export(
    results: opt.Results = opt.DEFAULT,
    out: Out = None,
    protocol: opt.OfProtocol = "",
    superseded: opt.Superseded = False,
    adapter: Adapter = "",
    device: opt.Device = "auto",
    method: opt.Trusted = opt.NOTHING,
) -> None:
    """Write the leaderboard as CSV, one row per method x dataset x shots x backbone x protocol."""
    if adapter:
        _export_adapter(adapter, results, out, device, method)
        return
    from benchmark.paths import write_atomic
    from benchmark.records.store import Store
    from benchmark.report import grouping, record_selection
    from benchmark.report.calibration import Calibrations
    from benchmark.report.leaderboard import leaderboard_csv

    notes: list[str] = []
    store = Store(results)
    records = record_selection.select_records(store, notes, protocol=protocol)
    groups = grouping.group_records(records, notes, superseded)
    text = leaderboard_csv(groups, Calibrations(store))
    if out:
        write_atomic(out, text.encode())
    else:
        print(text, end="")
    warn(notes)


def _export_adapter(
    key: str, results: Path, out: Path | None, device: str, trusted: list[str]
) -> None:
    from benchmark.compute.classifier_matrix import as_bytes, classifier_matrix, require_kind
    from benchmark.compute.loaded_adapters import load_adapter
    from benchmark.paths import write_atomic

    kind = require_kind(out)
    matrix = classifier_matrix(load_adapter(key, results, device=device, trusted=trusted))
    content = as_bytes(matrix, kind)
    if out:
        write_atomic(out, content)
    else:
        print(content.decode(), end="")
