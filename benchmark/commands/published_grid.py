"""The grid of published numbers, as cells, and what it takes: said before anything runs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmark import data, grid, methods, presets
from benchmark.backbones import weights
from benchmark.commands.dataset_selection import STANDARD, suite_around
from benchmark.commands.printing import forecast_text
from benchmark.compute import devices, runner
from benchmark.compute.history import History
from benchmark.data.availability import DatasetStatus, availability
from benchmark.errors import UserError, counted, nearest
from benchmark.grid import Cell, Choices
from benchmark.methods import Card
from benchmark.protocols import ALL, FEW_SHOT
from benchmark.records.record import Record, Scalar, key
from benchmark.records.store import Store
from benchmark.report.published_table import read_published

Name = TypeVar("Name", str, int)
BACKBONES = ("ViT-B-16/openai", "RN50/openai")  # of nearly all published values


@dataclass(frozen=True)
class GridRequest:
    """Which part of the grid is wanted; an empty field means all of it."""

    methods: Sequence[str] = ()
    datasets: Sequence[str] = ()
    backbones: Sequence[str] = ()
    shots: Sequence[int] = ()
    seeds: Sequence[int] = ()
    preset: str = ""


@dataclass(frozen=True)
class MissingPart:
    """A dataset or weights that are not here, what is to be known of it, and how to get it."""

    what: str
    facts: str
    command: str


def published_methods(preset: str = "") -> dict[str, list[str]]:
    """Backbone -> our methods that the table has values of; with a preset those that have it."""
    with_preset = set(presets.methods_with(preset)) if preset else set(methods.own())
    found: dict[str, set[str]] = defaultdict(set)
    for row in read_published():
        of_the_grid = row.evaluation == FEW_SHOT and row.classes == ALL
        if of_the_grid and row.backbone in BACKBONES and row.method in with_preset:
            found[row.backbone].add(row.method)
    return {backbone: sorted(found[backbone]) for backbone in BACKBONES if found[backbone]}


def cells(request: GridRequest) -> list[Cell]:
    """The cells of the published grid that are wanted; UserError for a name it has not."""
    _chosen("preset", [request.preset] if request.preset else [], presets.PRESETS)
    _chosen("number of shots", request.shots, grid.SHOTS)
    by_backbone = published_methods(request.preset)
    every = sorted({name for names in by_backbone.values() for name in names})
    wanted = _chosen("method", request.methods, every)
    datasets = _chosen("dataset", request.datasets, data.suites()[STANDARD])
    backbones = [weights.canonical(name) for name in request.backbones]
    choices = Choices(
        shots=request.shots or grid.SHOTS,
        seeds=request.seeds or grid.SEEDS,
        preset=request.preset,
    )
    found: list[Cell] = []
    for backbone in _chosen("backbone", backbones, list(by_backbone)):
        served = [name for name in by_backbone[backbone] if name in wanted]
        rows: list[tuple[Card, dict[str, Scalar]]] = [(methods.card(name), {}) for name in served]
        found += grid.expand(rows, datasets, [backbone], choices, suite_around)
    if not found:
        raise UserError("no value of these methods is published at these backbones; name others")
    return found


def _chosen(what: str, wanted: Sequence[Name], known: Sequence[Name]) -> Sequence[Name]:
    for name in wanted:
        if name not in known:
            hint = nearest(str(name), [str(each) for each in known])
            raise UserError(f"the published grid has no {what} '{name}'; {hint}")
    return wanted or known


def missing_parts(chosen: Iterable[Cell], root: Path | None) -> list[MissingPart]:
    """The datasets and weights of these cells that are not here."""
    chosen = list(chosen)
    names = {name for cell in chosen for name in cell.datasets}
    backbones = dict.fromkeys(cell.backbone for cell in chosen)
    return [
        *(_dataset(each) for each in availability(root) if _is_missing(each, names)),
        *(
            MissingPart(f"weights {name}", "", f"prepare --backbone {name}")
            for name in backbones
            if not weights.seem_here(name)
        ),
    ]


def _is_missing(status: DatasetStatus, names: Collection[str]) -> bool:
    return status.name in names and status.state in ("missing", "partial")


def _dataset(status: DatasetStatus) -> MissingPart:
    registration = ", registration needed" if status.registration else ""
    licence = f"licence: {status.licence}" if status.licence else "no licence stated"
    accept = f" --accept-licence {status.name}" if status.licence else ""
    facts = f"{status.images:,} images, {licence}{registration}"
    return MissingPart(f"data {status.name}", facts, f"prepare {status.name}{accept}")


def on_record(
    chosen: Iterable[Cell],
    missing: Iterable[MissingPart],
    store: Store,
    root: Path | None,
    device: str,
) -> set[Cell]:
    """The cells that would not run again; those of which a part is missing have no name to look
    for. Raises UserError as runner.plan does.
    """
    lacking = {part.what for part in missing}
    here = [cell for cell in chosen if lacking.isdisjoint(_parts(cell))]
    planned = runner.plan(here, root=root, device=device)
    return {
        cell for cell, (_, identity) in zip(here, planned, strict=True) if store.has(key(identity))
    }


def _parts(cell: Cell) -> Iterator[str]:
    """What a cell needs, as MissingPart names it."""
    yield f"weights {cell.backbone}"
    yield from (f"data {name}" for name in cell.datasets)


def require_device(to_do: Iterable[Cell], device: str) -> None:
    """UserError where this machine lacks the device of a cell."""
    for backbone, precision in dict.fromkeys((cell.backbone, cell.precision) for cell in to_do):
        devices.require(backbone, device, devices.precision_for(backbone, device, precision))


def forecast(
    chosen: Sequence[Cell],
    done: Collection[Cell],
    missing: Sequence[MissingPart],
    records: Iterable[Record],
    device: str,
) -> str:
    """What would run, for how long, on what, and what is missing, as text. The cells that are
    `done` are named and take no time.
    """
    known = f", {len(done):,} of them on record" if done else ""
    lines = [f"the published grid: {counted(len(chosen), 'cell')}{known}"]
    for backbone, count in Counter(cell.backbone for cell in chosen).items():
        names = sorted({cell.method for cell in chosen if cell.backbone == backbone})
        lines.append(f"  {backbone}: {counted(count, 'cell')} of {', '.join(names)}")
    to_do = [cell for cell in chosen if cell not in done]
    lines.append(f"time: {_time(to_do, History.of(records)) if to_do else 'none'}")
    lines.append(f"device: {_device(device)}")
    for part in missing:
        lines.append(f"missing: {part.what}" + (f" ({part.facts})" if part.facts else ""))
        lines.append(f"  python -m benchmark {part.command}")
    return "\n".join(lines)


def _time(to_do: Sequence[Cell], history: History) -> str:
    """From records of the same methods and backbones; nothing is guessed of the others."""
    forecasts = list(map(history.forecast, to_do))
    if not any(forecasts):
        return (
            "not known before the first records; on one H200 the 165 cells of CoOp at ViT-B/16 "
            "would take 23 minutes by its measured steps (docs/gpu.md)"
        )
    return forecast_text(forecasts)


def _device(device: str) -> str:
    """`device` is as --device takes it."""
    slow = "on a processor methods that train through the towers take days to weeks"
    if device == "cpu":
        return f"the processor, as --device says; {slow}"
    if device != "auto":
        return f"{device}, as --device says"
    count = len(devices.gpus())
    return f"{counted(count, 'GPU')} here" if count else f"no GPU here; {slow}"
