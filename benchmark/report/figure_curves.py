"""Accuracy against shots: a panel for the mean, one for each dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.report import figure_style as style
from benchmark.report.figure_numbers import INTERVALS, Shown, half_interval
from benchmark.report.headings import dataset_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACROSS = {"one-column": 2, "two-column": 4}
LABEL = "accuracy in %"


def curves(shown: Shown, width: str) -> Figure:
    """Bars are 95 % t-intervals over seeds. Methods without shots are level lines."""
    covered, names = shown.covered, list(shown.accuracies)
    datasets: list[str | None] = [*([None] if covered.several else []), *covered.datasets]
    legend = style.legend_of(names, style.WIDTHS[width] - 0.1)
    across = min(ACROSS[width], len(datasets))
    sure = any(
        half_interval(score)
        for name in names
        for dataset in datasets
        for score in shown.scores(name, dataset).values()
    )
    whiskers = f"; whiskers: {INTERVALS}" if sure else ""
    said = f"backbone {shown.setting.backbone}{whiskers}"
    above = style.in_lines(said, style.WIDTHS[width] - 0.1)
    panels = style.Panels(
        style.WIDTHS[width],
        len(datasets),
        across,
        height=1.15 if len(datasets) > 1 else 1.9,
        left=0.45,
        gap=0.27,
        above=[0.24] * -(-len(datasets) // across),
        top=style.line_inches([above], style.SMALL) + 0.05,
        bottom=legend.height,
    )
    figure, drawn = panels.draw()
    at = 1 - 0.03 / figure.get_figheight()
    figure.text(0.99, at, above, size=style.SMALL, ha="right", va="top")
    for place, (axes, dataset) in enumerate(zip(drawn, datasets, strict=True)):
        _panel(axes, shown, dataset)
        axes.set_title(dataset_title(dataset) if dataset else f"{covered.label} datasets")
        if panels.lowest(place):
            axes.set_xlabel("images per class", labelpad=2)
        else:
            axes.tick_params(labelbottom=False)
    middle = (panels.below + panels.bottom) / figure.get_figheight()
    figure.text(0.02, (1 + middle) / 2, LABEL, rotation=90, ha="left", va="center")
    style.draw_legend(figure, drawn, legend, names)
    return figure


def _panel(axes: Axes, shown: Shown, dataset: str | None) -> None:
    places = {shots: place for place, shots in enumerate(shown.shots)}
    whiskers: list[tuple[float, float, float, str]] = []  # place, low, high, colour
    for index, name in enumerate(shown.accuracies):
        scores = shown.scores(name, dataset)
        means = {shots: 100 * score.mean for shots, score in scores.items()}
        if 0 in means:
            level = means.pop(0)
            axes.axhline(level, color=style.GREY, linestyle=":", linewidth=1.2, label=name)
            whiskers.append((0, level, level, style.GREY))
        look, shift = style.line_style(index), (index - (len(shown.accuracies) - 1) / 2) * 0.02
        if means:
            at = [places[shots] + shift for shots in means]
            axes.plot(at, list(means.values()), label=name, **look)
        for shots, mean in means.items():
            half = 100 * half_interval(scores[shots])
            whiskers.append((places[shots] + shift, mean - half, mean + half, look["color"]))
    if whiskers:
        xs, lows, highs, colours = zip(*whiskers, strict=True)
        axes.vlines(xs, lows, highs, colors=colours, linewidth=style.THIN)
        style.fit(axes, lows, highs)
    axes.set_xticks(range(len(places)), list(map(str, places)))
    axes.set_xlim(-0.4, len(places) - 0.6)
    axes.grid(axis="y", **style.GRID)
