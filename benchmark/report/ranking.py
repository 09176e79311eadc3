"""Which variants lead a column: all that cannot be told from the best under the same protocol."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from benchmark.report.averages import AccuraciesByShots, accuracies_by_shots
from benchmark.report.significance import DatasetAccuracies, tied_with_best
from benchmark.report.variants import MethodVariant, VariantRecords

VariantAccuracies = Mapping[MethodVariant, Mapping[str, AccuraciesByShots]]


def ranked_accuracies(variants: VariantRecords) -> VariantAccuracies:
    """What `leading_variants` compares: the accuracies of all variants but diagnostics."""
    return {
        variant: {dataset: accuracies_by_shots(found) for dataset, found in by_dataset.items()}
        for variant, by_dataset in variants.items()
        if variant.exposure.ranked
    }


def leading_variants(
    accuracies: VariantAccuracies, shots: int, datasets: Sequence[str]
) -> frozenset[MethodVariant]:
    """Among variants of one protocol at one number of shots, those that tie with the best over
    `datasets`.

    Methods without shots take part in every protocol, since none of it concerns them, and lead only
    where they lead in all. A variant that stands alone leads nothing.
    """
    compared = {variant: _at(each, shots, datasets) for variant, each in accuracies.items()}
    compared = {variant: by_dataset for variant, by_dataset in compared.items() if by_dataset}
    untrained = {variant for variant in compared if variant.sampler == "none"}
    protocols = {variant.protocol for variant in compared if variant not in untrained}
    protocols = protocols or {variant.protocol for variant in untrained}
    ahead = [
        _tied([one for one in compared if one.protocol == protocol or one in untrained], compared)
        for protocol in protocols
    ]
    everywhere = frozenset.intersection(*ahead) if ahead else frozenset()
    return (frozenset().union(*ahead) - untrained) | (everywhere & untrained)


def _tied(
    rivals: Collection[MethodVariant], accuracies: Mapping[MethodVariant, DatasetAccuracies]
) -> frozenset[MethodVariant]:
    named = {str(index): variant for index, variant in enumerate(rivals)}
    if len(named) < 2:
        return frozenset()
    tied = tied_with_best({name: accuracies[variant] for name, variant in named.items()})
    return frozenset(named[name] for name in tied)


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
