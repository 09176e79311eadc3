"""Cells -> records: a generator that neither prints nor logs.

A record that exists is never computed again. One process claims a cell at a time; a cell that
another process has claimed is tried again at the end. Executors compute the cells
(compute/executors); the default is this process. torch is imported when the first cell has to be
computed, so that a finished grid answers at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import chain
from pathlib import Path
from time import sleep

from pydantic import TypeAdapter, ValidationError

from benchmark import data, grid, methods, text_sets
from benchmark.backbones import abilities, preprocessing, weights
from benchmark.compute import devices
from benchmark.compute.checks import check_cells
from benchmark.compute.devices import device_for, precision_for
from benchmark.compute.executors.scheduling import Executor, RunOptions, Task, TaskReport, jobs
from benchmark.compute.executors.serial import Serial
from benchmark.compute.history import History
from benchmark.compute.short_classes import refuse_short_classes
from benchmark.compute.stages import OnStage, ignore_stage
from benchmark.compute.texts import require_sentences
from benchmark.errors import UserError
from benchmark.grid import Cell
from benchmark.protocols import FEW_SHOT
from benchmark.records import class_names
from benchmark.records.announcements import announce_plan, failed_at
from benchmark.records.index import read_records
from benchmark.records.kept_adapters import is_kept
from benchmark.records.progress import forget_finished_plans
from benchmark.records.record import Identity, Record, Whole, draws_of, key
from benchmark.records.store import Store

BUSY_WAIT_S = 0.5  # between looks at cells that another process has claimed
SEED = TypeAdapter(Whole)


# cells that are to be computed, what earlier ones took -> nothing
OnMissing = Callable[[Sequence[Cell], History], None]


def ignore_missing(cells: Sequence[Cell], history: History) -> None:
    """The OnMissing of a caller who says nothing."""


@dataclass(frozen=True)
class Outcome:
    """What became of a cell: a record, new or found, or one sentence of what went wrong."""

    cell: Cell
    key: str
    record: Record | None
    error: str | None
    cached: bool


def plan(
    cells: Iterable[Cell],
    *,
    root: Path | None = None,
    device: str = "auto",
    accept_changed_data: bool = False,
) -> list[tuple[Cell, Identity]]:
    """The identity of every cell, whose precision "auto" is what `device` stands for.

    Raises UserError for what cannot run: unknown names, wrong parameters, missing weights or data,
    a method that its backbone cannot serve.
    """
    resolved = _resolved(cells, device)
    refuse_short_classes(resolved, root, accept_changed_data=accept_changed_data)
    require_sentences(resolved)
    identity_of, seed_of = _identities(root, device, accept_changed_data), cache(_checked_seed)

    @cache
    def drawn(cell: Cell, _params: str) -> Callable[[int], Identity]:
        """By seed, which changes nothing else of an identity; the values of `params` are told apart
        by how they are written, since 1 and 1.0 are equal, but not in a key.
        """
        named = identity_of(cell)
        return partial(draws_of(named), named.shots)

    return [
        (cell, drawn(replace(cell, seed=0), repr(cell.params))(seed_of(cell.seed)))
        for cell in resolved
    ]


def _identities(
    root: Path | None, device: str, accept_changed_data: bool
) -> Callable[[Cell], Identity]:
    """The identity of a cell; what several share of data, weights and texts is read once."""
    label_of, recorded = cache(preprocessing.label_of), cache(weights.recorded)
    digest, texts_of = cache(weights.weights_digest), cache(text_sets.named)

    @cache
    def dataset_of(name: str) -> tuple[str, str]:
        return data.read_spec(name).name, data.digest(
            name, root, accept_changed_data=accept_changed_data
        )

    def identity_of(cell: Cell) -> Identity:
        on_device = devices.cuts_on_device(cell.backbone, device, cell.precision)
        own = label_of(cell.backbone)
        return grid.identity(
            cell,
            methods.card(cell.method),
            dataset_of,
            digest,
            transform=grid.transform_version(on_device=on_device, preprocessing=own),
            backbone=recorded(cell.backbone),
            texts_of=texts_of,
        )

    return identity_of


def _checked_seed(seed: object) -> int:
    """As a record has it, also of numpy's numbers."""
    try:
        return SEED.validate_python(seed)
    except ValidationError:
        raise UserError(f"a seed is a whole number from 0, not {seed!r}") from None


def _resolved(cells: Iterable[Cell], device: str) -> list[Cell]:
    """Cells at the precision they are computed in, each on a backbone that serves its method."""
    devices.check_name(device)
    resolved = [
        replace(cell, precision=precision_for(cell.backbone, device, cell.precision))
        for cell in cells
    ]
    for method, backbone in dict.fromkeys((cell.method, cell.backbone) for cell in resolved):
        abilities.require_served(methods.card(method), backbone, _cards)
    return resolved


def _cards() -> list[methods.Card]:
    return [methods.card(name) for name in methods.own()]


