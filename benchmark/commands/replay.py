"""A record's cell, run again: are the counts the same?"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark import methods
from benchmark.compute import runner
from benchmark.errors import UserError, nearest
from benchmark.grid import Cell
from benchmark.records.record import Identity, Record, key
from benchmark.records.store import Store, read

TRACED = ("commit", "device", "threads", "packages")  # provenance that can move a number


@dataclass(frozen=True)
class Replay:
    """What was on record and what came out now. `drift` names what has changed in between and could
    explain a difference.
    """

    before: Record
    now: Record
    drift: list[str]

    @property
    def identical(self) -> bool:
        return self.before.counts == self.now.counts


def find(store: Store, name: str) -> Record:
    """The record of a key, or of the first digits of one; UserError where that is none or several."""
    if not name.isalnum() or len(name) > len(_KEY):  # a pattern or a path would look elsewhere
        raise UserError(
            f"'{name[:60]}' is no key of a record; keys are digits and letters, as '{_KEY}'"
        )
    keys = sorted(path.stem for path in (store.root / "records").glob(f"{name}*.json"))
    if len(keys) > 1 and name not in keys:
        raise UserError(
            f"'{name}' begins {len(keys)} keys ({', '.join(keys[:5])}); give more digits"
        )
    if not keys:
        every = [path.stem for path in (store.root / "records").glob("*.json")]
        hint = f"; {nearest(name, every)}" if every and len(every) < 50 else ""
        raise UserError(f"no record {name} in {store.root}{hint}")
    return read(store.path(name if name in keys else keys[0]))


def cell_of(named: Identity) -> Cell:
    """The cell that an identity was made from, with every parameter that is not the default of
    today's adapter.
    """
    card = methods.card(named.method)
    changed = tuple(
        sorted(
            (name, value)
            for name, value in named.params.items()
            if card.defaults.get(name, _ABSENT) != value
        )
    )
    sources = tuple(sorted(named.sources))
    return Cell(
        named.method,
        named.dataset,
        named.shots,
        named.seed,
        named.backbone,
        sources,
        named.val,
        named.sampler,
        named.classes,
        changed,
    )


_ABSENT = object()
_KEY = "b11fdd36fd8a"


def replay(record: Record, root: Path | None, device: str, trusted: Sequence[str] = ()) -> Replay:
    """Run the record's cell in an empty store. Raises UserError where it fails, or its method is
    nobody's that the user trusts.
    """
    methods.require_trusted([record.identity.method], trusted)
    cell = cell_of(record.identity)
    ((_, named),) = runner.plan([cell], root=root)
    drift = _drift(record.identity, named)
    with tempfile.TemporaryDirectory(prefix="fsbench-replay-") as folder:
        (outcome,) = runner.run([cell], Store(Path(folder)), root=root, device=device)
    if not outcome.record:
        raise UserError(f"{cell} failed: {outcome.error}", exit_code=1)
    return Replay(record, outcome.record, drift)


def _drift(before: Identity, now: Identity) -> list[str]:
    """Fields of the identity that are not what they were; none where the key is the same."""
    if key(before) == key(now):
        return []
    then, today = before.model_dump(), now.model_dump()
    return [
        f"{name} was {then[name]}, is {today[name]}" for name in then if then[name] != today[name]
    ]


def text(found: Replay) -> str:
    """'identical', or how many test images moved and what could have moved them."""
    before, now = found.before.counts, found.now.counts
    place = f"{found.before.key} ({cell_of(found.before.identity)})"
    if found.identical:
        return f"{place}: identical, {sum(now.correct)} of {sum(now.total)} right"
    moved = sum(abs(then - today) for then, today in zip(before.correct, now.correct, strict=False))
    lines = [
        f"{place}: {sum(before.correct)} of {sum(before.total)} right then, {sum(now.correct)} of {sum(now.total)} now"
    ]
    lines += [f"at least {moved} test images changed sides, counted class by class"]
    then, today = (record.provenance for record in (found.before, found.now))
    lines += found.drift
    lines += [
        f"{name} was {then.get(name)}, is {today.get(name)}"
        for name in TRACED
        if then.get(name) != today.get(name)
    ]
    return "\n".join(lines)
