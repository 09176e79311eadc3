"""Our records beside published numbers: reproduced, different, or not comparable and why. The
numbers: benchmark/reference/.
"""

from __future__ import annotations

import json
import math
import shlex
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from benchmark import presets
from benchmark.protocols import ALL, FEW_SHOT
from benchmark.report.averages import (
    Average,
    IncompleteMean,
    MeanAccuracy,
    accuracies_by_shots,
    mean_over_datasets,
    mean_over_seeds,
)
from benchmark.report.grouping import GroupedRecords
from benchmark.report.page_halves import harmonic_rows
from benchmark.report.published_table import ONE_SEED_STD, PublishedResult, allowance, disputed
from benchmark.report.variants import (
    DatasetRecords,
    EvaluationSetting,
    MethodVariant,
    members,
    own_card,
)

H = "H"  # stands in the table where the classes would
Numbers = dict[tuple[str, int], Average]  # (dataset or suite, shots) -> our score


@dataclass(frozen=True)
class PublishedComparison:
    """A published number and ours. `why` says what makes them incomparable."""

    published: PublishedResult
    ours: MeanAccuracy
    tolerance: float
    verdict: str
    why: str = ""
    preset: str = ""  # of our run

    @property
    def as_preset(self) -> str:
        """' as released' for a run under the preset."""
        return f" as {self.preset}" if self.preset else ""

    @property
    def difference(self) -> float:
        return self.ours.mean - self.published.accuracy


def compare_published(
    groups: GroupedRecords, table: Sequence[PublishedResult]
) -> Iterator[PublishedComparison]:
    """A comparison for every published number that we have a counterpart of, in its order."""
    counterparts = {
        (setting, variant): _numbers(setting, datasets)
        for setting, variants in groups.items()
        for variant, datasets in variants.items()
    } | dict(_harmonic_numbers(groups))
    for row in table:
        for (setting, variant), numbers in counterparts.items():
            ours = numbers.get((row.dataset, row.shots))
            if ours and _same_experiment(row, setting, variant):
                yield _verdict(row, variant, ours)


def _numbers(setting: EvaluationSetting, datasets: DatasetRecords) -> Numbers:
    by_dataset = {name: accuracies_by_shots(records) for name, records in datasets.items()}
    averages: Numbers = {
        (name, shots): mean_over_seeds(by_seed)
        for name, by_shots in by_dataset.items()
        for shots, by_seed in by_shots.items()
    }
    shots_seen = {shots for by_shots in by_dataset.values() for shots in by_shots}
    for shots in shots_seen if len(setting.members) > 1 else ():
        averages[setting.suite, shots] = mean_over_datasets(
            [by_dataset.get(name, {}).get(shots) for name in setting.members]
        )
    return averages


def _harmonic_numbers(
    groups: GroupedRecords,
) -> Iterator[tuple[tuple[EvaluationSetting, MethodVariant], Numbers]]:
    """H of base and new, as a part of the classes of its own."""
    for made in harmonic_rows(groups, mean=""):
        setting = replace(made.setting, classes=H)
        for variant, rows in made.rows.items():
            yield (
                (setting, variant),
                {(name or setting.suite, shots): value for name, shots, value in rows},
            )


def _same_experiment(
    row: PublishedResult, setting: EvaluationSetting, variant: MethodVariant
) -> bool:
    """Method, hyper-parameters and backbone as published; everything else is a matter for the
    verdict.
    """
    card = own_card(variant.method)
    defaults = card.defaults if card else dict(variant.params)
    wanted = ({} if variant.preset else defaults) | dict(row.params)
    return (
        row.method == variant.method
        and variant.preset in ("", row.preset)
        and row.backbone == setting.backbone
        and row.classes == setting.classes
        and row.evaluation == setting.evaluation
        and dict(variant.params) == wanted
    )


def _verdict(row: PublishedResult, variant: MethodVariant, ours: Average) -> PublishedComparison:
    if isinstance(ours, IncompleteMean):
        return PublishedComparison(
            row,
            MeanAccuracy(math.nan, None, ()),
            math.nan,
            "not comparable",
            f"our mean lacks datasets ({ours.have}/{ours.want})",
            variant.preset,
        )
    assert isinstance(ours, MeanAccuracy), "only numbers that exist are compared"
    allowed = tolerance(row, ours)
    why = (row.preset_obstacle if variant.preset else row.obstacle) or _our_obstacle(variant)
    if why:
        return PublishedComparison(row, ours, allowed, "not comparable", why, variant.preset)
    near = abs(ours.mean - row.accuracy) <= allowed
    verdict = "reproduced" if near else "differs"
    return PublishedComparison(row, ours, allowed, verdict, preset=variant.preset)


def _our_obstacle(variant: MethodVariant) -> str:
    if not variant.exposure.ranked and not variant.preset:
        return "our prior saw full training sets"
    if variant.sampler not in ("coop", "none"):
        return f"our support sets were drawn by the rule '{variant.sampler}'"
    if variant.texts:
        return f"our classes are described by the texts '{variant.texts}'"
    return ""


