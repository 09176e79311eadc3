"""Which variants of a table lead: not one winner, but all that cannot be told from the best under the
same protocol.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.report.averages import accuracies_by_shots
from benchmark.report.grouping import DatasetRecords, MethodVariant, VariantRecords
from benchmark.report.significance import DatasetAccuracies, tied_with_best


def leading_variants(
    variants: VariantRecords, shots: int, datasets: Sequence[str]
) -> frozenset[MethodVariant]:
    """Among variants of one protocol at one number of shots, those that tie with the best over
    `datasets`.

    Methods without shots take part in every protocol, since none of it concerns them, and lead only
    where they lead in all. A variant that stands alone leads nothing. Diagnostics never take part.
    """
    numbers = {
        variant: _numbers(found, shots, datasets)
        for variant, found in variants.items()
        if variant.exposure.ranked
    }
    present = {variant: by_dataset for variant, by_dataset in numbers.items() if by_dataset}
    untrained = {variant for variant in present if variant.sampler == "none"}
    protocols = {variant.protocol for variant in present if variant not in untrained} or {
        variant.protocol for variant in untrained
    }
    found: list[frozenset[MethodVariant]] = []
    for protocol in protocols:
        rivals = {
            str(index): variant
            for index, variant in enumerate(present)
            if variant.protocol == protocol or variant in untrained
        }
        ahead = (
            tied_with_best({name: present[variant] for name, variant in rivals.items()})
            if len(rivals) > 1
            else set()
        )
        found.append(frozenset(rivals[name] for name in ahead))
    everywhere = frozenset.intersection(*found) if found else frozenset()
    return frozenset(
        variant
        for ahead in found
        for variant in ahead
        if variant not in untrained or variant in everywhere
    )


def _numbers(found: DatasetRecords, shots: int, datasets: Sequence[str]) -> DatasetAccuracies:
    by_dataset = {dataset: accuracies_by_shots(found.get(dataset, ())) for dataset in datasets}
    at = {
        dataset: by_shots.get(shots) or by_shots.get(0) for dataset, by_shots in by_dataset.items()
    }
    return {dataset: by_seed for dataset, by_seed in at.items() if by_seed}
