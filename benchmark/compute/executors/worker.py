"""How a job is computed, in any process: claim its cells, skip those on record, compute, log.

A worker holds its claims while it computes and writes the records itself; it hands back reports
only. A cell that fails is reported and the rest goes on. Only what would stop every other cell as
well, such as a full disk or an interruption, ends the worker.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING

from benchmark.compute.executors import cell_logs, limits
from benchmark.compute.executors.scheduling import Batch, Job, RunOptions, Task, TaskReport
from benchmark.compute.stages import OnStage
from benchmark.errors import UserError
from benchmark.grid import Cell
from benchmark.records.announcements import announced, note_step
from benchmark.records.kept_adapters import is_kept
from benchmark.records.store import Store
from benchmark.ticks import Tick, heard_by

if TYPE_CHECKING:
    from benchmark.compute.resources import Resources

AFTER_OUT_OF_MEMORY = 0.25  # of the memory that the text side takes at first


@dataclass(frozen=True)
class Worker:
    """What one process needs to compute jobs; `resources` are set up when first called for."""

    store: Store
    options: RunOptions
    resources: Callable[[], Resources]
    on_stage: OnStage
    own_process: bool  # nothing else prints here, so that whatever is printed belongs to the cell


def start_worker(options: RunOptions, on_stage: OnStage, *, own_process: bool) -> Worker:
    """A new one; keep it as long as cells of the same run are to be computed, since it keeps what
    they have in common.
    """

    @cache
    def resources() -> Resources:
        from benchmark.compute.resources import Resources

        return Resources(
            root=options.root,
            device=options.device,
            accept_changed_data=options.accept_changed_data,
        )

    return Worker(
        Store(options.results, options.lease_s, options.run_name if options.force else ""),
        options,
        resources,
        on_stage,
        own_process,
    )


def perform(job: Job, worker: Worker) -> Iterator[TaskReport]:
    """Every task of the job, reported as it ends."""
    for batch in job.batches:
        yield from _batch(batch, worker)


def _batch(batch: Batch, worker: Worker) -> Iterator[TaskReport]:
    """Claim what nobody else has, and compute what is not there yet."""
    with ExitStack() as claims:
        mine = [task for task in batch if claims.enter_context(worker.store.claim(task.key))]
        # finished by others since the plan
        found = [] if worker.options.force else [task for task in mine if _done(task, worker)]
        todo = [task for task in mine if task not in found]
        yield from (TaskReport(task.key, "busy") for task in batch if task not in mine)
        yield from (TaskReport(task.key, "found") for task in found)
        if todo:
            yield from (TaskReport(task.key, "started") for task in todo)
            for task in todo:
                claims.enter_context(
                    announced(worker.store, task.key, str(task.cell), task.expected_s)
                )
            yield from _computed(todo, worker)


def _done(task: Task, worker: Worker) -> bool:
    """Whether its record is there, and what was learnt beside it where that is asked for."""
    kept = not worker.options.keep or is_kept(worker.store, task.key)
    return kept and worker.store.has(task.key)


@dataclass(frozen=True)
class Failure:
    """What went wrong, in one line."""

    sentence: str
    out_of_memory: bool


def _computed(tasks: Sequence[Task], worker: Worker) -> Iterator[TaskReport]:
    """A batch; where it fails, smaller ones, so that only the cell at fault fails.

    Out of memory, halves are tried; after anything else, every cell by itself.
    """
    failure = _attempt(tasks, worker)
    if failure is None:
        yield from (TaskReport(task.key, "computed") for task in tasks)
    elif len(tasks) == 1:
        yield TaskReport(tasks[0].key, "failed", failure.sentence)
    else:
        if failure.out_of_memory:
            limits.free_memory()
        size = len(tasks) // 2 if failure.out_of_memory else 1
        for first in range(0, len(tasks), size):
            yield from _computed(tasks[first : first + size], worker)


def _title(tasks: Sequence[Task]) -> str:
    """What the log of a batch says it is about."""
    others = len(tasks) - 1
    if not others:
        return str(tasks[0].cell)
    return f"{tasks[0].cell} and {others} other{'s' if others > 1 else ''}"


def _attempt(tasks: Sequence[Task], worker: Worker) -> Failure | None:
    """None when the records are in the store; else the log lies under the cell's failure."""
    keys = [task.key for task in tasks]
    with cell_logs.logged(worker.store, keys, _title(tasks), own_process=worker.own_process) as log:
        try:
            with limits.time_limit(worker.options.limit_s, partial(_gave_up, worker, keys, log)):
                _compute(tasks, worker, log)
        except Exception as error:
            if isinstance(error, UserError) and error.stops:
                raise
            log.say("failed\n" + traceback.format_exc())
            sentence = _sentence(error)
            if len(tasks) == 1:  # smaller batches of several are tried
                _failed(worker.store, keys, sentence)
            return Failure(sentence, limits.out_of_memory(error))
        log.say("done")
    return None


def _compute(tasks: Sequence[Task], worker: Worker, log: cell_logs.Log) -> None:
    """A single cell for which memory runs out is tried once more in smaller chunks."""
    from benchmark.compute.cell import compute_records

    first = min(tasks, key=lambda task: task.key)  # which `status` shows of a batch
    now: list[str] = []  # the stage that is going on

    def on_stage(cell: Cell, stage: str) -> None:
        log.say(stage)
        note_step(worker.store, first.key, "")
        now[:] = [stage]
        worker.on_stage(cell, stage)

    def on_tick(tick: Tick) -> None:
        note_step(worker.store, first.key, str(tick))
        worker.on_stage(first.cell, ", ".join([*now, str(tick)]))

    compute = partial(
        compute_records,
        worker.resources(),
        worker.store,
        on_stage,
        [(task.cell, task.identity) for task in tasks],
        grid_file=worker.options.grid_file,
        keep=worker.options.keep,
    )
    try:
        with heard_by(on_tick):
            compute()
        return
    except Exception as error:
        if len(tasks) > 1 or not limits.out_of_memory(error):
            raise
        log.say(
            f"out of memory ({_sentence(error)}); once more in smaller chunks\n"
            + traceback.format_exc()
        )
    limits.free_memory()
    with heard_by(on_tick):
        compute(memory_share=AFTER_OUT_OF_MEMORY)


def _gave_up(worker: Worker, keys: Sequence[str], log: cell_logs.Log) -> None:
    """The last words of a process whose native code does not return."""
    import faulthandler

    log.say("hangs in native code, far beyond the time limit; where every thread is:")
    faulthandler.dump_traceback(log.file)
    _failed(worker.store, keys, "hung in native code beyond the time limit; its process was ended")


def _failed(store: Store, keys: Sequence[str], sentence: str) -> None:
    for key in keys:
        store.fail(key, f"{sentence}\n\n{cell_logs.tail(store, keys[0])}")


def _sentence(error: Exception) -> str:
    """One line; a surprise also says what kind it is."""
    text = str(error).strip().split("\n")[0]
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
