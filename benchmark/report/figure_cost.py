"""Accuracy against seconds of training: a point for each method, with its name beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmark.report import figure_style as style
from benchmark.report.figure_labels import place_labels
from benchmark.report.figure_numbers import Shown, half_interval
from benchmark.report.headings import dataset_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT = {"one-column": 2.5, "two-column": 3.4}  # inches of the panel
LABEL = 1.2  # inches of a name beside its point
LEAST_S = 1e-3  # seconds that a log scale begins with


class Point(NamedTuple):
    """A method: seconds of training, its mean and half of the interval around it, in %."""

    name: str
    seconds: float
    percent: float
    half: float
    look: dict[str, Any]


def points_of(shown: Shown) -> list[Point]:
    """The methods at the most shots there are; without those that lack datasets of the mean. One
    that is not trained stands left of all others.
    """
    shots = shown.shots[-1]
    whole = None if shown.covered.several else shown.covered.datasets[0]
    seconds = {name: shown.training_s(name, shots) for name in shown.accuracies}
    left = max(LEAST_S, min((each for each in seconds.values() if each), default=1.0) / 3)
    points = []
    for index, name in enumerate(shown.accuracies):
        scores = shown.scores(name, whole)
        score = scores.get(shots) or scores.get(0)
        if score:
            look = style.line_style(index) | {"linestyle": "none", "markersize": 4}
            look |= {} if shots in scores else {"color": style.GREY}
            numbers = (100 * score.mean, 100 * half_interval(score))
            points.append(Point(name, max(seconds[name], left), *numbers, look))
    return points


def cost(shown: Shown, points: Sequence[Point], width: str) -> Figure:
    """A panel with all points."""
    title = style.in_lines(_title(shown), style.WIDTHS[width] - 0.6, style.LETTERS)
    above = style.line_inches([title], style.LETTERS) + 0.06
    panels = style.Panels(style.WIDTHS[width], 1, 1, HEIGHT[width], 0.45, 0.0, [above])
    figure, (axes,) = panels.draw()
    for name, seconds, percent, half, look in points:
        axes.errorbar(seconds, percent, yerr=half, elinewidth=style.THIN, label=name, **look)
    axes.set_title(title)
    _scale(axes, points)
    short = {each: style.in_lines(text, LABEL) for each, text in _short(points).items()}
    at = {short[each.name]: (each.seconds, each.percent) for each in points}
    place_labels(axes, at, style.text_inches)
    return figure


def _title(shown: Shown) -> str:
    covered = shown.covered
    over = f"{covered.label} datasets" if covered.several else dataset_title(covered.label)
    return f"{shown.shots[-1]}-shot, {over}, backbone {shown.setting.backbone}"


def _scale(axes: Axes, points: Sequence[Point]) -> None:
    from matplotlib.ticker import FuncFormatter

    axes.set_xscale("log")
    axes.margins(x=0.12)
    low, high = axes.get_xlim()
    axes.xaxis.set_major_formatter(FuncFormatter(_plain))
    axes.xaxis.set_minor_formatter(FuncFormatter(_two_or_five) if high < 100 * low else "")
    lows, highs = zip(
        *((each.percent - each.half, each.percent + each.half) for each in points), strict=True
    )
    style.fit(axes, lows, highs)
    axes.set_xlabel("seconds of training (none: at the left edge)", labelpad=2)
    axes.set_ylabel("accuracy in %", labelpad=2)
    axes.grid(**style.GRID)


def _plain(seconds: float, _: int) -> str:
    return f"{seconds:g}"


def _two_or_five(seconds: float, _: int) -> str:
    """Of a short axis, which may lack powers of ten."""
    return f"{seconds:g}" if f"{seconds:e}"[0] in "25" else ""


def _short(points: Sequence[Point]) -> dict[str, str]:
    """Names without what follows their first comma, where this leaves them different."""
    titles = {each.name: each.name.partition(", ")[0] for each in points}
    count = Counter(titles.values())
    return {name: title if count[title] == 1 else name for name, title in titles.items()}
