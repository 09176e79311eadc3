"""Drive a grid to its end: the view while it runs, the tables after it, and what the exit code says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmark import runner
from benchmark.commands import live
from benchmark.grid import Cell
from benchmark.record import key
from benchmark.report import lines, render, tables
from benchmark.runner import Outcome
from benchmark.store import Store

OK, FAILED, INTERRUPTED = 0, 1, 130


@dataclass(frozen=True)
class Manner:
    """How a grid is run and shown."""

    root: Path | None = None  # of the datasets
    accept_changed_data: bool = False
    device: str = "auto"
    force: bool = False
    plain: bool = False
    as_json: bool = False

    @property
    def data(self) -> dict[str, Any]:
        """Where the data lie and what is accepted of them, as the runner's arguments."""
        return {"root": self.root, "accept_changed_data": self.accept_changed_data}


def conduct(cells: Sequence[Cell], store: Store, manner: Manner, out: Console, err: Console) -> int:
    """Run all cells, show what came of them, return the exit code."""
    to_compute = sum(manner.force or not store.has(key(named)) for _, named in runner.plan(cells, **manner.data))
    view = _view(len(cells), to_compute, manner, err)
    outcomes: list[Outcome] = []
    interrupted = False
    try:
        with view as show:
            device = resolved(manner.device) if to_compute else "cpu"
            for outcome in runner.run(cells, store, **manner.data, device=device, force=manner.force, watch=show.stage):
                outcomes.append(outcome)
                _tell(outcome, store, show, manner, out)
    except KeyboardInterrupt:
        interrupted = True
    if not manner.as_json:
        show_tables(outcomes, out)
    _report_failures(outcomes, store, err)
    if interrupted:
        kept = sum(outcome.record is not None for outcome in outcomes)
        _say(err, f"interrupted: {kept} of {len(cells)} cells are kept in {store.root}; the same command goes on from there")
        return INTERRUPTED
    return FAILED if any(outcome.error for outcome in outcomes) else OK


def _view(total: int, to_compute: int, manner: Manner, err: Console) -> AbstractContextManager[live.View]:
    if live.wants_plain(err, manner.plain or manner.as_json):
        return live.lines(err, total)
    return live.bar(err, total, to_compute)


def resolved(device: str) -> str:
    """'auto' becomes a GPU where there is one; asked only when something has to be computed."""
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _tell(outcome: Outcome, store: Store, show: live.View, manner: Manner, out: Console) -> None:
    show.outcome(outcome)
    if manner.as_json:
        print(json.dumps(as_dict(outcome, store)), file=out.file, flush=True)


def as_dict(outcome: Outcome, store: Store) -> dict[str, Any]:
    """One line of `run --json`."""
    cell, record = outcome.cell, outcome.record
    facts: dict[str, Any] = {name: getattr(cell, name) for name in ("method", "dataset", "shots", "seed", "backbone")}
    facts |= {"key": outcome.key, "params": dict(cell.params)}
    if not record:
        return facts | {"status": "failed", "error": outcome.error, "log": str(store.failure(outcome.key))}
    counts = {"correct": sum(record.counts.correct), "total": sum(record.counts.total)}
    return facts | {"status": "found" if outcome.cached else "computed", "accuracy": round(record.accuracy, 6)} | counts


def show_tables(outcomes: Sequence[Outcome], out: Console) -> None:
    """Dataset x shots for every method; with several methods their means side by side as well."""
    groups = lines.group(outcome.record for outcome in outcomes if outcome.record)
    several = any(len(by_line) > 1 for by_line in groups.values())
    for kind in tables.KINDS[:2] if several else tables.KINDS[:1]:
        for table in tables.tables(groups, kind):
            out.print()
            out.print(render.terminal(table), soft_wrap=True, end="")


def _report_failures(outcomes: Sequence[Outcome], store: Store, err: Console) -> None:
    failed = [outcome for outcome in outcomes if outcome.error]
    if failed:
        _say(err, f"\n{len(failed)} of {len(outcomes)} cells failed; the same command tries them again:")
    for outcome in failed:
        _say(err, f"  {outcome.cell}: {outcome.error} (log: {store.failure(outcome.key)})")


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
