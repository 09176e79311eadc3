"""What `run` prints about outcomes: a JSON line each, tables at the end, and what failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from benchmark.commands import printing
from benchmark.commands.printing import say
from benchmark.compute.runner import Outcome
from benchmark.errors import counted
from benchmark.records.store import Store
from benchmark.report import grouping, protocol_tables, tables

CELL_FIELDS = ("method", "dataset", "shots", "seed", "backbone")


def as_dict(outcome: Outcome, store: Store) -> dict[str, Any]:
    """One line of `run --json`."""
    cell, record = outcome.cell, outcome.record
    facts: dict[str, Any] = {name: getattr(cell, name) for name in CELL_FIELDS}
    facts |= {"key": outcome.key, "params": dict(cell.params)}
    if not record:
        log = str(store.failure(outcome.key))
        return facts | {"status": "failed", "error": outcome.error, "log": log}
    return facts | {
        "status": "cached" if outcome.cached else "computed",
        "accuracy": round(record.accuracy, 6),
        "correct": sum(record.counts.correct),
        "total": sum(record.counts.total),
    }


def print_tables(outcomes: Sequence[Outcome], out: Console) -> None:
    """Print dataset x shots for every method; with several methods also their means. Of other
    protocols than few-shot the tables of their own.
    """
    groups = grouping.group_records(outcome.record for outcome in outcomes if outcome.record)
    several = any(len(by_line) > 1 for by_line in groups.values())
    made = [
        table
        for kind in (tables.KINDS[:2] if several else tables.KINDS[:1])
        for table in tables.tables(groups, kind)
    ]
    made += protocol_tables.tables(groups, tables.KINDS[0])
    if made:
        out.print()
        printing.print_tables(made, out)


def print_failures(outcomes: Sequence[Outcome], store: Store, err: Console) -> None:
    """Print every cell that failed, with its reason and log."""
    failed = [outcome for outcome in outcomes if outcome.error]
    if failed:
        counts = f"{len(failed)} of {counted(len(outcomes), 'cell')} failed"
        say(err, f"\n{counts}; the same command tries them again:")
    for outcome in failed:
        say(err, f"  {outcome.cell}: {outcome.error} (log: {store.failure(outcome.key)})")
