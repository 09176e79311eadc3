"""Is a submission what it says? Every record is held against its own predictions, and against the
dataset's labels where they are at hand; a few cells of the embedded suite are computed again.

Which cells is drawn from the submission's own digest, so that everybody draws the same, and nobody
can choose. Methods from elsewhere are never run.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmark import data, methods
from benchmark.compute import rerun
from benchmark.errors import UserError
from benchmark.grid import SHOTS
from benchmark.protocols import FEW_SHOT
from benchmark.records import submission
from benchmark.records.record import Identity, Record
from benchmark.records.store import Store
from benchmark.report.class_frames import confusions, labels_of

REPLAYS = 2
FROM_FEATURES = {"text"}  # what a method may need that fits on stored features, in seconds


@dataclass(frozen=True)
class CheckedSubmission:
    """A submission without a fault, and which of its cells were computed again."""

    folder: Path
    records: tuple[Record, ...]
    with_labels: int  # records that were held against the labels of their dataset
    replayed: tuple[str, ...]

    def __str__(self) -> str:
        replayed = f", {len(self.replayed)} computed again" if self.replayed else ""
        return (
            f"{self.folder.name}: {len(self.records)} records as they should be, "
            f"{self.with_labels} of them held against labels{replayed}"
        )


def check_submission(
    folder: Path, root: Path | None = None, replays: int = REPLAYS
) -> CheckedSubmission:
    """UserError, exit code 3, that names the first record which is not what it says; `root` is the
    folder of datasets.
    """
    with tempfile.TemporaryDirectory(prefix="fsbench-submission-") as unpacked:
        store = Store(Path(unpacked))
        records = submission.unpack(folder, store)
        with_labels = sum(_held_against_predictions(store, record, root) for record in records)
    drawn = _drawn(records, submission.content_digest(folder))
    replayed = _replayed(drawn, replays)
    return CheckedSubmission(folder, tuple(records), with_labels, tuple(replayed))


def _held_against_predictions(store: Store, record: Record, root: Path | None) -> bool:
    """Whether labels were at hand; UserError where counts are not those of the predictions."""
    predicted_Q, kept = store.predictions(record.key), store.confidences(record.key)
    classes = len(record.counts.total)
    fits = len(predicted_Q) == record.tested and bool(
        ((predicted_Q >= 0) & (predicted_Q < classes)).all()
    )
    if kept is not None:
        right_Q = kept.right_Q
        fits &= len(right_Q) == record.tested and int(right_Q.sum()) == record.right
    labels_Q = labels_of(record, root)
    if labels_Q is not None:
        fits &= confusions(record, labels_Q, predicted_Q) is not None
    if not fits:
        raise UserError(
            f"the counts of record {record.key} are not those of its predictions; compute its cell "
            "again and submit that",
            exit_code=3,
        )
    return labels_Q is not None


def _drawn(records: Iterable[Record], digest: str) -> list[Record]:
    """The cells that can be computed here in seconds, in an order that nobody can choose."""
    cheap = [record for record in records if _is_cheap(record.identity)]
    return random.Random(digest).sample(cheap, len(cheap))


def _is_cheap(named: Identity) -> bool:
    """Whether it is a cell of the embedded suite, of a method with its own settings that fits on
    stored features. What it claims to have cost plays no part.
    """
    if named.method not in methods.own() or named.dataset not in data.suites()["tiny"]:
        return False
    card = methods.card(named.method)
    return (
        set(card.needs) <= FROM_FEATURES
        and not named.sources
        and named.params == card.defaults
        and named.shots <= max(SHOTS)
        and (named.backbone, named.evaluation, named.preset) == ("tiny", FEW_SHOT, "")
        and not named.texts
    )


def _replayed(drawn: Iterable[Record], count: int) -> Iterator[str]:
    """The keys of cells that gave the same counts again; other versions are passed over."""
    for record in drawn:
        if count < 1:
            return
        again = rerun.rerun(record, None, "cpu")
        if again.changed:
            continue
        if not again.identical:
            raise UserError(f"a cell gives other counts here: {rerun.text(again)}", exit_code=3)
        count -= 1
        yield record.key
