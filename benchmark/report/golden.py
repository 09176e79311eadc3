"""The regression check: cells of a golden table are run again and their counts compared.

A golden table is a CSV of counts. Processors round differently, and training carries a last bit a
long way, so each row states a tolerance in test images. `check` in another repository does the same
for a plug-in and a table of its own.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from benchmark import methods
from benchmark.compute.runner import Outcome
from benchmark.errors import UserError
from benchmark.grid import Cell
from benchmark.paths import write_atomic

SHOTS, SEEDS = ("1", "4"), ("1",)  # of the rows that `check --update` writes by default
TRAINED_TOLERANCE = 0.02  # of the test images, for methods that are fitted
LEAST_TOLERANCE = 2  # test images
OTHER_KEY = (
    "weights, data, image pipeline or parameters are not those of the golden row: "
    "if that is meant, `check --update`"
)

CellKey = tuple[str, str, int, int, str]  # method, dataset, shots, seed, backbone


@dataclass(frozen=True, kw_only=True)
class GoldenRow:
    """One row of a golden table."""

    method: str
    adapter_version: int
    dataset: str
    shots: int
    seed: int
    backbone: str
    correct: int
    total: int
    tolerance: int  # test images
    key: str  # of the record it was taken from; another key means another question was asked

    @property
    def cell_key(self) -> CellKey:
        """What names the row; a table has one row per cell."""
        return self.method, self.dataset, self.shots, self.seed, self.backbone


@dataclass(frozen=True)
class GoldenResult:
    """A golden row beside what was counted now."""

    row: GoldenRow
    correct: int | None  # None where the cell failed
    problem: str  # '' where the counts agree

    def __str__(self) -> str:
        row = self.row
        cell = f"{row.method} {row.dataset} {row.shots}-shot seed {row.seed} {row.backbone}"
        return f"{cell}: {self.problem or 'as expected'}"


def read(path: Path) -> list[GoldenRow]:
    """The rows of a golden table; UserError where the file is missing or no such table."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [_parsed(row) for row in csv.DictReader(file)]
    except FileNotFoundError:
        raise UserError(
            f"there is no golden table {path}; `check --update --golden {path}` writes one"
        ) from None
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise UserError(
            f"{path} is not a golden table ({error}); its columns are {', '.join(_columns())}"
        ) from None


def write(path: Path, rows: Iterable[GoldenRow]) -> None:
    """Write a golden table, sorted by cell."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(_columns())
    for row in sorted(rows, key=lambda row: row.cell_key):
        out.writerow([getattr(row, name) for name in _columns()])
    write_atomic(path, text.getvalue().encode())


def _columns() -> list[str]:
    return [field.name for field in fields(GoldenRow)]


def _parsed(row: Mapping[str, str]) -> GoldenRow:
    texts = {name: row[name] for name in ("method", "dataset", "backbone", "key")}
    numbers = {name: int(row[name]) for name in _columns() if name not in texts}
    if None in texts.values() or not all(0 <= number < 1 << 63 for number in numbers.values()):
        raise ValueError("a row is too short, or a number is out of range")
    return GoldenRow(**texts, **numbers)  # type: ignore[arg-type]


def chosen(rows: Sequence[GoldenRow], wanted: Mapping[str, Sequence[str]]) -> list[GoldenRow]:
    """The rows whose columns hold one of the wanted values; a column without values takes all.

    `wanted`: column -> values as text. Raises UserError where no row is left.
    """
    given = {name: values for name, values in wanted.items() if values}
    kept = [
        row
        for row in rows
        if all(str(getattr(row, name)) in values for name, values in given.items())
    ]
    if not kept:
        flags = " ".join(f"--{name} {','.join(values)}" for name, values in given.items())
        raise UserError(
            f"the golden table has no row for {flags or 'anything'}; "
            "`check --update` with the same options adds them"
        )
    return kept


def compare(rows: Sequence[GoldenRow], outcomes: Iterable[Outcome]) -> Iterator[GoldenResult]:
    """A result for each golden row that was run, as outcomes come."""
    by_cell = {row.cell_key: row for row in rows}
    for outcome in outcomes:
        row = by_cell.get(_cell_key(outcome.cell))
        if row:
            yield _result(row, outcome)


def _result(row: GoldenRow, outcome: Outcome) -> GoldenResult:
    if not outcome.record:
        return GoldenResult(row, None, f"failed: {outcome.error}")
    counts = outcome.record.counts
    correct, total = sum(counts.correct), sum(counts.total)
    version = outcome.record.identity.adapter_version
    problem = ""
    if total != row.total:
        problem = f"{total} test images instead of {row.total}"
    elif version != row.adapter_version:
        problem = f"version {version}, but the golden row is of version {row.adapter_version}"
    elif abs(correct - row.correct) > row.tolerance:
        problem = f"{correct} of {total} right instead of {row.correct} (tolerance {row.tolerance})"
        problem += "" if outcome.key == row.key else f"; {OTHER_KEY}"
    return GoldenResult(row, correct, problem)


def updated(
    rows: Sequence[GoldenRow], outcomes: Iterable[Outcome], tolerance: int | None = None
) -> list[GoldenRow]:
    """The table with the outcomes' counts in place of its own or added to them.

    A row keeps its tolerance unless one is given. Raises UserError where a cell failed.
    """
    table = {row.cell_key: row for row in rows}
    for outcome in outcomes:
        if not outcome.record:
            raise UserError(
                f"{outcome.cell} failed ({outcome.error}), so the golden table is left as it was"
            )
        fresh = _golden_row(outcome)
        kept = table.get(fresh.cell_key, fresh).tolerance
        table[fresh.cell_key] = replace(fresh, tolerance=kept if tolerance is None else tolerance)
    return list(table.values())


def _golden_row(outcome: Outcome) -> GoldenRow:
    assert outcome.record, "only cells with a record become golden rows"
    identity, counts = outcome.record.identity, outcome.record.counts
    total = sum(counts.total)
    trained = methods.card(identity.method).few_shot
    share = TRAINED_TOLERANCE if trained else 0
    return GoldenRow(
        method=identity.method,
        adapter_version=identity.adapter_version,
        dataset=identity.dataset,
        shots=identity.shots,
        seed=identity.seed,
        backbone=identity.backbone,
        correct=sum(counts.correct),
        total=total,
        tolerance=max(LEAST_TOLERANCE, round(share * total)),
        key=outcome.key,
    )


def _cell_key(cell: Cell) -> CellKey:
    return cell.method, cell.dataset, cell.shots, cell.seed, cell.backbone
