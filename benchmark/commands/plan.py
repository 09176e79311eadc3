"""What a grid would cost: which cells are on record, which are not, and how long those may take.
Computes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark import methods
from benchmark.commands.live import duration
from benchmark.compute import runner
from benchmark.compute.history import History
from benchmark.grid import Cell
from benchmark.records.record import Identity, Record, key
from benchmark.records.store import Store


@dataclass(frozen=True)
class Item:
    """A cell before it runs."""

    cell: Cell
    key: str
    record: Record | None
    failed: bool  # its last attempt left a log
    source_changed: bool  # the adapter's file is not what made the record, though its version is
    superseded: tuple[
        str, ...
    ]  # keys of records of the same cell under an older version, dataset, weights or protocol
    expected_s: float | None  # from records of the same method; None where there are none

    @property
    def state(self) -> str:
        return "done" if self.record else "failed before" if self.failed else "missing"


def look(
    cells: Sequence[Cell],
    store: Store,
    root: Path | None = None,
    *,
    accept_changed_data: bool = False,
) -> list[Item]:
    """One item per cell, in order. Raises UserError as runner.plan does."""
    planned = [
        (cell, named, key(named))
        for cell, named in runner.plan(cells, root=root, accept_changed_data=accept_changed_data)
    ]
    records = {record.key: record for record in store.records()}
    older = _by_cell(records.values())
    history = History.of(records.values())
    return [
        Item(
            cell=cell,
            key=name,
            record=records.get(name),
            failed=store.failure(name).is_file(),
            source_changed=_source_changed(records.get(name)),
            superseded=tuple(
                sorted(
                    other.key
                    for other in older[_cell_of(named)]
                    if other.key != name and _same_choices(other, named)
                )
            ),
            expected_s=None if name in records else history.expected_s(cell),
        )
        for cell, named, name in planned
    ]


def eta_s(items: Iterable[Item]) -> float | None:
    """Seconds for all missing cells; cells of methods never run before are taken at the mean of the
    others; None if all are.
    """
    missing = [item for item in items if not item.record]
    known = [item.expected_s for item in missing if item.expected_s is not None]
    return sum(known) / len(known) * len(missing) if known else None


def as_dict(items: Sequence[Item]) -> dict[str, Any]:
    """What `plan --json` prints."""
    cells = [
        {
            "cell": str(item.cell),
            "key": item.key,
            "state": item.state,
            "source_changed": item.source_changed,
        }
        | {"superseded": list(item.superseded), "expected_s": item.expected_s}
        for item in items
    ]
    return {
        "total": len(items),
        "missing": sum(not item.record for item in items),
        "eta_s": eta_s(items),
        "cells": cells,
    }


def text(items: Sequence[Item]) -> str:
    """What `plan` prints: a line per method and backbone, then what a reader should know before the
    grid starts.
    """
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        groups[f"{item.cell.method}, {item.cell.backbone}"].append(item)
    lines = [f"{name}: {_counts(group)}" for name, group in groups.items()]
    eta = eta_s(items)
    lines.append(f"in all: {_counts(items)}" + (f"; about {duration(eta)} to go" if eta else ""))
    changed = sorted({item.cell.method for item in items if item.source_changed})
    lines += [
        f"the file of {name} has changed since its records, its version has not: raise the version if numbers change"
        for name in changed
    ]
    older = sum(len(item.superseded) for item in items)
    lines += (
        [
            f"{older} records of these cells are superseded: another version, dataset, weights or protocol"
        ]
        if older
        else []
    )
    return "\n".join(lines)


def _counts(items: Sequence[Item]) -> str:
    """'45 cells: 30 done, 15 missing'."""
    states = {
        state: sum(item.state == state for item in items)
        for state in ("done", "missing", "failed before")
    }
    return f"{len(items)} cells: " + ", ".join(
        f"{count} {state}" for state, count in states.items() if count
    )


def _source_changed(record: Record | None) -> bool:
    if not record or "adapter_source" not in record.provenance:
        return False
    return bool(
        record.provenance["adapter_source"] != methods.card(record.identity.method).source_digest
    )


def _cell_of(named: Identity) -> tuple[object, ...]:
    """What the user asks for, without the versions and digests that tell one answer from another."""
    sources = tuple(sorted(named.sources))
    asked = (
        named.method,
        named.dataset,
        named.classes,
        named.shots,
        named.seed,
        named.sampler,
        named.val,
        named.backbone,
    )
    return (*asked, sources)


def _same_choices(record: Record, named: Identity) -> bool:
    """Whether the hyper-parameters agree; a method of another version may have had others, which
    make no difference.
    """
    shared = record.identity.params.keys() & named.params.keys()
    return all(record.identity.params[name] == named.params[name] for name in shared)


def _by_cell(records: Iterable[Record]) -> dict[tuple[object, ...], list[Record]]:
    found: dict[tuple[object, ...], list[Record]] = defaultdict(list)
    for record in records:
        found[_cell_of(record.identity)].append(record)
    return found
