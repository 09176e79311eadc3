"""Accuracy against seconds of training: a point for each method, with its name beside it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from benchmark.report import figure_style as style
from benchmark.report.figure_labels import place_labels
from benchmark.report.figure_numbers import Shown, half_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEIGHT = {"one-column": 2.5, "two-column": 3.4}  # inches of the panel
LABEL = 1.2  # inches of a name beside its point
LEAST_S = 1e-3  # seconds that a log scale begins with


def cost(shown: Shown, width: str) -> Figure:
    """At the most shots there are; a method without any stands there too. Those that lack datasets
    of the mean are left out.
    """
    shots = shown.shots[-1]
    whole = None if shown.covered.several else shown.covered.datasets[0]
    title = style.in_lines(
        f"{shots}-shot{shown.covered.in_title}, {shown.setting.backbone}",
        style.WIDTHS[width] - 0.6,
        style.LETTERS,
    )
    above = style.line_inches([title], style.LETTERS) + 0.06
    panels = style.Panels(style.WIDTHS[width], 1, 1, HEIGHT[width], 0.45, 0.0, [above])
    figure, (axes,) = panels.draw()
    scores = {name: shown.scores(name, whole) for name in shown.accuracies}
    found = {name: each.get(shots) or each.get(0) for name, each in scores.items()}
    means = {name: score for name, score in found.items() if score}
    left = _left_edge(shown, list(means), shots)
    points = {}
    for index, name in enumerate(shown.accuracies):
        if name in means:
            score = means[name]
            points[name] = (max(shown.training_s(name, shots), left), 100 * score.mean)
            look = style.line_style(index) | {"linestyle": "none", "markersize": 4}
            look |= {} if shots in scores[name] else {"color": style.GREY}
            half = 100 * half_interval(score)
            axes.errorbar(*points[name], yerr=half, elinewidth=style.THIN, label=name, **look)
    axes.set_xscale("log")
    axes.margins(x=0.12)
    halves = [100 * half_interval(score) for score in means.values()]
    heights = [100 * score.mean for score in means.values()]
    style.fit(
        axes,
        [height - half for height, half in zip(heights, halves, strict=True)],
        [height + half for height, half in zip(heights, halves, strict=True)],
    )
    axes.set_xlabel("seconds of training (none: at the left edge)", labelpad=2)
    axes.set_ylabel("accuracy in %", labelpad=2)
    axes.set_title(title)
    axes.grid(**style.GRID)
    names = {name: style.in_lines(short, LABEL) for name, short in _short(list(points)).items()}
    place_labels(axes, {names[name]: point for name, point in points.items()}, style.text_inches)
    return figure


def _left_edge(shown: Shown, names: list[str], shots: int) -> float:
    """Where methods that need no training stand: left of all others."""
    seconds = [shown.training_s(name, shots) for name in names]
    return max(LEAST_S, min((each for each in seconds if each > 0), default=1.0) / 3)


def _short(names: list[str]) -> dict[str, str]:
    """Names without what follows their first comma, where this leaves them different."""
    titles = {name: name.partition(", ")[0] for name in names}
    count = Counter(titles.values())
    return {name: title if count[title] == 1 else name for name, title in titles.items()}
