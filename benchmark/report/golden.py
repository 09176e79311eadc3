"""The regression check: cells of a golden table are run again and their counts compared.

A golden table is a CSV of counts. The embedded suite computes in float64, so counts are the same on
every processor unless training amplifies the last digits: a row states the parameters it was
trained with, which keep training short, and a tolerance in test images. It also states what it was
made with, so that `check` can say why a count differs. `check` in another repository does the same
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
from benchmark.protocols import ALL, FEW_SHOT

SHOTS, SEEDS = ("1", "4"), ("1",)  # of the rows that `check --update` writes by default
TRAINED_TOLERANCE = 1  # test images, for methods that are fitted; 0 for others
PACKAGES = ("torch", "numpy", "pillow", "scikit-learn", "open_clip_torch")
NUMBERS = ("adapter_version", "shots", "seed", "correct", "total", "tolerance")  # columns
UNEXPLAINED = (
    "the method, the code it is trained with, the data, the weights and the libraries are those "
    "of the golden row, so other code of the suite has changed, or this processor rounds "
    "differently"
)

# method, dataset, shots, seed, backbone, params, protocol, learned_on, classes
CellKey = tuple[str, str, int, int, str, str, str, str, str]
# columns that older tables lack, and what they stand for there
USUAL = {"protocol": FEW_SHOT, "learned_on": "", "classes": ALL}


@dataclass(frozen=True, kw_only=True)
class GoldenRow:
    """One row of a golden table."""

    method: str
    adapter_version: int
    dataset: str
    shots: int
    seed: int
    backbone: str
    params: str  # that differ from the defaults: name=value;name=value
    correct: int
    total: int
    tolerance: int  # test images
    key: str  # of the record it was taken from
    source: str  # digest of the method's file
    training: str  # digest of the code that methods are trained with
    data: str  # digest of the dataset
    weights: str  # digest of the backbone's weights
    packages: str  # versions of PACKAGES: name version;name version
    protocol: str = FEW_SHOT
    learned_on: str = ""  # a dataset; empty: the tested one
    classes: str = ALL  # tested

    @property
    def cell_key(self) -> CellKey:
        """What names the row; a table has one row per cell."""
        return (
            *(self.method, self.dataset, self.shots, self.seed, self.backbone, self.params),
            *(self.protocol, self.learned_on, self.classes),
        )

    @property
    def settings(self) -> list[str]:
        """The parameters as `--set` reads them."""
        return self.params.split(";") if self.params else []


@dataclass(frozen=True)
class GoldenResult:
    """A golden row beside what was counted now."""

    row: GoldenRow
    correct: int | None  # None where the cell failed
    problem: str  # '' where the counts agree

    def __str__(self) -> str:
        row = self.row
        tested = row.dataset
        if row.protocol != FEW_SHOT:
            tested += f" ({row.protocol}, {row.classes} classes)"
        cell = f"{row.method} {tested} {row.shots}-shot seed {row.seed} {row.backbone}"
        return f"{' '.join([cell, *row.settings])}: {self.problem or 'as expected'}"


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


def _parsed(row: dict[str, str]) -> GoldenRow:
    known = USUAL | row
    texts = {name: known[name] for name in _columns() if name not in NUMBERS}
    numbers = {name: int(row[name]) for name in NUMBERS}
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
        problem += f"; {_reason(row, _golden_row(outcome))}"
    return GoldenResult(row, correct, problem)


def _reason(row: GoldenRow, now: GoldenRow) -> str:
    """What has changed since the row was written, as far as the row can tell."""
    changed = {
        "the data": row.data != now.data,
        "the weights": row.weights != now.weights,
        "the method's file": row.source != now.source,
        "the shared training code": row.training != now.training,
        _other_versions(row.packages, now.packages): row.packages != now.packages,
    }
    reasons = [what for what, differs in changed.items() if differs]
    if not reasons and row.key != now.key:
        reasons = ["a default, the image pipeline or the suite's rules"]
    if not reasons:
        return UNEXPLAINED
    return f"changed since: {', '.join(reasons)}; if that is meant, `check --update`"


def _other_versions(before: str, now: str) -> str:
    """'torch 2.9.0 (was 2.8.0)' for each library whose version differs."""
    old, new = _versions(before), _versions(now)
    names = [name for name in PACKAGES if old.get(name) != new.get(name)]
    return ", ".join(f"{name} {new.get(name)} (was {old.get(name)})" for name in names)


def _versions(packages: str) -> dict[str, str]:
    pairs = (package.partition(" ") for package in packages.split(";"))
    return {name: version for name, _, version in pairs}


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
    made_with = outcome.record.provenance
    versions = made_with["packages"]
    return GoldenRow(
        method=identity.method,
        adapter_version=identity.adapter_version,
        dataset=identity.dataset,
        shots=identity.shots,
        seed=identity.seed,
        backbone=identity.backbone,
        params=_params(outcome.cell),
        correct=sum(counts.correct),
        total=sum(counts.total),
        tolerance=TRAINED_TOLERANCE if methods.card(identity.method).few_shot else 0,
        key=outcome.key,
        source=made_with["adapter_source"],
        training=made_with["training_source"],
        data=identity.dataset_digest[:12],
        weights=identity.weights_digest[:12],
        packages=";".join(f"{name} {versions[name]}" for name in PACKAGES if versions.get(name)),
        protocol=identity.evaluation,
        learned_on=next(iter(identity.learned_on), ""),
        classes=identity.classes,
    )


def _cell_key(cell: Cell) -> CellKey:
    return (
        *(cell.method, cell.dataset, cell.shots, cell.seed, cell.backbone, _params(cell)),
        *(cell.evaluation, cell.learned_on, cell.classes),
    )


def _params(cell: Cell) -> str:
    return ";".join(f"{name}={value}" for name, value in cell.params)
