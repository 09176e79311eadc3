"""Records for other programs. A sink is a callable that takes a record; none is used unasked.

TensorBoard and Weights & Biases are extras, imported where they are named. Nothing is sent over a
network unless that is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmark.errors import UserError, nearest
from benchmark.records.record import Record

Sink = Callable[[Record], None]
PROJECT = "fsbench"


@contextmanager
def tensorboard(folder: str | Path) -> Iterator[Sink]:
    """Accuracy against shots for TensorBoard: one of its runs per method, backbone and seed, one
    chart per dataset. `folder` gets its event files.
    """
    make = _imported("tensorboard.summary", "tensorboard").Writer
    writers: dict[str, Any] = {}

    def sink(record: Record) -> None:
        named = record.identity
        run = f"{named.method} {named.backbone} {named.precision} seed {named.seed}"
        run = run.replace("/", "-")
        if run not in writers:
            writers[run] = make(str(Path(folder) / run))
        chart = "/".join(filter(None, [named.evaluation, named.dataset, named.classes]))
        writers[run].add_scalar(f"{chart}/accuracy", record.accuracy, step=named.shots)
        writers[run].add_scalar(f"{chart}/class_accuracy", record.class_accuracy, step=named.shots)

    try:
        yield sink
    finally:
        for writer in writers.values():
            writer.close()


@contextmanager
def wandb(project: str = PROJECT, *, online: bool = False) -> Iterator[Sink]:
    """A run of Weights & Biases per record, named by its key: identity as configuration, accuracies
    and costs as summary. Written to ./wandb, to be sent by `wandb sync`, unless `online`.
    """
    library = _imported("wandb", "wandb")

    def sink(record: Record) -> None:
        run = library.init(
            project=project,
            id=record.key,
            name=f"{record.identity.method} {record.identity.dataset} {record.key}",
            config=record.identity.model_dump(mode="json"),
            mode="online" if online else "offline",
            reinit="finish_previous",
        )
        shares = {"accuracy": record.accuracy, "class_accuracy": record.class_accuracy}
        counts = {"correct": record.right, "total": record.tested}
        run.summary.update({**shares, **counts, **record.costs.model_dump()})
        run.finish()

    yield sink


def opened(name: str, *, online: bool = False) -> Any:
    """The sink of a name: 'tensorboard:FOLDER' or 'wandb:PROJECT'. UserError for any other."""
    kind, _, where = name.partition(":")
    if kind == "tensorboard" and where:
        return tensorboard(where)
    if kind == "wandb":
        return wandb(where or PROJECT, online=online)
    hint = nearest(kind, ("tensorboard", "wandb"))
    raise UserError(f"--to takes tensorboard:FOLDER or wandb:PROJECT, not '{name}'; {hint}")


def _imported(module: str, extra: str) -> Any:
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as error:
        raise UserError(
            f"{extra} is not installed; give `pip install -e '.[{extra}]'`, or leave it out"
        ) from error
