"""What stands below a table: what holds for all its numbers, which rows are not ranked, what is
known of backbones and data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from benchmark.errors import one_line
from benchmark.grid import IMBALANCED
from benchmark.records.record import BEYOND_FEW_SHOT, Identity, Record
from benchmark.report.contamination import seen_notes
from benchmark.report.coverage import coverage, not_shared
from benchmark.report.edited_methods import notes_of_edited
from benchmark.report.headings import headings
from benchmark.report.result_table import ResultTable
from benchmark.report.variants import EvaluationSetting, MethodVariant, VariantRecords

TRANSDUCTIVE = (
    "transductive: all test images are classified together; such rows are ranked among themselves"
)

DRAWN = {  # --sampler in words
    "coop": "as CoOp draws them",
    "nested": "so that more shots only add images",
    "coop-short": "as CoOp draws them, all of a class that has fewer than shots",
    "relaxed": "in proportion to the classes of the training set, at least one of each",
    "realistic": "in proportion to the classes of the training set, of some perhaps none",
}
SAME_TEXTS = "rows are ranked among those whose texts describe the classes alike"


def with_notes(
    table: ResultTable, setting: EvaluationSetting, variants: VariantRecords
) -> ResultTable:
    """The table with what stands below it, after notes of its own."""
    notes = (*table.notes, *notes_below(setting, variants))
    return replace(table, notes=notes, facts=facts_about(setting, variants))


def notes_below(setting: EvaluationSetting, variants: VariantRecords) -> tuple[str, ...]:
    """What applies to the numbers of a whole table, which rows lack datasets, and which may not be
    ranked.
    """
    heading_of = headings(variants)
    priors = sorted(
        {f"{variant.exposure}" for variant in variants if variant.exposure.pool and variant.ranked}
    )
    barred = [
        f"{heading_of[variant]}: {reason_unranked(variant, list(records_of({variant: datasets})))}"
        for variant, datasets in variants.items()
        if not variant.ranked
    ]
    holes = not_shared(coverage(setting, variants), variants)
    together = [TRANSDUCTIVE] if any(variant.transductive for variant in variants) else []
    together += [SAME_TEXTS] if len({variant.worded for variant in variants}) > 1 else []
    edited = notes_of_edited(variants)
    return (*_learned_from(variants), *holes, *priors, *together, *barred, *edited)


def facts_about(setting: EvaluationSetting, variants: VariantRecords) -> tuple[str, ...]:
    """Versions that the numbers depend on, what is known of what the backbone has seen, and what is
    doubtful about the images.
    """
    tested = {name for datasets in variants.values() for name in datasets}
    present = [name for name in setting.datasets if name in tested]
    versions = (
        f"image pipeline {setting.transform}, version {setting.protocol} of the suite's rules"
    )
    return (versions, *seen_notes(setting.backbone, present), *_remarks(variants))


def records_of(variants: VariantRecords) -> Iterator[Record]:
    """Every record of a table."""
    return (
        record
        for datasets in variants.values()
        for records in datasets.values()
        for record in records
    )


def reason_unranked(variant: MethodVariant, records: Sequence[Record]) -> str:
    """Why a row is not ranked: for a diagnostic, what its settings were selected on and where."""
    if not variant.diagnostic:
        return variant.bar
    where: dict[str, set[str]] = {}
    for record in records:
        where.setdefault(_selected_on(record.identity), set()).add(record.identity.dataset)
    if len(where) == 1:
        return f"selected on {next(iter(where))}, not ranked"
    kinds = [f"on {kind} for {', '.join(sorted(names))}" for kind, names in sorted(where.items())]
    return f"selected {'; '.join(kinds)}; not ranked"


def _selected_on(named: Identity) -> str:
    """Which labels beyond the shots a diagnostic was selected with."""
    words = {"full": "the full validation split", "test": "the test set"}
    used = [*([named.val] if named.val in BEYOND_FEW_SHOT else []), named.selection]
    return " and ".join(words.get(labels, labels) for labels in dict.fromkeys(used) if labels)


def _remarks(variants: VariantRecords) -> Iterator[str]:
    """What the records of a dataset say is doubtful about its images, each sentence once."""
    said = {
        f"{record.identity.dataset}: {sentence}": None
        for record in records_of(variants)
        for sentence in _sentences(record)
    }
    return iter(said)


def _sentences(record: Record) -> list[str]:
    found = record.provenance.get("data_remarks")
    said = found if isinstance(found, list) else []
    return [one_line(each) for each in said if isinstance(each, str)]


def _learned_from(variants: Iterable[MethodVariant]) -> list[str]:
    """Which images methods learn from, and which they may choose settings on, in plain words, as
    far as rows share it; of rows that differ what the rules mean that their headings name.
    """
    trained = [variant for variant in variants if variant.sampler != "none"]
    samplers = sorted({variant.sampler for variant in trained})
    policies = {_policy(variant.val, variant.sampler) for variant in trained}
    allowed = [f"validation images: {policies.pop()}"] if len(policies) == 1 else []
    if len(samplers) == 1:
        return ["; ".join([f"training images drawn {_drawn(samplers[0])}", *allowed])]
    named = [f"{name} sampling: images drawn {_drawn(name)}" for name in samplers if name != "coop"]
    return [*named, *allowed]


def _policy(val: str, sampler: str) -> str:
    on_average = " on average" if sampler in IMBALANCED else ""
    return {"up-to-4": f"min(shots, 4) per class{on_average}", "none": "none"}.get(val, val)


def _drawn(sampler: str) -> str:
    return DRAWN.get(sampler, f"by the rule {sampler}")