def run(
    cells: Iterable[Cell],
    store: Store,
    *,
    root: Path | None = None,
    device: str = "cpu",
    force: bool = False,
    accept_changed_data: bool = False,
    on_stage: OnStage = ignore_stage,
    executor: Executor | None = None,
    limit_s: float | None = None,
    batch: bool | None = None,
    grid_file: str = "",
    keep: bool = False,
    on_missing: OnMissing = ignore_missing,
) -> Iterator[Outcome]:
    """Outcomes as they come: first the cells on record, then what is computed; a failure stops no
    other cell.

    `root` holds the datasets; `force` computes cells on record again; `accept_changed_data` goes on
    with data that differ from their spec and marks every record; `on_stage` hears of each stage of
    the default executor; `limit_s` bounds the seconds of one cell; `batch` trains shots and
    seeds of a method in one batch wherever it can (True), nowhere (False), or where it pays
    (None); `grid_file` is what new records say of the file that the cells are from; `keep` stores
    what was learnt beside each record (compute/kept_adapters.py), for which every cell is trained
    alone; `on_missing` hears of the cells that are computed, and of what earlier ones took, before
    the first. Raises UserError where going on makes no sense: a full disk.
    """
    planned = {
        key(identity): (cell, identity)
        for cell, identity in plan(
            cells, root=root, device=device, accept_changed_data=accept_changed_data
        )
    }
    known = {} if force else _on_record(planned, store, keep)
    missing = {name: made for name, made in planned.items() if name not in known}
    executor = executor or Serial(on_stage)
    check_cells([cell for cell, _ in missing.values()], executor, device, keep=keep)
    if missing:
        store.make_ready()
    _keep_class_names(planned.values(), store)
    yield from (
        Outcome(planned[name][0], name, record, None, cached=True) for name, record in known.items()
    )
    if missing:
        options = RunOptions(
            store.root.resolve(),
            root,
            devices.settled(device),
            accept_changed_data,
            force,
            limit_s,
            store.lease_s,
            grid_file=grid_file,
            keep=keep,
        )
        history = _history(known.values(), store)
        on_missing([cell for cell, _ in missing.values()], history)
        tasks = [_task(*made, name, store, history) for name, made in missing.items()]
        yield from _computed(tasks, store, executor, options, batch)


def _keep_class_names(planned: Iterable[tuple[Cell, Identity]], store: Store) -> None:
    """Of every tested dataset, also for records from before names were kept."""
    named = {identity.dataset_digest: cell.dataset for cell, identity in planned}
    for digest, dataset in named.items():
        class_names.keep(store, digest, data.read_spec(dataset).class_names)


def _on_record(planned: Iterable[str], store: Store, keep: bool) -> dict[str, Record]:
    """The records that are there already; with `keep` those whose adapter is."""
    wanted = [name for name in planned if not keep or is_kept(store, name)]
    return {name: record for name in wanted if (record := store.get(name))}


def _history(known: Collection[Record], store: Store) -> History:
    """What all records of a folder tell, of which `known` have been read."""
    others = read_records(store, [], besides={record.key for record in known})
    return History.of(chain(known, others))


def _task(cell: Cell, identity: Identity, name: str, store: Store, history: History) -> Task:
    return Task(
        cell,
        identity,
        name,
        history.expected_s(cell),
        history.expected_gpu_share(cell),
        failed_at(store, name),
    )


def _computed(
    tasks: Sequence[Task], store: Store, executor: Executor, options: RunOptions, batch: bool | None
) -> Iterator[Outcome]:
    """Outcomes as the executor reports them; cells that other processes have claimed are tried
    again until their records are there.
    """
    by_key = {task.key: task for task in tasks}
    batches = partial(batch_of, options, batch)
    announce_plan(store, {task.key: (str(task.cell), task.expected_s) for task in tasks})
    todo = list(tasks)
    while todo:
        busy = []
        for report in executor.run(jobs(todo, batches, executor.slots(todo, options)), options):
            if report.state == "busy":
                busy.append(by_key[report.key])
            elif report.state != "started":
                yield _outcome(by_key[report.key].cell, report, store)
        todo = busy
        sleep(BUSY_WAIT_S if busy else 0)
    forget_finished_plans(store)


def _outcome(cell: Cell, report: TaskReport, store: Store) -> Outcome:
    record = None if report.state == "failed" else store.get(report.key)
    error = (
        None
        if record
        else report.error or "its record was removed while the grid ran; give the command again"
    )
    return Outcome(cell, report.key, record, error, cached=report.state == "found")


def batch_of(options: RunOptions, batch: bool | None, cell: Cell) -> Cell | None:
    """The cell that stands for all cells this one is trained with; None where it is trained alone.

    Results that come of one learning, as of a protocol on several targets, always go together.

    On a GPU shots and seeds of a method are trained in one batch, since alone they leave it idle;
    on a CPU the seeds of the tiny backbone, whose steps cost more to start than to compute. `batch`
    says so everywhere (True) or nowhere (False). A cell with a time limit is trained alone, and so
    is one whose state is kept. A batch adds in another order than one run: in float64 (the tiny
    backbone) no count moves, elsewhere a few may.
    """
    if cell.evaluation != FEW_SHOT:
        return None if options.limit_s is not None else cell.learned
    on_gpu = device_for(cell.backbone, options.device) != "cpu"
    wanted = (on_gpu or cell.backbone == weights.TINY) if batch is None else batch
    if (
        not wanted
        or options.limit_s is not None
        or options.keep
        or not methods.card(cell.method).batchable
    ):
        return None
    return replace(cell, seed=0, shots=0 if on_gpu or batch else cell.shots)
