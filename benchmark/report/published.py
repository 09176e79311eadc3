"""Our records beside published numbers: reproduced, different, or not comparable and why. The
numbers: benchmark/reference/.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.errors import UserError
from benchmark.protocols import FEW_SHOT
from benchmark.records.record import Scalar
from benchmark.reference import PUBLISHED
from benchmark.report.averages import (
    Average,
    IncompleteMean,
    MeanAccuracy,
    accuracies_by_shots,
    mean_over_datasets,
    mean_over_seeds,
)
from benchmark.report.grouping import GroupedRecords
from benchmark.report.variants import (
    DatasetRecords,
    EvaluationSetting,
    MethodVariant,
    own_card,
)

COLUMNS = (
    *(
        "method",
        "params",
        "variant",
        "dataset",
        "classes",
        "shots",
        "backbone",
        "seeds",
        "accuracy",
        "std",
    ),
    *("kind", "selection", "obstacle", "caveat", "source"),
)
ALLOWANCE = 0.005  # other libraries, precisions and image decoders move a mean by half a point
DIGITISED = 0.002  # a value read off a figure
# of one run, where our own spread is not known
ONE_SEED_STD = {1: 0.03, 2: 0.02, 4: 0.015, 8: 0.01, 16: 0.0075}


@dataclass(frozen=True)
class PublishedResult:
    """One published number."""

    method: str
    params: Mapping[str, Scalar]
    variant: str
    dataset: str  # or a suite, for a mean over it
    classes: str
    shots: int
    backbone: str
    seeds: int  # 0 where there are none or nobody says
    accuracy: float
    std: float | None
    kind: str
    obstacle: str
    source: str


@dataclass(frozen=True)
class PublishedComparison:
    """A published number and ours. `why` says what makes them incomparable."""

    published: PublishedResult
    ours: MeanAccuracy
    tolerance: float
    verdict: str
    why: str = ""

    @property
    def difference(self) -> float:
        return self.ours.mean - self.published.accuracy


def read_published(path: Path = PUBLISHED) -> list[PublishedResult]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [_published(row) for row in csv.DictReader(file)]
    except OSError:
        raise UserError(
            f"the published numbers are not at {path}, where this package keeps them; "
            "install it anew"
        ) from None
    except (KeyError, ValueError, TypeError, RecursionError, csv.Error) as error:
        raise UserError(
            f"{path} is no table of published numbers ({error}); "
            f"its columns are {', '.join(COLUMNS)}"
        ) from None


def _published(row: Mapping[str, str]) -> PublishedResult:
    if None in row.values() or None in row:
        raise ValueError("a row is longer or shorter than the first")
    return PublishedResult(
        method=row["method"],
        params=_params(row["params"] or "{}"),
        variant=row["variant"],
        dataset=row["dataset"],
        classes=row["classes"],
        shots=_count(row["shots"]),
        backbone=row["backbone"],
        seeds=_count(row["seeds"] or "0"),
        accuracy=_fraction(row["accuracy"]),
        std=_fraction(row["std"]) if row["std"] else None,
        kind=row["kind"],
        obstacle=row["obstacle"],
        source=row["source"],
    )


def _params(text: str) -> dict[str, Scalar]:
    params = json.loads(text)
    if not isinstance(params, dict) or any(
        isinstance(value, (dict, list)) for value in params.values()
    ):
        raise ValueError(f"{text[:60]!r} is no object of hyper-parameters")
    return params


def _count(text: str) -> int:
    number = int(text) if len(text) < 20 else -1
    if not 0 <= number <= 10**9:
        raise ValueError(f"{text[:60]!r} is no number of shots or seeds")
    return number


def _fraction(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1:
        raise ValueError(f"{text[:60]!r} is not between 0 and 1")
    return number


def compare_published(
    groups: GroupedRecords, table: Sequence[PublishedResult]
) -> Iterator[PublishedComparison]:
    """A comparison for every published number that we have a counterpart of, in its order."""
    counterparts = {
        (setting, variant): _numbers(setting, datasets)
        for setting, variants in groups.items()
        for variant, datasets in variants.items()
    }
    for row in table:
        for (setting, variant), numbers in counterparts.items():
            ours = numbers.get((row.dataset, row.shots))
            if ours and _same_experiment(row, setting, variant):
                yield _verdict(row, variant, ours)


def _numbers(
    setting: EvaluationSetting, datasets: DatasetRecords
) -> dict[tuple[str, int], Average]:
    """(dataset or suite, shots) -> our score."""
    by_dataset = {name: accuracies_by_shots(records) for name, records in datasets.items()}
    averages: dict[tuple[str, int], Average] = {
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


def _same_experiment(
    row: PublishedResult, setting: EvaluationSetting, variant: MethodVariant
) -> bool:
    """Method, hyper-parameters and backbone as published; everything else is a matter for the
    verdict.
    """
    card = own_card(variant.method)
    wanted = (card.defaults if card else dict(variant.params)) | dict(row.params)
    return (
        row.method == variant.method
        and row.backbone == setting.backbone
        and row.classes == setting.classes
        and setting.evaluation == FEW_SHOT
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
        )
    assert isinstance(ours, MeanAccuracy), "only numbers that exist are compared"
    allowed = tolerance(row, ours)
    why = row.obstacle or _our_obstacle(variant)
    if why:
        return PublishedComparison(row, ours, allowed, "not comparable", why)
    near = abs(ours.mean - row.accuracy) <= allowed
    return PublishedComparison(row, ours, allowed, "reproduced" if near else "differs")


def _our_obstacle(variant: MethodVariant) -> str:
    if not variant.ranked:
        return "our prior saw full training sets"
    if variant.sampler not in ("coop", "none"):
        return f"our support sets were drawn by the rule '{variant.sampler}'"
    return ""


def tolerance(row: PublishedResult, ours: MeanAccuracy) -> float:
    """How far apart two means may lie: their seeds' 95 % interval, and an allowance for other
    software and for figures.

    The spread is our own over seeds (Student's t with our n - 1), a typical one where we have one
    seed; a published number whose seeds are not told counts as one run. Zero-shot results have no
    seeds, so the allowance is all they get.
    """
    extra = ALLOWANCE + (DIGITISED if row.kind == "digitised" else 0)
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


def published_text(comparisons: Sequence[PublishedComparison]) -> str:
    """A line per verdict and the sum of them."""
    lines = []
    for comparison in comparisons:
        at = comparison.published
        place = f"{at.variant}, {at.dataset}, {at.shots}-shot, {at.backbone}"
        ours = f"ours {100 * comparison.ours.mean:.2f} ({100 * comparison.difference:+.2f})"
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
            "why": comparison.why,
        }
        for comparison in comparisons
    ]
