"""Which variants lead a column: the best of each protocol, and all that cannot be told from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

from benchmark.report.averages import AccuraciesByShots, accuracies_by_shots, seed_of
from benchmark.report.marks import BEST, TIED, Mark
from benchmark.report.significance import (
    DatasetAccuracies,
    SeedHits,
    difference_ps,
    image_difference_p,
    leaders,
)
from benchmark.report.variants import MethodVariant, VariantRecords

if TYPE_CHECKING:
    from benchmark.report.image_results import ImageResults

Column = tuple[int, Sequence[str]]  # shots, and the datasets that the column is the mean of
Marks = dict[MethodVariant, Mark]
Accuracies = Mapping[MethodVariant, DatasetAccuracies]
Hits = Callable[[MethodVariant], SeedHits | None]


def column_marks(
    variants: VariantRecords, columns: Sequence[Column], images: ImageResults | None = None
) -> list[Marks]:
    """For each column, the best variant of each protocol and those that tie with it.

    A column of one dataset is decided by the paired test over test images where `images` has the
    predictions of both, else over seeds; a mean over datasets by `difference_ps`. Methods without
    shots take part in every protocol with their texts, since the rest of it does not concern them,
    and are marked only where they lead in all. Diagnostics take no part, and a variant that stands
    alone leads nothing.
    """
    by_shots = {
        variant: {dataset: accuracies_by_shots(records) for dataset, records in datasets.items()}
        for variant, datasets in variants.items()
        if variant.ranked
    }
    marks = []
    for shots, datasets in columns:
        compared = {variant: _at(each, shots, datasets) for variant, each in by_shots.items()}
        hits = _hits(variants, shots, datasets[0], images) if len(datasets) == 1 else None
        marks.append(_marks({each: at for each, at in compared.items() if at}, hits))
    return marks


def _at(
    by_dataset: Mapping[str, AccuraciesByShots], shots: int, datasets: Sequence[str]
) -> DatasetAccuracies:
    """The accuracies at `shots`, or at none where a method never uses any."""
    chosen = {}
    for dataset in datasets:
        by_shots = by_dataset.get(dataset, {})
        by_seed = by_shots.get(shots) or by_shots.get(0)
        if by_seed:
            chosen[dataset] = by_seed
    return chosen


def _hits(
    variants: VariantRecords, shots: int, dataset: str, images: ImageResults | None
) -> Hits | None:
    """A function: variant -> seed -> which test images of `dataset` its run got right."""
    if images is None:
        return None

    @cache
    def of(variant: MethodVariant) -> SeedHits | None:
        records = variants[variant].get(dataset, ())
        at_shots = [each for each in records if each.identity.shots == shots]
        chosen = at_shots or [each for each in records if not each.identity.shots]
        by_seed = {seed_of(each): images.right_Q(each) for each in chosen}
        present = {seed: right_Q for seed, right_Q in by_seed.items() if right_Q is not None}
        return present if len(present) == len(by_seed) else None

    return of


def _marks(compared: Accuracies, hits: Hits | None) -> Marks:
    """The marks of one column, each protocol by itself."""
    marks: Marks = {}
    for worded in sorted({variant.worded for variant in compared}):
        same = {variant: each for variant, each in compared.items() if variant.worded == worded}
        marks |= _marks_of_texts(same, hits)
    return marks


def _marks_of_texts(compared: Accuracies, hits: Hits | None) -> Marks:
    """The marks of the variants that describe classes by the same sentences."""
    untrained = {variant for variant in compared if variant.sampler == "none"}
    protocols = {variant.protocol for variant in compared if variant not in untrained}
    protocols = protocols or {variant.protocol for variant in untrained}
    marks: Marks = {}
    by_protocol = []
    for protocol in protocols:
        rivals = {
            variant: accuracies
            for variant, accuracies in compared.items()
            if variant.protocol == protocol or variant in untrained
        }
        by_protocol.append(_leaders(rivals, hits))
        marks |= by_protocol[-1]
    for variant in untrained & marks.keys():
        everywhere = {each.get(variant) for each in by_protocol}
        if None in everywhere:
            del marks[variant]
        else:
            marks[variant] = BEST if everywhere == {BEST} else TIED
    return marks


def _leaders(rivals: Accuracies, hits: Hits | None) -> Marks:
    def test(best: MethodVariant, others: Sequence[MethodVariant]) -> list[float | None]:
        ps = difference_ps(rivals[best], [rivals[other] for other in others])
        if hits is None:
            return ps
        over_images = [image_difference_p(hits(best), hits(other)) for other in others]
        return [p if better is None else better for p, better in zip(ps, over_images, strict=True)]

    return leaders(rivals, test) if len(rivals) > 1 else {}
