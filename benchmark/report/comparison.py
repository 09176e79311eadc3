"""Two methods against each other: dataset by dataset on the same seeds and images, then over the
datasets of a suite.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from benchmark.errors import UserError, nearest
from benchmark.records.record import Record
from benchmark.report import significance
from benchmark.report.averages import seed_of
from benchmark.report.edited_methods import notes_of_edited
from benchmark.report.grouping import GroupedRecords
from benchmark.report.headings import headings, is_default
from benchmark.report.image_results import ImageResults
from benchmark.report.record_selection import method_hint
from benchmark.report.variants import EvaluationSetting, MethodVariant, VariantRecords


@dataclass(frozen=True)
class DatasetComparison:
    """Two methods on one dataset at one number of shots, over the seeds both have."""

    dataset: str
    shots: int
    first: float
    second: float
    gaps: Mapping[int | None, float]  # by seed
    over_seeds: significance.MeanDifference | None  # None with one seed
    # None where labels or predictions are not at hand
    over_images: significance.MeanDifference | None
    p_mcnemar: float | None  # with one seed alone

    @property
    def seeds(self) -> int:
        return len(self.gaps)

    @property
    def gap(self) -> float:
        return self.first - self.second


@dataclass(frozen=True)
class MethodComparison:
    """Everything that can be said of two methods in one setting."""

    setting: EvaluationSetting
    names: tuple[str, str]
    pairs: tuple[DatasetComparison, ...]
    # shots -> p over the suite, adjusted by Holm; None where no test can be made
    over_datasets: Mapping[int, float | None]
    passed_over: Mapping[str, Sequence[str]]  # a name that is several rows -> those not meant
    edited: tuple[str, ...] = ()  # sentences about rows whose method has other code now


def compare(
    groups: GroupedRecords,
    first: str,
    second: str,
    images: ImageResults,
    code_of: Mapping[str, str] = MappingProxyType({}),
) -> list[MethodComparison]:
    """A comparison for every setting that has records of both. A method's name means its row of
    defaults where it has several; `code_of` says which code is meant where it has records of
    several. Raises UserError where there is nothing to compare, or a name is not clear.
    """
    _check_known(groups, (first, second))
    comparisons = []
    for setting, variants in groups.items():
        picked = [_pick(variants, name, code_of.get(name, "")) for name in (first, second)]
        chosen = tuple(each.variant for each in picked if each)
        if len(set(chosen)) < len(chosen):
            raise UserError(f"'{first}' and '{second}' are one row; name two")
        if len(chosen) == len(picked):
            names = zip((first, second), picked, strict=True)
            passed_over = {name: each.others for name, each in names if each and each.others}
            comparisons.append(_compare(setting, variants, chosen, images, passed_over))
    comparisons = [each for each in comparisons if each.pairs]
    if not comparisons:
        raise UserError(
            f"{first} and {second} have no records of the same dataset, shots and seed in one "
            "setting; run both with the same suite, shots and backbone"
        )
    return comparisons


def _check_known(groups: GroupedRecords, names: Sequence[str]) -> None:
    methods = {variant.method for variants in groups.values() for variant in variants}
    known = {headings(variants)[variant] for variants in groups.values() for variant in variants}
    for name in names:
        if name not in methods | known:
            title = name.partition(",")[0]
            alike = sorted(each for each in known if each.partition(",")[0] == title)
            hint = nearest(name, alike) if alike else method_hint(name, sorted(methods))
            raise UserError(f"no record has the method '{name}'; {hint}")


class _Picked(NamedTuple):
    """The row that a name means, and the headings of the method's rows that it does not mean."""

    variant: MethodVariant
    others: tuple[str, ...] = ()


def _pick(variants: Mapping[MethodVariant, Any], name: str, code: str) -> _Picked | None:
    """The row whose whole heading `name` is, or that it means as a method's name."""
    heading_of = headings(variants)
    for variant in variants:
        if heading_of[variant] == name:
            return _Picked(variant)
    rows = [variant for variant in variants if variant.method == name]
    if code:
        rows = [variant for variant in rows if variant.code == code] or rows
    usual = rows if len(rows) == 1 else [variant for variant in rows if is_default(variant)]
    if rows and len(usual) != 1:
        choices = "; ".join(repr(heading_of[variant]) for variant in rows)
        which = "several" if usual else "none"
        raise UserError(
            f"'{name}' is {len(rows)} rows here, {which} with its defaults; name one: {choices}"
        )
    others = tuple(heading_of[variant] for variant in rows if variant not in usual)
    return _Picked(usual[0], others) if usual else None


