"""Accuracy against seconds of training: a point for each method, with its name beside it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmark.report import figure_style as style
from benchmark.report.figure_labels import place_labels
from benchmark.report.figure_numbers import INTERVALS, Shown, half_interval
from benchmark.report.headings import dataset_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT = {"one-column": 2.5, "two-column": 3.4}  # inches of the panel
LABEL = 1.2  # inches of a name beside its point


class Point(NamedTuple):
    """A method: seconds of training, 0 of none; its mean and half of its interval, in %."""

    name: str
    seconds: float
    percent: float
    half: float
    look: dict[str, Any]


def points_of(shown: Shown) -> list[Point]:
    """The methods at the shots that most of them have; without those that lack datasets of the
    mean. Nothing where none of them is trained.
    """
    shots = shown.fullest
    points, trained = [], False
    for index, name in enumerate(shown.accuracies):
        scores = shown.scores(name, None)
        trained |= shots in scores
        score = scores.get(shots) or scores.get(0)
        if score:
            look = style.line_style(index) | {"linestyle": "none", "markersize": 4}
            look |= {} if shots in scores else {"color": style.GREY}
            numbers = (100 * score.mean, 100 * half_interval(score))
            points.append(Point(name, shown.training_s(name, shots), *numbers, look))
    return points if trained else []


def cost(shown: Shown, points: Sequence[Point], width: str) -> Figure:
    """A panel with all points; what needs no training has a place of its own at the left."""
    none = _left_of(points)
    points = [each._replace(seconds=max(each.seconds, none)) for each in points]
    title = style.in_lines(_title(shown, points), style.WIDTHS[width] - 0.6, style.LETTERS)
    above = style.line_inches([title], style.LETTERS) + 0.06
    panels = style.Panels(style.WIDTHS[width], 1, 1, HEIGHT[width], 0.45, 0.0, [above])
    figure, (axes,) = panels.draw()
    for name, seconds, percent, half, look in points:
        axes.errorbar(seconds, percent, yerr=half, elinewidth=style.THIN, label=name, **look)
    axes.set_title(title)
    _scale(axes, points, none)
    short = {each: style.in_lines(text, LABEL) for each, text in _short(points).items()}
    at = {short[each.name]: (each.seconds, each.percent) for each in points}
    place_labels(axes, at, style.text_inches)
    return figure


def _left_of(points: Sequence[Point]) -> float:
    """Seconds at which those without training stand: left of all others by a share of the axis."""
    trained = [each.seconds for each in points if each.seconds] or [1.0]
    return min(trained) / max(3.0, (max(trained) / min(trained)) ** 0.2)


def _title(shown: Shown, points: Sequence[Point]) -> str:
    covered = shown.covered
    over = f"{covered.label} datasets" if covered.several else dataset_title(covered.label)
    sure = f"; {INTERVALS}" if any(each.half for each in points) else ""
    return f"{shown.fullest}-shot, {over}, backbone {shown.setting.backbone}{sure}"


def _scale(axes: Axes, points: Sequence[Point], none: float) -> None:
    _seconds_axis(axes, [each.seconds for each in points], none)
    lows, highs = zip(
        *((each.percent - each.half, each.percent + each.half) for each in points), strict=True
    )
    style.fit(axes, lows, highs)
    axes.set_ylabel("accuracy in %", labelpad=2)
    axes.grid(**style.GRID)


def _seconds_axis(axes: Axes, seconds: Sequence[float], none: float) -> None:
    """Powers of ten, of a short axis also twice and five times these, and "none" where that is."""
    axes.set_xscale("log")
    axes.margins(x=0.12)
    low, high = axes.get_xlim()
    least = min((each for each in seconds if each > none), default=high)
    steps = (1, 2, 5) if high < 100 * least else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    numbers = [step * 10.0**power for power in powers for step in steps]
    ticks = {each: f"{each:g}" for each in numbers if 0.8 * least <= each <= high}
    if none in seconds:
        ticks[none] = "none"
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.minorticks_off()
    axes.set_xlim(low, high)
    axes.set_xlabel("seconds of training", labelpad=2)


def _short(points: Sequence[Point]) -> dict[str, str]:
    """Names without what follows their first comma, where this leaves them different."""
    titles = {each.name: each.name.partition(", ")[0] for each in points}
    count = Counter(titles.values())
    return {name: title if count[title] == 1 else name for name, title in titles.items()}
