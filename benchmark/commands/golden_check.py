"""Run the cells of a golden table again: which rows, run where, compared or written."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from benchmark import data, methods, reference
from benchmark.backbones import weights
from benchmark.commands.cell_selection import select
from benchmark.commands.dataset_selection import TINY
from benchmark.commands.grid_file_selection import select_written
from benchmark.commands.live_view import live_view
from benchmark.commands.option_fields import Flags
from benchmark.commands.printing import print_json, say
from benchmark.commands.protocol_selection import EMBEDDED_SOURCE
from benchmark.compute import runner
from benchmark.compute.devices import precision_for
from benchmark.compute.runner import Outcome
from benchmark.errors import UserError, counted
from benchmark.grid import Cell
from benchmark.protocols import FEW_SHOT, FROM_A_SOURCE
from benchmark.records.store import Store
from benchmark.report import golden

OK, FAILED, REGRESSION = 0, 1, 3


@dataclass(frozen=True, kw_only=True)
class CheckRequest:
    """Rows of a golden table (an empty choice means all) and how their cells are run."""

    methods: Sequence[str] = ()
    datasets: Sequence[str] = ()
    shots: Sequence[str] = ()
    seeds: Sequence[str] = ()
    protocol: str = ""  # empty: all rows; of rows that are written few-shot
    settings: Sequence[str] = ()  # [method.]name=value, of rows that are written
    config: Path | None = None  # a grid file, whose cells are meant
    trusted: Sequence[str] = ()  # methods from elsewhere that it names
    table: Path = reference.GOLDEN
    results: Path | None = None  # where records are kept; None keeps none
    device: str = "cpu"
    plain: bool = False
    as_json: bool = False

    @property
    def columns(self) -> dict[str, Sequence[str]]:
        """Column of the golden table -> wanted values."""
        names = ("method", "dataset", "shots", "seed", "protocol")
        values = (
            list(map(methods.stable_name, self.methods)),
            self.datasets,
            self.shots,
            self.seeds,
            [self.protocol] if self.protocol else [],
        )
        return dict(zip(names, values, strict=True))


def compare(request: CheckRequest, out: Console, err: Console) -> int:
    """Run the cells of the chosen rows, print which counts differ and return the exit code."""
    rows = golden.chosen(golden.read(request.table), {} if request.config else request.columns)
    if request.config:
        rows, cells = _rows_of_grid(rows, grid_cells(request), request)
    else:
        methods.require_trusted((row.method for row in rows), request.methods)
        cells = [cell_of(row) for row in rows]
    outcomes = _run(cells, request, err)
    return _print_results(list(golden.compare(rows, outcomes)), request.as_json, out)


def update(request: CheckRequest, tolerance: int | None, err: Console) -> int:
    """Run the chosen cells, write their counts into the table and return the exit code."""
    path = request.table
    rows = golden.read(path) if path.exists() else []
    trusted = [*request.methods, *request.trusted]
    methods.require_trusted((row.method for row in rows), trusted)
    outcomes = _run(_cells_to_update(request, rows), request, err)
    golden.write(path, golden.updated(rows, outcomes, tolerance))
    say(err, f"{path}: {counted(len(outcomes), 'row')} written")
    return OK


def grid_cells(request: CheckRequest) -> list[Cell]:
    """The cells of the grid file that the other options choose among, with the precision that is
    the tiny backbone's where none is said.
    """
    assert request.config
    flags = Flags(
        methods=list(request.methods),
        datasets=list(request.datasets),
        shots=list(request.shots),
        seeds=list(request.seeds),
        protocol=request.protocol or FEW_SHOT,
        settings=list(request.settings),
    )
    selection, _ = select_written(request.config, flags, request.trusted)
    return [_settled(cell, request.device) for cell in selection.cells]


def _settled(cell: Cell, device: str) -> Cell:
    return replace(cell, precision=precision_for(cell.backbone, device, cell.precision))


def _rows_of_grid(
    rows: Sequence[golden.GoldenRow], cells: Sequence[Cell], request: CheckRequest
) -> tuple[list[golden.GoldenRow], list[Cell]]:
    """The rows of these cells, and the cells in their order. UserError where a cell has no row."""
    named = {cell.method for cell in cells}
    row_of = {_settled(cell_of(row), request.device): row for row in rows if row.method in named}
    lacking = [cell for cell in cells if cell not in row_of]
    if lacking:
        raise UserError(
            f"{request.table} has no row for {len(lacking)} of {counted(len(cells), 'cell')} of "
            f"{request.config}, {lacking[0]} for one; `check --update` with the same options "
            "writes them"
        )
    return [row_of[cell] for cell in cells], list(cells)


def cell_of(row: golden.GoldenRow) -> Cell:
    """The cell of a golden row, made by the same rules as a user's."""
    flags = Flags(
        methods=[row.method],
        datasets=[row.dataset],
        shots=[str(row.shots or 1)],
        seeds=[str(row.seed or 1)],
        backbones=[row.backbone],
        settings=row.settings,
        protocol=row.protocol,
        learn_from=row.learned_on or None,
    )
    tested = row.dataset, row.classes
    cells = [each for each in select(flags).cells if (each.dataset, each.classes) == tested]
    if len(cells) != 1:
        raise UserError(
            f"the golden row of {row.method} on {row.dataset} names classes '{row.classes[:20]}', "
            f"which --protocol {row.protocol} does not test; correct the row"
        )
    return cells[0]


