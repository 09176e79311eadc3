"""A comparison of two methods as a table: a row per dataset below its number of shots, in points
of accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmark.errors import counted
from benchmark.report import significance
from benchmark.report.comparison import DatasetComparison, MethodComparison
from benchmark.report.result_table import ResultRow, ResultTable
from benchmark.report.short_names import cut

LONGEST = 30  # characters of a name above a column, which stands in two lines
LEGEND = (
    "gap: the first minus the second before rounding, in points; in brackets its 95 % interval",
    "over seeds (Student's t): would other draws of the support sets show a difference? over "
    "images (bootstrap, McNemar's test for one seed): would other test images?",
)


def comparison_table(comparison: MethodComparison) -> ResultTable:
    """The verdicts over datasets, long names, and what the columns say stand below."""
    long = list(dict.fromkeys(name for name in comparison.names if len(name) > LONGEST))
    shown = [
        cut(name, LONGEST, f" [{long.index(name) + 1}]") if name in long else name
        for name in comparison.names
    ]
    whole = [f"[{number}] {name}" for number, name in enumerate(long, start=1)]
    verdicts = [
        _summary(shot, p, [pair.gap for pair in comparison.pairs if pair.shots == shot])
        for shot, p in comparison.over_datasets.items()
    ]
    return ResultTable(
        f"{shown[0]} minus {shown[1]}: {comparison.setting}",
        ("shots", "dataset"),
        (*shown, "gap", "over seeds", "over images"),
        tuple(_row(pair) for pair in sorted(comparison.pairs, key=lambda pair: pair.shots)),
        (*verdicts, *whole, *_passed_over(comparison), *LEGEND),
    )


def _passed_over(comparison: MethodComparison) -> list[str]:
    """Which rows a name that could be several was not taken for."""
    return [
        f"'{name}' is taken for the row of its defaults, not for {', '.join(map(repr, others))}"
        for name, others in comparison.passed_over.items()
    ]


def _row(pair: DatasetComparison) -> ResultRow:
    by_images = (
        f"{_p_text(pair.p_mcnemar)} (McNemar)"
        if pair.p_mcnemar is not None
        else _worded(pair.over_images)
    )
    return ResultRow(
        pair.dataset,
        (
            f"{100 * pair.first:.1f}",
            f"{100 * pair.second:.1f}",
            f"{100 * pair.gap:+.1f}",
            _worded(pair.over_seeds, pair.seeds),
            by_images,
        ),
        group=f"{pair.shots}-shot",
    )


def _summary(shot: int, p: float | None, gaps: Sequence[float]) -> str:
    wins, losses = sum(gap > 0 for gap in gaps), sum(gap < 0 for gap in gaps)
    test = (
        "Wilcoxon over datasets"
        if len(gaps) >= significance.FEWEST_DATASETS
        else "Student's t over seeds"
    )
    verdict = (
        f"{test}, {_p_text(p)} (Holm over shots)"
        if p is not None
        else "one seed and few datasets: no test"
    )
    mean = f"mean gap {100 * math.fsum(gaps) / len(gaps):+.1f}"
    ties = len(gaps) - wins - losses
    lost = f"{losses} {'loss' if losses == 1 else 'losses'}"
    outcomes = f"{counted(wins, 'win')}, {counted(ties, 'tie')}, {lost}"
    return f"{shot}-shot, {counted(len(gaps), 'dataset')}: {mean}; {outcomes}; {verdict}"


def _p_text(p: float) -> str:
    return "p<0.001" if p < 0.001 else f"p={p:.3f}"


def _worded(difference: significance.MeanDifference | None, seeds: int = 0) -> str:
    if difference is None:
        return "one seed" if seeds == 1 else "-"
    return f"[{100 * difference.low:+.1f}, {100 * difference.high:+.1f}] {_p_text(difference.p)}"
