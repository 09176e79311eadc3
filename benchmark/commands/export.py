"""`export`: write results as data, or the classifier matrix of a kept adapter."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from benchmark.commands import export_options as own
from benchmark.commands import options as opt
from benchmark.commands.option_fields import (
    RecordFilters,
    given,
    refuse_ignored,
    refuse_trust_alone,
    takes_fields,
)
from benchmark.commands.printing import warn
from benchmark.errors import UserError

OF_ADAPTERS = {
    "adapter",
    "results",
    "out",
    "device",
    "methods",
    "backbones",
}  # what --adapter obeys

if TYPE_CHECKING:
    import pandas as pd

    from benchmark.records.record import Record
    from benchmark.report.image_results import ImageResults


@takes_fields
def export(
    context: typer.Context,
    filters: RecordFilters,
    results: opt.Results = opt.DEFAULT,
    out: opt.Output = None,
    form: own.Format = None,
    per_record: own.Records = False,
    per_class: own.PerClass = False,
    confusion: own.Confusion = False,
    to: own.To = None,
    online: own.Online = False,
    adapter: own.Adapter = None,
    device: opt.Device = "auto",
    superseded: opt.Superseded = False,
    data_root: opt.DataRoot = None,
) -> None:
    """Write the leaderboard, one row per method x dataset x shots x backbone x protocol.

    Or a row per record, per class, or per pair of classes. docs/data.md describes the columns.
    """
    _refuse_ignored(context, adapter, to, filters)
    if adapter is not None:
        _export_adapter(adapter, results, out, device, filters)
        return
    from benchmark.commands.record_choice import chosen_records, files_of_datasets
    from benchmark.records.store import Store
    from benchmark.report.grouping import current
    from benchmark.report.image_results import ImageResults

    form = _format(form, out)
    kinds = {"--records": per_record, "--per-class": per_class, "--confusion": confusion}
    kinds |= {"--to": to is not None}
    chosen = [flag for flag, given in kinds.items() if given]
    if len(chosen) > 1:
        raise UserError(f"{' and '.join(chosen)} are tables of their own; take one of them")
    notes: list[str] = []
    store = Store(results)
    records = chosen_records(store, filters, notes)
    if to is not None:
        _hand_over(records if superseded else current(records, notes), to, online)
    else:
        kind = chosen[0] if chosen else "--leaderboard"
        images = ImageResults(store, data_root, files_of_datasets(filters))
        _write(_frame(kind, records, notes, superseded, images, form), out, form)
    warn(notes)


def _refuse_ignored(
    context: typer.Context, adapter: str | None, to: str | None, filters: RecordFilters
) -> None:
    """UserError for options on the command line that would change nothing."""
    if adapter is not None:
        refuse_ignored(context, given(context) - OF_ADAPTERS, beside="--adapter")
    else:
        refuse_ignored(context, {"device"}, without="--adapter")
    if to is not None:
        refuse_ignored(context, {"out", "form"}, beside="--to")
    if (to or "").partition(":")[0] != "wandb":
        refuse_ignored(context, {"online"}, without="--to wandb:PROJECT")
    refuse_trust_alone(context, filters.config)


def _hand_over(records: Sequence[Record], to: str, online: bool) -> None:
    from benchmark.report import sinks

    with sinks.opened(to, online=online) as sink:
        for record in records:
            sink(record)
    print(f"{len(records)} records handed to {to}")


def _format(form: str | None, out: Path | None) -> str:
    ending = out.suffix.lower().lstrip(".") if out else ""
    if form is None and ending not in ("", *own.FORMATS):
        raise UserError(
            f"the ending '.{ending}' of --output says no format; take .csv or .parquet, or add "
            "--format"
        )
    form = opt.one_of("format", form or ending or "csv", own.FORMATS)
    if form == "parquet" and out is None:
        raise UserError("--format parquet writes a file; name it with --output FILE")
    return form


def _frame(
    kind: str,
    records: list[Record],
    notes: list[str],
    superseded: bool,
    images: ImageResults,
    form: str,
) -> pd.DataFrame:
    from benchmark.report import class_frames, frames, grouping, leaderboard
    from benchmark.report.calibration import Calibrations

    kept = records if superseded else grouping.current(records, notes)
    if kind == "--records":
        return frames.sorted_frame(kept)
    if kind == "--per-class":
        return class_frames.class_frame(images, kept)
    if kind == "--confusion":
        return class_frames.confusion_frame(images, kept, notes)
    groups = grouping.group_records(kept, notes, superseded=True)
    frame = leaderboard.leaderboard_frame(groups, Calibrations(images.store))
    return leaderboard.with_decimals(frame) if form == "csv" else frame


def _write(frame: pd.DataFrame, out: Path | None, form: str) -> None:
    from benchmark.paths import write_atomic

    if form == "parquet" and out:
        content = io.BytesIO()
        frame.to_parquet(content, index=False)
        write_atomic(out, content.getvalue())
        return
    text = frame.to_csv(index=False, lineterminator="\n")
    if out:
        write_atomic(out, text.encode())
    else:
        print(_shown(text) if sys.stdout.isatty() else text, end="")


def _shown(text: str) -> str:
    """As a terminal may see it: notes of strangers may hold anything."""
    return "".join(each if each.isprintable() or each == "\n" else "?" for each in text)


def _export_adapter(
    key: str, results: Path, out: Path | None, device: str, filters: RecordFilters
) -> None:
    from benchmark.compute.classifier_matrix import as_bytes, classifier_matrix, require_kind
    from benchmark.compute.loaded_adapters import load_adapter
    from benchmark.paths import write_atomic

    if len(filters.backbones) > 1:
        raise UserError("--adapter takes one --backbone, where the weights of the adapter lie")
    kind, backbone = require_kind(out), "".join(filters.backbones)
    adapter = load_adapter(key, results, device=device, backbone=backbone, trusted=filters.methods)
    content = as_bytes(classifier_matrix(adapter), kind)
    if out:
        write_atomic(out, content)
    else:
        print(content.decode(), end="")
