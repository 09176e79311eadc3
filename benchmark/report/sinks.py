"""Records for other programs. A sink is a callable that takes a record; none is used unasked.

TensorBoard and Weights & Biases are extras, imported where they are named. Nothing is sent over a
network unless that is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmark.errors import UserError, nearest
from benchmark.records.record import Record, hash_of
from benchmark.report.headings import differences
from benchmark.report.variants import setting_of, variant_of

Sink = Callable[[Record], None]
PROJECT = "fsbench"
LONGEST_NAME = 180  # bytes; a file system takes 255


@contextmanager
def tensorboard(folder: str | Path) -> Iterator[Sink]:
    """Accuracy against shots for TensorBoard: one of its runs per row of a table and seed, a chart
    per dataset. `folder` gets its event files.
    """
    make = _imported("tensorboard.summary", "tensorboard").Writer
    writers: dict[str, Any] = {}
    digests: dict[str, str] = {}  # dataset -> the first digest seen; others stand behind its name

    @_in_a_sentence("tensorboard", OSError)
    def sink(record: Record) -> None:
        named, run = record.identity, run_name(record)
        if run not in writers:
            writers[run] = make(str(Path(folder) / run))
        digest = named.dataset_digest
        other = "" if digest == digests.setdefault(named.dataset, digest) else f"@{digest[:6]}"
        chart = "/".join([named.evaluation, f"{named.dataset}{other}", named.classes])
        writers[run].add_scalar(f"{chart}/accuracy", record.accuracy, step=named.shots)
        writers[run].add_scalar(f"{chart}/class_accuracy", record.class_accuracy, step=named.shots)

    try:
        yield sink
    finally:
        with _in_a_sentence("tensorboard", OSError), ExitStack() as closing:
            for writer in writers.values():
                closing.callback(writer.close)


def run_name(record: Record) -> str:
    """Method, what differs from its defaults, backbone, precision and seed, as a folder is named;
    then six digits of all that tells a row of a table from another, since the rest may be cut.
    """
    named, variant = record.identity, variant_of(record)
    row = replace(variant, title="", changed=frozenset())
    setting = replace(setting_of(named, ""), suite="", classes="", evaluation="")
    (words,) = differences([variant]).values()
    name = f"{', '.join([named.method, *words])} {named.backbone} {named.precision}"
    safe = "".join(each if each.isprintable() and each != "/" else "-" for each in name)
    short = safe.encode()[:LONGEST_NAME].decode(errors="ignore")
    return f"{short} seed {named.seed} {hash_of({'row': repr((setting, row))})[:6]}"


@contextmanager
def wandb(project: str = PROJECT, *, online: bool = False) -> Iterator[Sink]:
    """A run of Weights & Biases per record, named by its key: identity as configuration, accuracies
    and costs as summary. Written to ./wandb, to be sent by `wandb sync`, unless `online`.
    """
    library = _imported("wandb", "wandb")

    @_in_a_sentence("wandb", OSError, library.Error)
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


@contextmanager
def _in_a_sentence(program: str, *errors: type[Exception]) -> Iterator[None]:
    """What another program refuses, such as a place that cannot be written or the name of a
    project.
    """
    try:
        yield
    except errors as error:
        raise UserError(f"{program} does not take the records: {error}") from error


def _imported(module: str, extra: str) -> Any:
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as error:
        raise UserError(
            f"{extra} is not installed; give `pip install -e '.[{extra}]'`, or leave it out"
        ) from error