def _cells_to_update(request: CheckRequest, rows: Sequence[golden.GoldenRow]) -> list[Cell]:
    """The cells that were chosen; by default those of the table, or of all methods."""
    if request.config:
        return grid_cells(request)
    if rows and not any([*request.columns.values(), request.settings]):
        return [cell_of(row) for row in rows]
    known = sorted({row.method for row in rows})
    from_source = request.protocol in FROM_A_SOURCE
    flags = Flags(
        methods=list(request.methods or known or methods.names()),
        datasets=list(request.datasets or ([] if from_source else data.suites()[TINY])),
        learn_from=EMBEDDED_SOURCE if from_source else None,
        shots=list(request.shots or golden.SHOTS),
        seeds=list(request.seeds or golden.SEEDS),
        backbones=[weights.TINY],
        settings=list(request.settings),
        protocol=request.protocol or FEW_SHOT,
    )
    return select(flags).cells


def _run(cells: Sequence[Cell], request: CheckRequest, err: Console) -> list[Outcome]:
    outcomes = []
    plain = request.plain or request.as_json
    with _store(request.results) as store, live_view(err, len(cells), plain) as view:
        for outcome in runner.run(
            cells, store, device=request.device, force=True, on_stage=view.on_stage
        ):
            view.on_outcome(outcome)
            outcomes.append(outcome)
    return outcomes


@contextmanager
def _store(results: Path | None) -> Iterator[Store]:
    """The store in `results`, or an empty one that is deleted afterwards."""
    if results:
        yield Store(results)
        return
    with tempfile.TemporaryDirectory(prefix="fsbench-check-") as folder:
        yield Store(Path(folder))


def _print_results(results: Sequence[golden.GoldenResult], as_json: bool, out: Console) -> int:
    """Print what differs and what failed; a difference decides the exit code over a failure."""
    bad = [result for result in results if result.problem]
    if as_json:
        print_json([_as_dict(result) for result in results])
    else:
        for result in bad:
            say(out, f"differs: {result}")
        agreeing = len(results) - len(bad)
        verb = "is" if len(results) == 1 else "are"
        say(out, f"{agreeing} of {counted(len(results), 'cell')} {verb} as the golden table says")
    if any(result.correct is not None for result in bad):
        return REGRESSION
    return FAILED if bad else OK


def _as_dict(result: golden.GoldenResult) -> dict[str, object]:
    return {**vars(result.row), "now": result.correct, "problem": result.problem}