def tolerance(row: PublishedResult, ours: MeanAccuracy) -> float:
    """How far apart two means may lie: their seeds' 95 % interval, and an allowance for other
    software and for figures.

    The spread is our own over seeds (Student's t with our n - 1), a typical one where we have one
    seed; a published number whose seeds are not told counts as one run. Zero-shot results have no
    seeds, so the allowance is all they get.
    """
    extra = allowance(row.kind)
    if not row.shots:
        return extra
    from scipy import special

    spread, quantile = ours.std, 1.96
    if spread is None or ours.count < 2:
        spread = ONE_SEED_STD.get(row.shots, ONE_SEED_STD[16])
    else:
        quantile = float(special.stdtrit(ours.count - 1, 0.975))
    theirs = row.std if row.std is not None else spread
    return extra + quantile * math.sqrt(
        spread**2 / max(1, ours.count) + theirs**2 / max(1, row.seeds)
    )


@dataclass(frozen=True)
class MissingRuns:
    """Published numbers of one experiment that no record under its preset stands beside."""

    variant: str
    values: int
    command: str  # what makes the records


def missing_runs(
    comparisons: Sequence[PublishedComparison], table: Sequence[PublishedResult]
) -> list[MissingRuns]:
    """What would have to run under presets, one entry per experiment, in the table's order."""
    have = {id(each.published) for each in comparisons if each.preset}
    missing: dict[tuple[str, ...], list[PublishedResult]] = defaultdict(list)
    for row in table:
        possible = row.preset and row.method in presets.methods_with(row.preset)
        if possible and id(row) not in have and not row.preset_obstacle:
            params = json.dumps(dict(row.params), sort_keys=True)
            missing[row.method, params, row.backbone, row.evaluation, row.variant].append(row)
    return [
        MissingRuns(rows[0].variant, len(rows), _preset_command(rows)) for rows in missing.values()
    ]


def _preset_command(rows: Sequence[PublishedResult]) -> str:
    first = rows[0]
    words = ["--method", first.method, "--preset", first.preset]
    words += ["--dataset", _joined({name for row in rows for name in members(row.dataset)})]
    words += ["--shots", _joined({row.shots for row in rows})]
    words += ["--seed", _joined(set(range(1, max(1, first.seeds) + 1)))]
    words += ["--backbone", first.backbone]
    words += ["--protocol", first.evaluation] if first.evaluation != FEW_SHOT else []
    for name, value in first.params.items():
        words += ["--set", f"{first.method}.{name}={value}"]
    return "python -m benchmark run " + shlex.join(words)


def _joined(values: Collection[str] | Collection[int]) -> str:
    return ",".join(map(str, sorted(values)))


def disputed_text(table: Sequence[PublishedResult]) -> str:
    """A line for every cell on which published sources disagree; nothing where there is none."""
    lines = []
    for rows in disputed(table):
        first = rows[0]
        values = ", ".join(f"{100 * row.accuracy:.2f} ({row.variant})" for row in rows)
        place = f"{first.method}, {first.dataset}, {first.shots}-shot, {first.backbone}"
        lines.append(f"disputed        {place}: {values}")
    return "\n".join(lines)


def published_text(comparisons: Sequence[PublishedComparison]) -> str:
    """A line per verdict and the sum of them."""
    lines = []
    for comparison in comparisons:
        at = comparison.published
        part = "" if at.classes == ALL else f" {at.classes}"
        place = f"{at.variant}, {at.dataset}{part}, {at.shots}-shot, {at.backbone}"
        mean, difference = 100 * comparison.ours.mean, 100 * comparison.difference
        ours = f"ours{comparison.as_preset} {mean:.2f} ({difference:+.2f})"
        numbers = f"published {100 * at.accuracy:.2f}, {ours}"
        reason = (
            f": {comparison.why}"
            if comparison.why
            else f", tolerance {100 * comparison.tolerance:.2f}"
        )
        lines.append(f"{comparison.verdict.ljust(14)}  {place}: {numbers}{reason} [{at.source}]")
    counts = {
        word: sum(comparison.verdict == word for comparison in comparisons)
        for word in ("reproduced", "differs", "not comparable")
    }
    return "\n".join([*lines, ", ".join(f"{count} {word}" for word, count in counts.items())])


def published_dicts(comparisons: Sequence[PublishedComparison]) -> list[dict[str, object]]:
    return [
        {
            **vars(comparison.published),
            "params": dict(comparison.published.params),
            "ours": comparison.ours.mean,
            "our_seeds": comparison.ours.count,
        }
        | {
            "difference": comparison.difference,
            "tolerance": comparison.tolerance,
            "verdict": comparison.verdict,
            "our_preset": comparison.preset,
            "why": comparison.why,
        }
        for comparison in comparisons
    ]
