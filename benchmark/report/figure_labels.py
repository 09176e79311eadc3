"""Names beside points, none over another or over a point."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from benchmark.report.figure_style import SMALL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DISTANCES = (5, 8, 12, 17, 23, 30, 38, 47, 57, 68, 80)  # pt, from a point to its name
ANGLES = (0, 180, 45, 315, 135, 225, 90, 270, *range(15, 360, 30))
LEADER = 9  # pt; a name that lies farther off is tied to its point by a line
POINT = 3.0  # pt, half the width of a point


class Box(NamedTuple):
    """A rectangle of the page, in pt."""

    left: float
    low: float
    right: float
    high: float

    def meets(self, other: Box) -> bool:
        apart = self.right <= other.left or other.right <= self.left
        return not (apart or self.high <= other.low or other.high <= self.low)

    def within(self, other: Box) -> bool:
        sides = self.left >= other.left and self.right <= other.right
        return sides and self.low >= other.low and self.high <= other.high


def place_labels(
    axes: Axes, points: Mapping[str, tuple[float, float]], inches: Callable[[str], float]
) -> None:
    """Write each name beside its point, at the nearest place that is free; points that have the
    fewest neighbours choose last.
    """
    to_pt = 72 / axes.get_figure(root=True).dpi  # type: ignore[union-attr]
    bounds = axes.get_window_extent()
    page = Box(*(to_pt * value for value in bounds.extents))
    at = {name: to_pt * axes.transData.transform(xy) for name, xy in points.items()}
    taken = [Box(x - POINT, y - POINT, x + POINT, y + POINT) for x, y in at.values()]
    crowded = sorted(at, key=lambda name: sum(math.dist(at[name], other) for other in at.values()))
    for name in crowded:
        size = (72 * inches(name) + 2, (0.1 + name.count("\n") + 1) * 1.2 * SMALL)
        x, y = at[name]
        box, far = _free_place(x, y, size, page, taken)
        taken.append(box)
        middle = ((box.left + box.right) / 2 - x, (box.low + box.high) / 2 - y)
        axes.annotate(
            name,
            points[name],
            xytext=middle,
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=SMALL,
            arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": "0.6", "shrinkB": 2.5}
            if far
            else None,
        )


def _free_place(
    x: float, y: float, size: tuple[float, float], page: Box, taken: list[Box]
) -> tuple[Box, bool]:
    """The nearest box that meets nothing and whether it is far off; where there is none, the one
    that meets the fewest.
    """
    tried = [(box, far) for box, far in _places(x, y, size) if box.within(page)]
    for box, far in tried:
        if not any(box.meets(other) for other in taken):
            return box, far
    fallback = tried or list(_places(x, y, size))
    return min(fallback, key=lambda each: sum(each[0].meets(other) for other in taken))


def _places(x: float, y: float, size: tuple[float, float]) -> Iterator[tuple[Box, bool]]:
    """Boxes around a point: nearer ones first, beside it before above it."""
    width, height = size
    for distance in DISTANCES:
        for angle in ANGLES:
            cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            middle_x = x + cos * distance + width / 2 * round(cos)
            middle_y = y + sin * distance + height / 2 * round(sin)
            left, low = middle_x - width / 2, middle_y - height / 2
            yield Box(left, low, left + width, low + height), distance > LEADER
