"""Is a submission what it says? Every record is held against its own predictions, and against the
dataset's labels where they are at hand; a few cells of the embedded suite are computed again.

Which cells is drawn anew at every check: a draw that the submission decided could be tried by its
maker until it misses what is forged. Methods from elsewhere are never run.
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmark import data, methods
from benchmark.compute import devices, rerun
from benchmark.errors import UserError, counted
from benchmark.grid import SHOTS
from benchmark.protocols import FEW_SHOT
from benchmark.records import submission
from benchmark.records.record import Identity, Record
from benchmark.records.store import Store
from benchmark.report.class_frames import confusions
from benchmark.report.image_results import ImageResults
from benchmark.report.unknown_here import CHOICES, require_no_newer_version, unknown_here

REPLAYS = 2
FROM_FEATURES = {"text"}  # what a method may need that fits on stored features, in seconds


@dataclass(frozen=True)
class CheckedSubmission:
    """A submission without a fault, and what of it could be looked into here."""

    folder: Path
    records: tuple[Record, ...]
    with_labels: int  # records that were held against the labels of their dataset
    replayed: tuple[str, ...]  # keys of the cells that were computed again
    replays: int  # how many were asked for
    passed_over: tuple[str, ...]  # why fewer were computed again than were asked for
    unknown: tuple[str, ...]  # methods, datasets, weights, ... that nobody knows here

    def __str__(self) -> str:
        as_it_is = "whose counts are those of their predictions" if self.unknown else ""
        parts = [
            f"{counted(len(self.records), 'record')} {as_it_is or 'as they should be'}",
            f"{self.with_labels} of them held against labels",
            f"{len(self.replayed)} of {self.replays} computed again{self._why()}",
        ]
        unknown = f"; unknown here: {', '.join(self.unknown)}" if self.unknown else ""
        return f"{self.folder.name}: {', '.join(parts)}{unknown}"

    def _why(self) -> str:
        if len(self.replayed) >= self.replays:
            return ""
        return f" ({'; '.join(self.passed_over)})"


def check_submission(
    folder: Path,
    root: Path | None = None,
    replays: int = REPLAYS,
    replay_seed: int | None = None,
) -> CheckedSubmission:
    """UserError, exit code 3, that names the first record which is not what it says.

    `root` is the folder of datasets. `replay_seed` draws the cells that are computed again; without
    it nobody can know them before.
    """
    with tempfile.TemporaryDirectory(prefix="fsbench-submission-") as unpacked:
        store = Store(Path(unpacked))
        records = submission.unpack(folder, store)
        require_no_newer_version(records)
        images = ImageResults(store, root)
        with_labels = sum(held_against_predictions(images, record) for record in records)
    rng = random.SystemRandom() if replay_seed is None else random.Random(replay_seed)
    drawn = _drawn(records, rng)
    replayed, passed_over = _replayed(drawn, replays)
    if len(drawn) < len(records):
        others = f"{len(records) - len(drawn)} of {counted(len(records), 'record')}"
        passed_over.append(f"{others} not of cells that can be computed here in seconds")
    return CheckedSubmission(
        *(folder, tuple(records), with_labels, tuple(replayed), min(replays, len(records))),
        *(tuple(passed_over), unknown_here(records)),
    )


def held_against_predictions(images: ImageResults, record: Record) -> bool:
    """Whether labels were at hand; UserError, exit code 3, where counts are not those of the
    predictions, or of no image.
    """
    store, labels_Q = images.store, images.labels_Q(record)
    predicted_Q, kept = store.predictions(record.key), store.confidences(record.key)
    classes = len(record.counts.total)
    fits = 0 < len(predicted_Q) == record.tested and bool(
        ((predicted_Q >= 0) & (predicted_Q < classes)).all()
    )
    if kept is not None:
        right_Q = kept.right_Q
        fits &= len(right_Q) == record.tested and int(right_Q.sum()) == record.right
    if labels_Q is not None:
        fits &= confusions(record, images) is not None
    if not fits:
        raise UserError(
            f"the counts of record {record.key} are not those of its predictions; compute its cell "
            "again and submit that",
            exit_code=3,
        )
    return labels_Q is not None


def _drawn(records: Iterable[Record], rng: random.Random) -> list[Record]:
    """The cells that can be computed here in seconds, in the order of the draw."""
    cheap = [record for record in records if _is_cheap(record.identity)]
    return rng.sample(cheap, len(cheap))


def _is_cheap(named: Identity) -> bool:
    """Whether it is a cell of the embedded suite, of a method with its own settings that fits on
    stored features, on any processor. What it claims to have cost plays no part.
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
        and not (named.texts or named.learned_on)
        and named.precision in devices.ON_CPU
        and all(getattr(named, field) in known for field, known in CHOICES.items())
    )


def _replayed(drawn: Iterable[Record], count: int) -> tuple[list[str], list[str]]:
    """The keys of cells that gave the same counts again, and why others were passed over: they name
    a version or a dataset that is not the one here.
    """
    replayed: list[str] = []
    changed: Counter[str] = Counter()
    for record in drawn:
        if len(replayed) >= count:
            break
        again = rerun.rerun(record, None, "cpu")
        if again.changed:
            changed[again.changed[0]] += 1
            continue
        if not again.identical:
            raise UserError(f"a cell gives other counts here: {rerun.text(again)}", exit_code=3)
        replayed.append(record.key)
    return replayed, [f"of {number} the {what}" for what, number in sorted(changed.items())]
