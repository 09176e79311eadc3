"""tiny_shapes: one large figure among clutter. A class is a finish and a figure, "striped star".

The dataset has sixteen classes. The ten in HELD_OUT are never drawn in the tiny CLIP's pretraining:
four are new combinations of words it knows, six have a figure it has never seen, by a word it has
never read. Colour, size, place, rotation, light, blur and noise vary within every class.
"""

import numpy as np
from PIL import Image

from benchmark.tiny import canvas

VERSION = 1

FINISHES = ("solid", "hollow", "striped", "dotted")
HELD_OUT = frozenset(
    {"hollow circle", "solid triangle", "striped star", "dotted heart",
     "solid gear", "striped leaf", "solid teardrop", "hollow teardrop", "hollow flower",
     "dotted flower"}
)  # fmt: skip


def _polygon(x_HW: np.ndarray, y_HW: np.ndarray, corners: int) -> np.ndarray:
    """Distance to a regular polygon whose corners lie on the unit circle."""
    step = 2 * np.pi / corners
    angle_HW = np.mod(np.arctan2(x_HW, -y_HW), step) - step / 2
    return np.hypot(x_HW, y_HW) * np.cos(angle_HW) - np.cos(step / 2)


def _circle(x_HW: np.ndarray, y_HW: np.ndarray) -> np.ndarray:
    return np.hypot(x_HW, y_HW) - 0.9


def _triangle(x_HW: np.ndarray, y_HW: np.ndarray) -> np.ndarray:
    return _polygon(x_HW, y_HW, 3)


def _square(x_HW: np.ndarray, y_HW: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(x_HW), np.abs(y_HW)) - 0.8


def _hexagon(x_HW: np.ndarray, y_HW: np.ndarray) -> np.ndarray:
    return _polygon(x_HW, y_HW, 6)


def _star(x_HW: np.ndarray, y_HW: np.ndarray) -> np.ndarray:
    """Five points: within each tenth of the turn the edge is one straight line from a tip to a
    notch.
    """
    angle_HW = np.abs(np.mod(np.arctan2(x_HW, -y_HW) + np.pi / 5, 2 * np.pi / 5) - np.pi / 5)
    radius_HW = np.hypot(x_HW, y_HW)
    slope = 0.93  # direction of the edge's normal, radians from the tip
    return radius_HW * np.cos(angle_HW - slope) - np.cos(slope)


def _cross(x_HW: np.ndarray, y_HW: np.ndarray) -> np.ndarray:
    across_HW, along_HW = (
        np.minimum(np.abs(x_HW), np.abs(y_HW)),
        np.maximum(np.abs(x_HW), np.abs(y_HW)),
    )
    return np.maximum(across_HW - 0.3, along_HW - 0.95)


def _heart(x_HW: np.ndarray, y_HW: np.ndarray) -> np.ndarray:
    """A square on its corner with a disc on each upper side."""
    side_HW = np.abs(x_HW)
    discs_HW = np.hypot(side_HW - 0.44, y_HW + 0.36) - 0.54
    square_HW = (side_HW + np.abs(y_HW - 0.04)) / np.sqrt(2) - 0.62
    return np.minimum(discs_HW, square_HW)


def _crescent(x_HW: np.ndarray, y_HW: np.ndarray) -> np.ndarray:
    return np.maximum(np.hypot(x_HW, y_HW) - 1, 0.85 - np.hypot(x_HW - 0.5, y_HW))


def _arrow(x_HW: np.ndarray, y_HW: np.ndarray) -> np.ndarray:
    shaft_HW = np.maximum(np.abs(x_HW + 0.4) - 0.6, np.abs(y_HW) - 0.24)
    head_HW = np.maximum(-x_HW, (x_HW + np.abs(y_HW) * 1.15 - 1) * 0.66)
    return np.minimum(shaft_HW, head_HW)


def _gear(x_HW: np.ndarray, y_HW: np.ndarray) -> np.ndarray:
    teeth_HW = np.clip(4 * np.cos(9 * np.arctan2(y_HW, x_HW)), -1, 1)
    return 0.85 * (np.hypot(x_HW, y_HW) - 0.82 - 0.14 * teeth_HW)


def _leaf(x_HW: np.ndarray, y_HW: np.ndarray) -> np.ndarray:
    """Where two discs overlap."""
    return np.hypot(np.abs(x_HW) + 0.55, y_HW) - 1.14


def _teardrop(x_HW: np.ndarray, y_HW: np.ndarray) -> np.ndarray:
    """A disc with two straight sides that touch it and meet in a tip above."""
    disc_HW = np.hypot(x_HW, y_HW - 0.35) - 0.6
    tip_HW = np.maximum(np.abs(x_HW) * 0.896 - (y_HW + 1) * 0.444, y_HW - 0.084)
    return np.minimum(disc_HW, tip_HW)


