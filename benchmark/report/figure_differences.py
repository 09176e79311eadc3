"""Points gained over a baseline: a panel for each method, a bar for each dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmark.errors import UserError, nearest
from benchmark.report import figure_style as style
from benchmark.report import significance
from benchmark.report.figure_numbers import FEWEST_SEEDS, INTERVALS, Shown
from benchmark.report.headings import dataset_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACROSS = {"one-column": 2, "two-column": 4}
BAR = 0.115  # inches of a bar and the space around it


def baseline(shown: Shown, wanted: str | None) -> str | None:
    """The heading of the baseline: the one asked for by method or heading, else the first method
    that needs no shots; None where the setting has none.
    """
    for name, variant in shown.variants.items():
        if wanted in (name, variant.method) or (wanted is None and variant.sampler == "none"):
            return name
    return None


def require_baseline(settings: Sequence[Shown], wanted: str) -> None:
    """UserError where no setting has a row of this method or heading."""
    if not any(baseline(each, wanted) for each in settings):
        names = sorted({name for each in settings for name in each.variants})
        raise UserError(
            f"no row has the method '{wanted}' to be a baseline; {nearest(wanted, names)}"
        )


def others_than(shown: Shown, against: str) -> list[str]:
    """The trained methods that have a difference to the baseline at the shots of the figure."""
    return [
        name
        for name, by_dataset in shown.accuracies.items()
        if name != against
        and any(shown.fullest in by_shots for by_shots in by_dataset.values())
        and any(_gaps(shown, (name, against), dataset) for dataset in by_dataset)
    ]


def differences(shown: Shown, against: str, others: Sequence[str], width: str) -> Figure:
    """At the shots that most methods have; whiskers are 95 % t-intervals of paired differences."""
    shots, datasets = shown.fullest, shown.covered.datasets
    inches = style.WIDTHS[width]
    across = min(ACROSS[width], len(others))
    left = max(style.text_inches(dataset_title(name)) for name in datasets) + 0.12
    room = (inches - left - 0.08) / across - 0.1
    titles = [style.in_lines(name, room, style.LETTERS) for name in others]
    title = f"Points over {against}, {shots}-shot, backbone {shown.setting.backbone}"
    pairs = [_gaps(shown, (name, against), dataset) for name in others for dataset in datasets]
    if any(len(gaps) >= FEWEST_SEEDS for gaps in pairs):
        title += f"; whiskers: {INTERVALS}"
    title = style.in_lines(title, inches - 0.2, style.LETTERS)
    panels = style.Panels(
        inches,
        len(others),
        across,
        height=max(0.35, BAR * len(datasets)),
        left=left,
        gap=0.1,
        above=[
            style.line_inches(titles[at : at + across], style.LETTERS) + 0.1
            for at in range(0, len(others), across)
        ],
        top=style.line_inches([title], style.LETTERS) + 0.04,
    )
    figure, drawn = panels.draw()
    for place, (axes, name) in enumerate(zip(drawn, others, strict=False)):
        _bars(axes, shown, (name, against))
        axes.set_title(titles[place])
        axes.tick_params(labelleft=place % across == 0, labelbottom=panels.lowest(place))
        if panels.lowest(place):
            axes.set_xlabel("points", labelpad=2)
    limits = [each.get_xlim() for each in drawn]
    for axes in drawn:
        axes.set_xlim(min(low for low, _ in limits), max(high for _, high in limits))
    figure.text(0.5, 1 - 0.03 / figure.get_figheight(), title, ha="center", va="top")
    return figure


def _gaps(shown: Shown, pair: tuple[str, str], dataset: str) -> list[float]:
    """Differences on a dataset, one for each seed that both have."""
    first, second = (shown.at(name, dataset, shown.fullest) for name in pair)
    return list(significance.seed_gaps(first, second).values()) if first and second else []


def _bars(axes: Axes, shown: Shown, pair: tuple[str, str]) -> None:
    datasets = list(reversed(shown.covered.datasets))
    bars: list[tuple[int, float, float]] = []  # place, points, half of the interval
    for place, dataset in enumerate(datasets):
        gaps = _gaps(shown, pair, dataset)
        if gaps:
            found = significance.paired_t(gaps) if len(gaps) >= FEWEST_SEEDS else None
            half = 100 * (found.high - found.mean) if found else 0.0
            bars.append((place, 100 * sum(gaps) / len(gaps), half))
    if bars:
        places, points, halves = zip(*bars, strict=True)
        colours = [style.COLOURS[0] if each > 0 else style.COLOURS[1] for each in points]
        axes.barh(
            places,
            points,
            xerr=halves,
            color=colours,
            alpha=0.75,
            error_kw={"elinewidth": style.THIN},
        )
    axes.axvline(0, color="0.3", linewidth=0.6)
    axes.set_yticks(range(len(datasets)), list(map(dataset_title, datasets)))
    axes.set_ylim(-0.6, len(datasets) - 0.4)
    axes.grid(axis="x", **style.GRID)
    axes.set_axisbelow(True)