def _compare(
    setting: EvaluationSetting,
    variants: VariantRecords,
    chosen: Sequence[MethodVariant],
    images: ImageResults,
    passed_over: Mapping[str, Sequence[str]],
) -> MethodComparison:
    heading_of = headings(variants)
    names = heading_of[chosen[0]], heading_of[chosen[1]]
    by_dataset = [variants[variant] for variant in chosen]
    pairs = []
    for dataset in setting.members:
        first, second = (_by_shots(datasets.get(dataset, ())) for datasets in by_dataset)
        for shots in _common(set(first), set(second)):
            matched = _matched(first.get(shots) or first[0], second.get(shots) or second[0])
            if matched:
                pairs.append(_pair(dataset, shots, matched, images))
    edited = notes_of_edited(variants, chosen)
    over_datasets = _over_datasets(pairs)
    return MethodComparison(setting, names, tuple(pairs), over_datasets, passed_over, edited)


def _by_shots(records: Sequence[Record]) -> dict[int, list[Record]]:
    return {
        shots: [record for record in records if record.identity.shots == shots]
        for shots in {record.identity.shots for record in records}
    }


def _common(first: set[int], second: set[int]) -> list[int]:
    """Numbers of shots to compare at; a method that never uses any stands beside each of the
    other's.
    """
    if 0 in first or 0 in second:
        shots = (first | second) - {0} if first and second else set()
        shots = shots or (first & second)
    else:
        shots = first & second
    return sorted(shots)


def _matched(first: Sequence[Record], second: Sequence[Record]) -> list[tuple[Record, Record]]:
    """Records of the same seed; one without seeds beside each of the other's."""
    if not first[0].identity.shots:
        return [(first[0], other) for other in second]
    if not second[0].identity.shots:
        return [(one, second[0]) for one in first]
    by_seed = {record.identity.seed: record for record in second}
    return [
        (record, by_seed[record.identity.seed])
        for record in first
        if record.identity.seed in by_seed
    ]


def _pair(
    dataset: str,
    shots: int,
    matched: Sequence[tuple[Record, Record]],
    images: ImageResults,
) -> DatasetComparison:
    gaps = {
        seed_of(record) if record.identity.shots else seed_of(other): record.accuracy
        - other.accuracy
        for record, other in matched
    }
    right = [[images.right_Q(record) for record in side] for side in zip(*matched, strict=True)]
    over_images, p_mcnemar = None, None
    if not any(hits is None for side in right for hits in side):
        import numpy as np

        first, second = np.array(right[0]), np.array(right[1])
        over_images = significance.paired_bootstrap(first, second)
        p_mcnemar = significance.mcnemar(first[0], second[0]) if len(matched) == 1 else None
    return DatasetComparison(
        dataset,
        shots,
        math.fsum(record.accuracy for record, _ in matched) / len(matched),
        math.fsum(other.accuracy for _, other in matched) / len(matched),
        gaps,
        significance.paired_t(list(gaps.values())),
        over_images,
        p_mcnemar,
    )


def _over_datasets(pairs: Sequence[DatasetComparison]) -> dict[int, float | None]:
    """Per number of shots one test over the suite, then Holm over the numbers of shots."""
    shots = sorted({pair.shots for pair in pairs})
    p_by_shots = {
        shot: _over_suite([pair for pair in pairs if pair.shots == shot]) for shot in shots
    }
    tested = [shot for shot in shots if p_by_shots[shot] is not None]
    adjusted = significance.holm([p for p in p_by_shots.values() if p is not None])
    return {**p_by_shots, **dict(zip(tested, adjusted, strict=True))}


def _over_suite(pairs: Sequence[DatasetComparison]) -> float | None:
    """Wilcoxon over datasets; with too few of them, Student over seeds of the mean difference."""
    if len(pairs) >= significance.FEWEST_DATASETS:
        return significance.wilcoxon([pair.gap for pair in pairs])
    seeds = set.intersection(*(set(pair.gaps) for pair in pairs))
    difference = significance.paired_t(
        [math.fsum(pair.gaps[seed] for pair in pairs) / len(pairs) for seed in seeds]
    )
    return difference.p if difference else None


def comparison_dict(comparison: MethodComparison) -> dict[str, Any]:
    """What `compare --json` prints; accuracies and differences as fractions."""

    def plain(difference: significance.MeanDifference | None) -> dict[str, float] | None:
        return None if difference is None else asdict(difference)

    pairs = [
        {**vars(pair), "gaps": dict(pair.gaps), "difference": pair.gap}
        | {"over_seeds": plain(pair.over_seeds), "over_images": plain(pair.over_images)}
        for pair in comparison.pairs
    ]
    names = {"first": comparison.names[0], "second": comparison.names[1]}
    return (
        {"setting": vars(comparison.setting)}
        | names
        | {"pairs": pairs, "over_datasets": dict(comparison.over_datasets)}
    )
