"""The regression check: cells of a golden table are run again and their counts compared.

A golden table is a CSV of counts. Other processors round differently, and training carries a last
bit a long way, so each row states a tolerance in test images. `check` in another repository does
the same for a plug-in and a table of its own.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from benchmark import methods
from benchmark.compute.runner import Outcome
from benchmark.errors import UserError
from benchmark.grid import Cell
from benchmark.paths import write_atomic

SHOTS, SEEDS = (
    ("1", "4"),
    ("1",),
)  # what `check --update` runs unless told otherwise: CI can afford it
OTHER_KEY = "weights, data, image pipeline or parameters are not those of the golden row: if that is meant, `check --update`"
TRAINED_TOLERANCE = 0.02  # of the test images, for methods that are fitted


@dataclass(frozen=True)
class Expected:
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
    key: str  # of the record it was taken from: another key with other counts means that something was changed on purpose

    @property
    def place(self) -> tuple[str, str, int, int, str]:
        return self.method, self.dataset, self.shots, self.seed, self.backbone


@dataclass(frozen=True)
class Verdict:
    """A golden row beside what was counted now."""

    expected: Expected
    correct: int | None
    problem: str  # '' where all is well

    def __str__(self) -> str:
        at = self.expected
        return f"{at.method} {at.dataset} {at.shots}-shot seed {at.seed} {at.backbone}: {self.problem or 'as expected'}"


def read(path: Path) -> list[Expected]:
    """The rows of a golden table; UserError where it is not there or not one."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [_row(row) for row in csv.DictReader(file)]
    except FileNotFoundError:
        raise UserError(
            f"there is no golden table {path}; `check --update --golden {path}` writes one"
        ) from None
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise UserError(
            f"{path} is not a golden table ({error}); its columns are {', '.join(_names())}"
        ) from None


def write(path: Path, rows: Iterable[Expected]) -> None:
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(_names())
    out.writerows(
        [getattr(row, name) for name in _names()] for row in sorted(rows, key=lambda row: row.place)
    )
    write_atomic(path, text.getvalue().encode())


def _names() -> list[str]:
    return [field.name for field in fields(Expected)]


def _row(row: dict[str, str]) -> Expected:
    texts = {name: row[name] for name in ("method", "dataset", "backbone", "key")}
    numbers = {name: int(row[name]) for name in _names() if name not in texts}
    if None in texts.values() or not all(0 <= number < 1 << 63 for number in numbers.values()):
        raise ValueError("a row is too short, or a number is out of range")
    return Expected(**texts, **numbers)  # type: ignore[arg-type]


def chosen(rows: Sequence[Expected], **wanted: Sequence[str]) -> list[Expected]:
    """The rows whose method, dataset, shots and seed are among those asked for; all where nothing
    is asked.
    """
    kept = [
        row
        for row in rows
        if all(not values or str(getattr(row, name)) in values for name, values in wanted.items())
    ]
    if not kept:
        asked = " ".join(
            f"--{name} {','.join(values)}" for name, values in wanted.items() if values
        )
        raise UserError(
            f"the golden table has no row for {asked or 'anything'}; `check --update` with the same flags adds them"
        )
    return kept


def compare(rows: Sequence[Expected], outcomes: Iterable[Outcome]) -> Iterator[Verdict]:
    """A verdict per golden row that was run, as outcomes come."""
    by_place = {row.place: row for row in rows}
    for outcome in outcomes:
        row = by_place.get(_place(outcome.cell))
        if row:
            yield _verdict(row, outcome)


def _verdict(row: Expected, outcome: Outcome) -> Verdict:
    if not outcome.record:
        return Verdict(row, None, f"failed: {outcome.error}")
    record = outcome.record
    correct, total = sum(record.counts.correct), sum(record.counts.total)
    if total != row.total:
        return Verdict(row, correct, f"{total} test images instead of {row.total}")
    if record.identity.adapter_version != row.adapter_version:
        return Verdict(
            row,
            correct,
            f"version {record.identity.adapter_version}, but the golden row is of version {row.adapter_version}",
        )
    if abs(correct - row.correct) > row.tolerance:
        moved = f"{correct} of {total} right instead of {row.correct} (tolerance {row.tolerance})"
        return Verdict(row, correct, moved + ("" if outcome.key == row.key else "; " + OTHER_KEY))
    return Verdict(row, correct, "")


def updated(
    rows: Sequence[Expected], outcomes: Iterable[Outcome], tolerance: int | None = None
) -> list[Expected]:
    """The table with the outcomes' counts in place of, or added to, its own; a row keeps its
    tolerance unless one is given.
    """
    table = {row.place: row for row in rows}
    for outcome in outcomes:
        if not outcome.record:
            raise UserError(
                f"{outcome.cell} failed ({outcome.error}), so the golden table is left as it was"
            )
        fresh = _expected(outcome)
        old = table.get(fresh.place, fresh)
        table[fresh.place] = replace(
            fresh, tolerance=old.tolerance if tolerance is None else tolerance
        )
    return list(table.values())


def _expected(outcome: Outcome) -> Expected:
    assert outcome.record, "only cells with a record become golden rows"
    named, counts = outcome.record.identity, outcome.record.counts
    total = sum(counts.total)
    tolerance = (
        max(2, round(TRAINED_TOLERANCE * total)) if methods.card(named.method).few_shot else 2
    )
    place = (named.dataset, named.shots, named.seed, named.backbone)
    return Expected(
        named.method,
        named.adapter_version,
        *place,
        sum(counts.correct),
        total,
        tolerance,
        outcome.key,
    )


def _place(cell: Cell) -> tuple[str, str, int, int, str]:
    return cell.method, cell.dataset, cell.shots, cell.seed, cell.backbone
