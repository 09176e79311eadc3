"""Which records may be averaged with which: the only module that decides it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from benchmark import data
from benchmark.errors import UserError
from benchmark.records.index import without_collection
from benchmark.records.record import Record, Scalar
from benchmark.report.variants import (
    EvaluationSetting,
    MethodVariant,
    is_transductive,
    own_card,
    setting_of,
    variant_of,
)

DatasetLists = dict[str, list[Record]]
GroupedRecords = dict[EvaluationSetting, dict[MethodVariant, DatasetLists]]
Alike = tuple[str, int, bool]  # family, shots, and whether it says to be transductive
Conflicts = list[tuple[Record, Record]]  # what is left out, and what stands in its place


@without_collection()
def group_records(
    records: Iterable[Record],
    notes: list[str] | None = None,
    superseded: bool = False,
    conflicts: Conflicts | None = None,
) -> GroupedRecords:
    """Records by setting, variant and dataset; what was left out, and why, is added to `notes`.

    Of two for one place the earlier one stays; where their counts differ and neither saw a newer
    spec, the other one and it are added to `conflicts`.
    """
    kept = list(records)
    notes = [] if notes is None else notes
    conflicts = [] if conflicts is None else conflicts
    if not superseded:
        kept = current(kept, notes)
    groups: GroupedRecords = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    lists: dict[Alike, list[list[Record]]] = defaultdict(list)
    for alike, place in _with_the_source(list(_places(kept))):
        lists[alike].append(groups[place.setting][place.variant][place.dataset])
    for record in kept:
        for each in lists[_alike(record)]:
            each.append(record)
    return {
        setting: _without_doubles(variants, notes, conflicts)
        for setting, variants in sorted(groups.items())
    }


class _Place(NamedTuple):
    """Where a record stands."""

    setting: EvaluationSetting
    variant: MethodVariant
    dataset: str

    @property
    def in_any_suite(self) -> tuple[EvaluationSetting, MethodVariant]:
        return replace(self.setting, suite=""), self.variant


def _alike(record: Record) -> Alike:
    """Equal for records that stand in one place: it is found once for all of them."""
    return record.family, record.identity.shots, is_transductive(record)


def _places(records: list[Record]) -> Iterator[tuple[Alike, _Place]]:
    label = _dataset_labels(records)
    first: dict[Alike, Record] = {}
    for record in records:
        first.setdefault(_alike(record), record)
    for alike, record in first.items():
        named = record.identity
        dataset = label[named.dataset, named.dataset_digest]
        yield alike, _Place(setting_of(named, dataset), variant_of(record), dataset)


def _with_the_source(placed: list[tuple[Alike, _Place]]) -> Iterator[tuple[Alike, _Place]]:
    """What was tested on the source stands beside the targets, whatever suite they are of."""
    suites: dict[tuple[EvaluationSetting, MethodVariant], set[str]] = defaultdict(set)
    for _, place in placed:
        if place.setting.learned_on not in ("", place.dataset):
            suites[place.in_any_suite].add(place.setting.suite)
    for alike, place in placed:
        if place.dataset != place.setting.learned_on:
            yield alike, place
            continue
        for suite in sorted(suites.get(place.in_any_suite, {place.setting.suite})):
            yield alike, place._replace(setting=replace(place.setting, suite=suite))


def current(records: list[Record], notes: list[str]) -> list[Record]:
    """Without records of an older adapter version where there is a newer one."""
    newest: dict[str, int] = {}
    for record in records:
        named = record.identity
        known = own_card(named.method)
        newest[named.method] = max(
            newest.get(named.method, 0), named.adapter_version, known.version if known else 0
        )
    kept = [
        record
        for record in records
        if record.identity.adapter_version == newest[record.identity.method]
    ]
    if len(kept) < len(records):
        old = sorted(
            {record.identity.method for record in records}
            - {record.identity.method for record in kept}
        )
        which = f"; nothing newer exists of {', '.join(old)}" if old else ""
        notes.append(
            f"{len(records) - len(kept)} records of superseded adapter versions are left out "
            f"(--superseded shows them){which}"
        )
    return kept


def _dataset_labels(records: list[Record]) -> dict[tuple[str, str], str]:
    """A dataset whose spec has changed is another dataset: all but one digest get it written behind
    the name.
    """
    digests: dict[str, set[str]] = defaultdict(set)
    for record in records:
        digests[record.identity.dataset].add(record.identity.dataset_digest)
    labels: dict[tuple[str, str], str] = {}
    for name, several in digests.items():
        plain = _current_digest(name) if len(several) > 1 else next(iter(several))
        labels |= {
            (name, digest): name if digest == plain else f"{name}@{digest[:6]}"
            for digest in several
        }
    return labels


def _current_digest(name: str) -> str:
    try:
        return data.read_spec(name).digest
    except UserError:
        return ""


def _without_doubles(
    variants: dict[MethodVariant, DatasetLists], notes: list[str], conflicts: Conflicts
) -> dict[MethodVariant, DatasetLists]:
    """One record per shots and seed."""
    result = {}
    for variant, datasets in sorted(variants.items(), key=lambda item: _order(item[0])):
        result[variant] = {
            name: _one_each(records, name, notes, conflicts) for name, records in datasets.items()
        }
    return result


def _one_each(
    records: list[Record], dataset: str, notes: list[str], conflicts: Conflicts
) -> list[Record]:
    """Of several the one that saw the current spec of its sources, else the earliest: whoever comes
    later takes nobody's place.
    """
    unique = {_run(record): record for record in records}
    if len(unique) < len(records):
        unique = {}
        for record in sorted(records, key=_current_sources, reverse=True):
            unique.setdefault(_run(record), record)
        pairs = [(record, unique[_run(record)]) for record in records]
        unlike = [pair for pair in pairs if _differ(*pair)]
        conflicts += unlike
        notes.append(
            f"{len(records) - len(unique)} records of {dataset} are left out beside others of the "
            "same row, shots and seed: they saw another spec of a source dataset, or name a "
            "sampler or validation set that their method does not use"
            f"{f'; of {len(unlike)} the counts are others' if unlike else ''}"
        )
    return [unique[at] for at in sorted(unique)]


def _run(record: Record) -> tuple[int, int]:
    return record.identity.shots, record.identity.seed


def _differ(one: Record, other: Record) -> bool:
    """Whether the counts do, though neither saw a newer spec."""
    specs = _current_sources(one) == _current_sources(other)
    return specs and (one.right, one.tested) != (other.right, other.tested)


def _current_sources(record: Record) -> int:
    named = record.identity
    seen = [*named.sources.items(), *named.learned_on.items()]
    return sum(_current_digest(name) == digest for name, digest in seen)


def _order(variant: MethodVariant) -> tuple[bool, bool, bool, str, MethodVariant]:
    """Methods that never look at the support set first, transductive ones and diagnostics last, the
    rest by title.
    """
    return (
        not variant.ranked,
        variant.transductive,
        variant.sampler != "none",
        variant.title.lower(),
        replace(variant, params=_texts(variant.params)),
    )


def _texts(params: tuple[tuple[str, Scalar], ...]) -> tuple[tuple[str, Scalar], ...]:
    return tuple((name, str(value)) for name, value in params)
