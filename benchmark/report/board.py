"""The board: all submissions of a folder as one page, with a table of who handed in what."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

from benchmark.errors import UserError
from benchmark.paths import write_atomic
from benchmark.records import submission
from benchmark.records.combine import combine
from benchmark.records.record import Record
from benchmark.records.store import Store
from benchmark.report import grouping, page
from benchmark.report.image_results import ImageResults
from benchmark.report.submission_checks import held_against_predictions
from benchmark.report.unknown_here import require_no_newer_version
from benchmark.report.variants import own_card

LIST = "submissions.md"


@dataclass(frozen=True)
class WrittenBoard:
    """What is on a board; `notes` say what was left out, `conflicts` which counts differ."""

    names: tuple[str, ...]
    records: int
    notes: tuple[str, ...]
    conflicts: tuple[str, ...]


def write_board(source: Path, folder: Path) -> WrittenBoard:
    """A page of the records of all submissions below `source`; UserError where there are none.

    Of a record that several have handed in the first by name is taken, and so it is of records that
    would stand in one place of a table.
    """
    notes: list[str] = []
    owner: dict[str, str] = {}  # key of a record -> the first submission that has it
    with tempfile.TemporaryDirectory(prefix="fsbench-board-") as unpacked:
        whole, theirs = Store(Path(unpacked) / "board"), Path(unpacked) / "submissions"
        images, conflicts, rows = ImageResults(whole), [], []
        for each in submission.submissions(source):
            store = Store(theirs / each.name)
            try:
                records = _accepted(each, replace(images, store=store))
            except UserError as error:
                notes.append(f"{each.name} is left out: {error}")
                continue
            merged = combine([store], whole)
            conflicts += [
                f"{each.name}: record {conflict.partition(':')[0]} has other counts than that of "
                "an earlier submission, which is shown"
                for conflict in merged.conflicts
            ]
            rows.append(_row(each.name, records))
            owner = {record.key: each.name for record in records} | owner
        kept = sorted(whole.records(), key=lambda record: owner[record.key])
        if not kept:
            raise UserError(f"no submission in {source} can be shown ({'; '.join(notes)})")
        rivals: grouping.Conflicts = []
        shown = _of_versions_here(kept, notes)
        groups = grouping.group_records(shown, notes, superseded=True, conflicts=rivals)
        conflicts += _named(rivals, owner)
        page.write_page(folder, groups, images, pictures=False)
    write_atomic(folder / LIST, _table(rows).encode())
    names = tuple(row[0] for row in rows)
    return WrittenBoard(names, len(kept), tuple(notes), tuple(conflicts))


def _named(rivals: grouping.Conflicts, owner: dict[str, str]) -> list[str]:
    """A sentence for every record that would take another one's place with other counts."""
    sentences = (
        f"{owner[left.key]}: record {left.key} would take the place of record {shown.key} of "
        f"{owner[shown.key]} with other counts, and is left out"
        for left, shown in rivals
    )
    return list(dict.fromkeys(sentences))


def _accepted(folder: Path, images: ImageResults) -> list[Record]:
    """The records of a submission, put into the store of `images`; UserError where one is not what
    its predictions say.
    """
    records = submission.unpack(folder, images.store)
    require_no_newer_version(records)
    for record in records:
        held_against_predictions(images, record)
    return records


def _of_versions_here(records: list[Record], notes: list[str]) -> list[Record]:
    """Without older versions of our own methods. Of a method from elsewhere all versions stay: who
    writes a larger number would otherwise take the others from the board.
    """
    ours = [record for record in records if own_card(record.identity.method)]
    foreign = [record for record in records if not own_card(record.identity.method)]
    return grouping.current(ours, notes) + foreign


def _row(name: str, records: list[Record]) -> tuple[str, ...]:
    def named(field: str) -> str:
        return ", ".join(sorted({str(getattr(record.identity, field)) for record in records}))

    return name, str(len(records)), named("method"), named("dataset"), named("backbone")


def _table(rows: list[tuple[str, ...]]) -> str:
    """Names of strangers stand in it, so what would end a cell or begin a tag is escaped."""
    heads = ("submission", "records", "methods", "datasets", "backbones")
    lines = [heads, ("---",) * len(heads), *rows]
    return "".join(
        "| " + " | ".join(escape(cell).replace("|", "\\|") for cell in line) + " |\n"
        for line in lines
    )