def _flower(x_HW: np.ndarray, y_HW: np.ndarray) -> np.ndarray:
    return 0.7 * (np.hypot(x_HW, y_HW) - 0.7 - 0.27 * np.cos(5 * np.arctan2(y_HW, x_HW)))


KNOWN_FIGURES = {
    "circle": _circle,
    "triangle": _triangle,
    "square": _square,
    "hexagon": _hexagon,
    "star": _star,
    "cross": _cross,
    "heart": _heart,
    "crescent": _crescent,
    "arrow": _arrow,
}
# never in pretraining
NEW_FIGURES = {"gear": _gear, "leaf": _leaf, "teardrop": _teardrop, "flower": _flower}
FIGURES = KNOWN_FIGURES | NEW_FIGURES


def words(class_name: str) -> tuple[str, str]:
    """Finish and figure of a class name."""
    finish, _, figure = class_name.partition(" ")
    if finish not in FINISHES or figure not in FIGURES:
        raise ValueError(
            f"cannot draw {class_name!r}: say one of {FINISHES} and one of {tuple(FIGURES)}"
        )
    return finish, figure


def image(class_name: str, split: str, index: int, seed: int) -> Image.Image:
    """Picture `index` of a class in a split, 48 x 48 RGB; equal arguments give equal pixels
    everywhere.
    """
    finish, figure = words(class_name)
    rng = canvas.dataset_stream("shapes", class_name, split, index, seed)
    ink, paper = canvas.ink_and_paper(rng)
    return draw(rng, finish, figure, ink, paper)


def draw(rng: np.random.Generator, finish: str, figure: str, ink: str, paper: str) -> Image.Image:
    """One picture of a figure in a finish, drawn in `ink` on `paper` (colour names)."""
    rgb_HW3 = canvas.clutter(
        canvas.ground(rng, paper), rng, count=3 + int(rng.random() * 5), size=0.3
    )
    radius = canvas.between(rng, 0.5, 0.9)
    x_HW, y_HW = canvas.placed(rng, radius, turn=0.6, shift=0.95 - radius)
    alpha_HW = _finished(
        rng, finish, FIGURES[figure](x_HW, y_HW), x_HW, y_HW, canvas.PIXEL / radius
    )
    rgb_HW3 = canvas.paint(rgb_HW3, alpha_HW, canvas.shade(rng, ink))
    rgb_HW3 = canvas.clutter(rgb_HW3, rng, count=int(rng.random() * 4), size=0.25)
    return canvas.photograph(rgb_HW3, rng, grain=0.12)


def _finished(
    rng: np.random.Generator,
    finish: str,
    distance_HW: np.ndarray,
    x_HW: np.ndarray,
    y_HW: np.ndarray,
    pixel: float,
) -> np.ndarray:
    """Opacity of the figure: filled, or its outline with nothing, stripes or dots inside; `pixel`
    in figure units.
    """
    if finish == "solid":
        return canvas.coverage(distance_HW, pixel)
    outline_HW = canvas.coverage(np.abs(distance_HW + 1.2 * pixel) - 1.3 * pixel, pixel)
    if finish == "hollow":
        return outline_HW
    pitch = max(canvas.between(rng, 0.28, 0.4), 4.5 * pixel)
    inside_HW = canvas.coverage(distance_HW, pixel)
    pattern_HW = {"striped": _stripes, "dotted": _dots}[finish](rng, x_HW, y_HW, pitch, pixel)
    return np.maximum(outline_HW * 0.8, inside_HW * pattern_HW)


def _stripes(
    rng: np.random.Generator, x_HW: np.ndarray, y_HW: np.ndarray, pitch: float, pixel: float
) -> np.ndarray:
    angle, phase = canvas.between(rng, 0, np.pi), rng.random()
    along_HW = (np.cos(angle) * x_HW + np.sin(angle) * y_HW) / pitch + phase
    return canvas.coverage((np.abs(along_HW - np.round(along_HW)) - 0.25) * pitch, pixel)


def _dots(
    rng: np.random.Generator, x_HW: np.ndarray, y_HW: np.ndarray, pitch: float, pixel: float
) -> np.ndarray:
    row_HW = np.round(y_HW / pitch)
    column_HW = x_HW / pitch + 0.5 * np.mod(row_HW, 2)
    radius_HW = np.hypot(column_HW - np.round(column_HW), y_HW / pitch - row_HW)
    return canvas.coverage((radius_HW - 0.36) * pitch, pixel)
