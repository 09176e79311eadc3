"""What a grid would cost: cells on record, missing cells, and how long those may take.

Computes no cell.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark import methods
from benchmark.commands.grid_run import RunRequest
from benchmark.commands.printing import forecast_text, print_json
from benchmark.compute import runner
from benchmark.compute.history import Forecast, History
from benchmark.errors import counted
from benchmark.grid import Cell
from benchmark.records.index import read_records
from benchmark.records.kept_adapters import is_kept
from benchmark.records.record import CellKey, Identity, Record, cell_key, key
from benchmark.records.store import Store

STATES = ("done", "missing", "failed before")


@dataclass(frozen=True, kw_only=True)
class PlannedCell:
    """A cell before it runs."""

    cell: Cell
    key: str
    record: Record | None
    failed: bool  # its last attempt left a log
    source_changed: bool  # the adapter's file is another than the record's, its version is not
    superseded: tuple[str, ...]  # keys of older records: of another version, data or weights
    forecast: Forecast | None  # None where no record tells, or none has to

    @property
    def state(self) -> str:
        """One of STATES."""
        return "done" if self.record else "failed before" if self.failed else "missing"


def print_plan(cells: Sequence[Cell], store: Store, request: RunRequest) -> None:
    """Print the plan of a grid as text, or as JSON."""
    planned = planned_cells(
        cells,
        store,
        request.data_root,
        device=request.device,
        accept_changed_data=request.accept_changed_data,
        keep=request.keep,
    )
    if request.as_json:
        print_json(as_dict(planned))
    else:
        print(text(planned))


def planned_cells(
    cells: Sequence[Cell],
    store: Store,
    data_root: Path | None = None,
    *,
    device: str = "auto",
    accept_changed_data: bool = False,
    keep: bool = False,
) -> list[PlannedCell]:
    """The state of every cell, in order; under `keep` one is done where its adapter is kept too.
    Raises UserError as runner.plan does.
    """
    identities = runner.plan(
        cells, root=data_root, device=device, accept_changed_data=accept_changed_data
    )
    records = {record.key: record for record in read_records(store, [])}
    done = {name: each for name, each in records.items() if not keep or is_kept(store, name)}
    older = _by_cell(records.values())
    history = History.of(records.values())
    planned = []
    for cell, identity in identities:
        name = key(identity)
        planned.append(
            PlannedCell(
                cell=cell,
                key=name,
                record=done.get(name),
                failed=store.failure(name).is_file(),
                source_changed=_source_changed(records.get(name)),
                superseded=_superseded(identity, name, older),
                forecast=None if name in done else history.forecast(cell),
            )
        )
    return planned


def eta_s(planned: Iterable[PlannedCell]) -> float | None:
    """Seconds for all missing cells; None where of some of them nothing is known, as of methods
    that never ran.
    """
    forecasts = [each.forecast for each in planned if not each.record]
    known = [each.seconds for each in forecasts if each]
    return sum(known) if len(known) == len(forecasts) else None


def as_dict(planned: Sequence[PlannedCell]) -> dict[str, Any]:
    """What `plan --json` prints."""
    return {
        "total": len(planned),
        "missing": sum(not each.record for each in planned),
        "eta_s": eta_s(planned),
        "cells": [_cell_dict(each) for each in planned],
    }


def _cell_dict(planned: PlannedCell) -> dict[str, Any]:
    return {
        "cell": str(planned.cell),
        "key": planned.key,
        "state": planned.state,
        "source_changed": planned.source_changed,
        "superseded": list(planned.superseded),
        "expected_s": planned.forecast and planned.forecast.seconds,
        "expected_from": planned.forecast.records if planned.forecast else 0,
    }


def text(planned: Sequence[PlannedCell]) -> str:
    """What `plan` prints: a line per method and backbone, the sum, and warnings."""
    groups: dict[str, list[PlannedCell]] = defaultdict(list)
    for each in planned:
        released = f" as {each.cell.preset}" if each.cell.preset else ""
        groups[f"{each.cell.method}{released}, {each.cell.backbone}"].append(each)
    lines = [f"{name}: {_counts(group)}" for name, group in groups.items()]
    missing = [each.forecast for each in planned if not each.record]
    to_go = f"; to go: {forecast_text(missing)}" if any(missing) else ""
    return "\n".join([*lines, f"in all: {_counts(planned)}{to_go}", *_warnings(planned)])


def _warnings(planned: Sequence[PlannedCell]) -> list[str]:
    """Methods whose file changed since their records, and how many records are superseded."""
    changed = sorted({each.cell.method for each in planned if each.source_changed})
    warnings = [
        f"the file of {name} has changed since its records, its version has not: "
        "raise the version if numbers change"
        for name in changed
    ]
    older = sum(len(each.superseded) for each in planned)
    if older:
        why = "made with another version, code, dataset, weights or rules of the suite"
        verb = "is" if older == 1 else "are"
        warnings.append(f"{counted(older, 'record')} of these cells {verb} superseded: {why}")
    return warnings


def _counts(planned: Sequence[PlannedCell]) -> str:
    """'45 cells: 30 done, 15 missing'."""
    states = {state: sum(each.state == state for each in planned) for state in STATES}
    shown = [f"{count} {state}" for state, count in states.items() if count]
    return f"{counted(len(planned), 'cell')}: {', '.join(shown)}"


def _source_changed(record: Record | None) -> bool:
    if not record or "adapter_source" not in record.provenance:
        return False
    digest = methods.card(record.identity.method).source_digest
    return bool(record.provenance["adapter_source"] != digest)


def _superseded(
    identity: Identity, name: str, older: Mapping[CellKey, Sequence[Record]]
) -> tuple[str, ...]:
    """Keys of other records of the same cell and hyper-parameters, sorted."""
    same = [
        other
        for other in older.get((_alike(identity), identity.shots, identity.seed), ())
        if _same_params(other, identity)
    ]
    return tuple(sorted(other.key for other in same if other.key != name))


def _same_params(record: Record, identity: Identity) -> bool:
    """Whether the hyper-parameters that both versions of a method have are equal."""
    shared = record.identity.params.keys() & identity.params.keys()
    return all(record.identity.params[name] == identity.params[name] for name in shared)


def _by_cell(records: Iterable[Record]) -> dict[CellKey, list[Record]]:
    families: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        families[record.family].append(record)
    by_cell: dict[CellKey, list[Record]] = defaultdict(list)
    for family in families.values():
        alike = _alike(family[0].identity)
        for record in family:
            by_cell[alike, record.identity.shots, record.identity.seed].append(record)
    return by_cell


def _alike(named: Identity) -> CellKey:
    return cell_key(named, "params", "shots", "seed")
