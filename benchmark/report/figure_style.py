"""What all figures share: the widths of papers, letters, colours, and where panels and legends lie.

Sizes are inches of the printed page and points of its letters: a figure is put into a paper as it
is, without scaling.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTHS: Mapping[str, float] = {"one-column": 3.25, "two-column": 6.75}
USUAL_WIDTH = "two-column"
LETTERS, SMALL = 8.0, 7.0  # pt, of titles and axes; of ticks, legends and labels
THIN = 0.5  # pt, of whiskers

# Okabe and Ito's colours without their yellow, which is too pale on paper; markers and dashes tell
# the rest apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#808080")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
DASHES = ("-", "--", "-.", ":")
GREY = "0.4"  # of methods that do not learn
GRID: dict[str, Any] = {"color": "0.9", "linewidth": 0.5}

SETTINGS: dict[Any, Any] = {  # of matplotlib
    "font.size": LETTERS,
    "axes.titlesize": LETTERS,
    "axes.labelsize": LETTERS,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "axes.linewidth": 0.6,
    "axes.titlepad": 3.0,
    "xtick.major.pad": 2.0,
    "ytick.major.pad": 2.0,
    "xtick.major.size": 2.0,
    "ytick.major.size": 2.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "pdf.fonttype": 42,  # whole letters, which journals ask for
}


def line_style(index: int) -> dict[str, Any]:
    """The look of the method of this place."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": DASHES[index // len(COLOURS) % len(DASHES)],
        "markersize": 2.8,
        "linewidth": 0.9,
    }


@cache
def text_inches(text: str, size: float = SMALL) -> float:
    """The width of the longest line of a text."""
    from matplotlib.textpath import TextPath

    lines = [line for line in text.split("\n") if line.strip()]
    return (
        max((TextPath((0, 0), line, size=size).get_extents().x1 for line in lines), default=0) / 72
    )


def in_lines(text: str, inches: float, size: float = SMALL) -> str:
    """The words of a text in lines of at most so many inches, where words allow it; a longer word
    is broken behind its signs.
    """
    lines: list[str] = []
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_inches(longer, size) <= inches:
            lines[-1] = longer
        else:
            lines += _broken(word, inches, size)
    return "\n".join(lines)


def _broken(word: str, inches: float, size: float) -> list[str]:
    lines = [""]
    for part in re.findall(r"[^._/=-]+[._/=-]*|^[._/=-]+", word):
        if lines[-1] and text_inches(lines[-1] + part, size) > inches:
            lines.append(part)
        else:
            lines[-1] += part
    return lines


def line_inches(texts: Iterable[str], size: float) -> float:
    """The height of the tallest of some texts."""
    return max((text.count("\n") + 1 for text in texts), default=0) * 1.25 * size / 72


@dataclass(frozen=True)
class Panels:
    """A figure of equal panels in rows; sizes in inches."""

    width: float
    count: int
    across: int
    height: float  # of a panel
    left: float  # beside the first panel of a row: its ticks and the label of all
    gap: float  # between panels of a row, for ticks
    above: Sequence[float]  # above each row, for titles
    top: float = 0.05  # above all
    below: float = 0.35  # below all, for ticks and a label
    bottom: float = 0.0  # below that, for a legend

    @property
    def panel_width(self) -> float:
        return (self.width - self.left - 0.08 - self.gap * (self.across - 1)) / self.across

    def draw(self) -> tuple[Figure, list[Axes]]:
        """The figure and its panels, row by row."""
        from matplotlib.figure import Figure

        tops = [0.0, *accumulate(above + self.height for above in self.above)]
        height = self.top + tops[-1] + self.below + self.bottom
        figure = Figure(figsize=(self.width, height))
        panels = []
        for place in range(self.count):
            down, across = divmod(place, self.across)
            left = self.left + across * (self.panel_width + self.gap)
            low = height - self.top - tops[down + 1]
            box = (left / self.width, low / height)
            size = (self.panel_width / self.width, self.height / height)
            panels.append(figure.add_axes((*box, *size)))
        return figure, panels

    def lowest(self, place: int) -> bool:
        """Whether no panel lies below this one."""
        return place + self.across >= self.count


@dataclass(frozen=True)
class Legend:
    """Names of lines in columns, and the height that they take, in inches."""

    labels: tuple[str, ...]
    columns: int
    height: float


def legend_of(names: Sequence[str], width: float) -> Legend:
    """As many columns as fit into `width` inches; a long name takes several lines."""
    handle = 0.42  # inches of a line, its marker and the space around
    labels = tuple(in_lines(name, 1.2) for name in names)
    longest = max(map(text_inches, labels)) + handle
    columns = max(1, min(len(labels), int(width / longest)))
    longer, rows = len(labels) % columns, len(labels) // columns
    ends = [0, *accumulate(rows + (at < longer) for at in range(columns))]
    lines = [label.count("\n") + 1 for label in labels]
    by_column = [lines[start:end] for start, end in pairwise(ends)]
    # matplotlib aligns the middles of the first labels of all columns
    above = max((each[0] - 1) / 2 for each in by_column)
    below = max(sum(each) - (each[0] - 1) / 2 for each in by_column)
    return Legend(labels, columns, (above + below) * 1.33 * SMALL / 72 + 0.06)


def draw_legend(
    figure: Figure, panels: Sequence[Axes], legend: Legend, names: Sequence[str]
) -> None:
    """Every method once, at the foot of the figure, though it may be missing from some panels."""
    handles = {
        label: handle
        for axes in panels
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    drawn = [
        (label, handles[name])
        for label, name in zip(legend.labels, names, strict=True)
        if name in handles
    ]
    figure.legend(
        [handle for _, handle in drawn],
        [label for label, _ in drawn],
        loc="lower center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=legend.columns,
        frameon=False,
        borderpad=0.2,
        borderaxespad=0.1,
        labelspacing=0.3,
        columnspacing=1.0,
        handlelength=2.2,
        handletextpad=0.5,
    )


def fit(axes: Axes, lows: Sequence[float], highs: Sequence[float]) -> None:
    """Limits that hold all values in %, with a little air, and stay within [0, 100]."""
    low, high = min(lows, default=0.0), max(highs, default=100.0)
    air = max(0.05 * (high - low), 1.0)
    axes.set_ylim(max(0.0, low - air), min(100.0, high + air))
    axes.locator_params(axis="y", integer=True)  # decimals would reach the label beside them
