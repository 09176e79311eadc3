"""Run the cell of a record again: are the counts the same?"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark import methods, text_sets
from benchmark.compute import runner
from benchmark.errors import UserError, one_line
from benchmark.grid import Cell
from benchmark.records.keys import find_key
from benchmark.records.record import Identity, Record, key
from benchmark.records.store import Store, read

TRACED = ("commit", "device", "threads", "packages")  # provenance that can move a number
ABSENT = object()


@dataclass(frozen=True)
class Rerun:
    """A record before and now, and the fields of the identity that changed in between."""

    before: Record
    now: Record
    changed: list[str]

    @property
    def identical(self) -> bool:
        """Whether the counts of all classes are equal."""
        return self.before.counts == self.now.counts


def find(store: Store, prefix: str) -> Record:
    """The record whose key is or begins with `prefix`; UserError unless there is exactly one."""
    return read(store.path(find_key(store.root / "records", prefix, "record", store.root)))


def cell_of(identity: Identity) -> Cell:
    """The cell of an identity; its parameters are those that differ from today's defaults."""
    defaults = methods.card(identity.method).defaults
    changed = {
        name: value
        for name, value in identity.params.items()
        if defaults.get(name, ABSENT) != value
    }
    return Cell(
        method=identity.method,
        dataset=identity.dataset,
        shots=identity.shots,
        seed=identity.seed,
        backbone=identity.backbone,
        sources=tuple(sorted(identity.sources)),
        source_shots=identity.source_shots,
        precision=identity.precision,
        val=identity.val,
        sampler=identity.sampler,
        classes=identity.classes,
        preset=identity.preset,
        selection=identity.selection,
        templates=identity.templates,
        underscores=identity.underscores,
        texts=identity.texts,
        evaluation=identity.evaluation,
        learned_on=next(iter(identity.learned_on), ""),
        params=tuple(sorted(changed.items())),
    )


def rerun(
    record: Record, data_root: Path | None, device: str, trusted: Sequence[str] = ()
) -> Rerun:
    """Run the record's cell in an empty store.

    Raises UserError where the cell fails, where its method is a plug-in not named in `trusted`, or
    where its texts came from a file.
    """
    methods.require_trusted([record.identity.method], trusted)
    text_sets.require_shipped(record.identity.texts)
    cell = cell_of(record.identity)
    ((_, identity),) = runner.plan([cell], root=data_root, device=device)
    with tempfile.TemporaryDirectory(prefix="fsbench-replay-") as folder:
        (outcome,) = runner.run([cell], Store(Path(folder)), root=data_root, device=device)
    if not outcome.record:
        raise UserError(f"{cell} failed: {outcome.error}", exit_code=1)
    return Rerun(record, outcome.record, _changes(record.identity, identity))


def _changes(before: Identity, now: Identity) -> list[str]:
    """Fields of the identity that changed; none where the key is the same."""
    if key(before) == key(now):
        return []
    old, new = before.model_dump(), now.model_dump()
    return [f"{name} was {old[name]}, is {new[name]}" for name in old if old[name] != new[name]]


def text(result: Rerun) -> str:
    """'identical', or how many test images moved and what could have moved them; either with what
    changed of the cell.
    """
    before, now = result.before.counts, result.now.counts
    name = f"{result.before.key} ({cell_of(result.before.identity)})"
    if result.identical:
        same = f"{name}: identical, {sum(now.correct)} of {sum(now.total)} right"
        return "\n".join([same, *result.changed])
    moved = sum(abs(old - new) for old, new in zip(before.correct, now.correct, strict=False))
    old, new = result.before.provenance, result.now.provenance
    lines = [
        f"{name}: {sum(before.correct)} of {sum(before.total)} right then, "
        f"{sum(now.correct)} of {sum(now.total)} now",
        f"at least {moved} test images changed sides, counted class by class",
        *result.changed,
    ]
    for field in TRACED:
        if old.get(field) != new.get(field):
            lines.append(one_line(f"{field} was {old.get(field)}, is {new.get(field)}"))
    return "\n".join(lines)
