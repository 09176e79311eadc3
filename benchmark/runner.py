"""Cells -> records. A generator that neither prints nor logs: the command line draws its progress from it, tests list it.

A record that exists is never computed again. One process claims a cell at a time; what another is busy with is asked for
again at the end. Torch is imported when the first cell has to be computed, so that a finished grid answers at once.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from time import sleep
from typing import Any

from benchmark import backbones, data, grid, methods
from benchmark.errors import UserError
from benchmark.grid import Cell
from benchmark.record import Identity, Record, key
from benchmark.store import Store

Watch = Callable[[Cell, str], None]
BUSY_WAIT_S = 0.5  # between looks at cells that another process has claimed


@dataclass(frozen=True)
class Outcome:
    """What became of a cell: a record, new or found, or one sentence of what went wrong."""

    cell: Cell
    key: str
    record: Record | None
    error: str | None
    cached: bool


def plan(cells: Iterable[Cell], *, root: Path | None = None, accept_changed_data: bool = False) -> list[tuple[Cell, Identity]]:
    """The identity of every cell. Raises UserError for what cannot run: unknown names, wrong parameters, missing weights or data."""

    @cache
    def dataset_of(name: str) -> tuple[str, str]:
        return data.spec(name).name, data.digest(name, root, accept_changed_data=accept_changed_data)

    return [(cell, grid.identity(cell, methods.card(cell.method), dataset_of, backbones.weights_digest)) for cell in cells]


def run(
    cells: Iterable[Cell],
    store: Store,
    *,
    root: Path | None = None,
    device: str = "cpu",
    force: bool = False,
    accept_changed_data: bool = False,
    watch: Watch | None = None,
) -> Iterator[Outcome]:
    """Outcomes as they come: what is on record first where it stands in the plan, failures without stopping the rest.

    `root` holds the datasets, `force` computes anew what is on record, `accept_changed_data` goes on with data that are not what
    their spec promises and marks every record, `watch(cell, stage)` hears of each stage as it begins.
    """
    todo = [(cell, identity, key(identity)) for cell, identity in plan(cells, root=root, accept_changed_data=accept_changed_data)]
    _check_methods(cell for cell, _, name in todo if force or not store.has(name))
    attempt = _attempter(store, watch, root=root, device=device, accept_changed_data=accept_changed_data)
    while todo:
        busy = []
        for cell, identity, name in todo:
            if not force and (found := store.get(name)):
                yield Outcome(cell, name, found, None, cached=True)
                continue
            with store.claim(name) as mine:
                outcome = _outcome(cell, identity, name, store, attempt, force) if mine else None
            if outcome:
                yield outcome
            else:
                busy.append((cell, identity, name))
        todo = busy
        sleep(BUSY_WAIT_S if busy else 0)


def _outcome(cell: Cell, identity: Identity, name: str, store: Store, attempt: Callable[..., Record], force: bool) -> Outcome:
    """A claimed cell: found after all, computed, or failed with its traceback kept."""
    if not force and (found := store.get(name)):  # finished by another process between our look and our claim
        return Outcome(cell, name, found, None, cached=True)
    try:
        return Outcome(cell, name, attempt(cell, identity), None, cached=False)
    except Exception as error:
        store.fail(name, f"{cell}\n\n{traceback.format_exc()}")
        return Outcome(cell, name, None, _sentence(error), cached=False)


def _sentence(error: Exception) -> str:
    """One line; a surprise also says what kind it is."""
    text = str(error).strip().split("\n")[0]
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"


def _attempter(store: Store, watch: Watch | None, **workshop: Any) -> Callable[[Cell, Identity], Record]:
    """`attempt(cell, identity)`, sharing one workshop that is set up when first needed."""

    @cache
    def compute() -> Callable[[Cell, Identity], Record]:
        from benchmark.cells import compute_record
        from benchmark.episodes import Workshop

        return partial(compute_record, Workshop(**workshop), store, watch or (lambda cell, stage: None))

    return lambda cell, identity: compute()(cell, identity)


def _check_methods(cells: Iterable[Cell]) -> None:
    """Build every adapter that will run: parameters out of range raise their UserError before any work is done."""
    for method, params in dict.fromkeys((cell.method, cell.params) for cell in cells):
        methods.load(method, dict(params))
