"""tiny_textures: surfaces that fill the picture. A class is a condition and a pattern, "cracked
bricks".

The dataset has sixteen classes. The eight in HELD_OUT are never drawn in the tiny CLIP's
pretraining: four are new combinations of words it knows, four have a pattern it has never seen, by
a word it has never read. Both colours, scale, rotation, light, blur and noise vary within every
class.
"""

import numpy as np
from PIL import Image

from benchmark.tiny import canvas

VERSION = 1

CONDITIONS = ("wavy", "cracked", "speckled", "patchy")
HELD_OUT = frozenset(
    {"wavy checks", "cracked dots", "speckled bricks", "patchy zigzags",
     "wavy triangles", "cracked spirals", "speckled scales", "patchy weave"}
)  # fmt: skip


def _off(value_HW: np.ndarray) -> np.ndarray:
    """Distance to the nearest whole number, 0 to 0.5."""
    return np.abs(value_HW - np.round(value_HW))


def _stripes(u_HW: np.ndarray, v_HW: np.ndarray) -> np.ndarray:
    return _off(u_HW) - 0.25


def _checks(u_HW: np.ndarray, v_HW: np.ndarray) -> np.ndarray:
    signs_HW = (_off(u_HW) - 0.25) * (_off(v_HW) - 0.25)
    return np.sign(signs_HW) * np.sqrt(np.abs(signs_HW))


def _dots(u_HW: np.ndarray, v_HW: np.ndarray) -> np.ndarray:
    return np.hypot(_off(u_HW), _off(v_HW)) - 0.3


def _bricks(u_HW: np.ndarray, v_HW: np.ndarray) -> np.ndarray:
    """Courses half as high as the bricks are long, each moved by half a brick; negative in the
    mortar.
    """
    course_HW = np.floor(v_HW * 1.6)
    joint_HW = _off(u_HW * 0.8 + 0.5 * np.mod(course_HW, 2)) / 0.8
    bed_HW = _off(v_HW * 1.6) / 1.6
    return np.minimum(joint_HW, bed_HW) - 0.09


def _grid(u_HW: np.ndarray, v_HW: np.ndarray) -> np.ndarray:
    return np.minimum(_off(u_HW), _off(v_HW)) - 0.12


def _zigzags(u_HW: np.ndarray, v_HW: np.ndarray) -> np.ndarray:
    return _off(u_HW + 1.1 * _off(v_HW * 0.55)) - 0.25


def _rings(u_HW: np.ndarray, v_HW: np.ndarray) -> np.ndarray:
    return _off(np.hypot(u_HW, v_HW)) - 0.25


def _honeycomb(u_HW: np.ndarray, v_HW: np.ndarray) -> np.ndarray:
    """Walls between hexagonal cells; cell centres form two rectangular lattices, one between the
    other's points.
    """
    cells = [
        _hexagonal(_off(u_HW / 3**0.5 + half) * 3**0.5, _off(v_HW + half)) for half in (0, 0.5)
    ]
    return 0.41 - np.minimum(*cells)


def _hexagonal(u_HW: np.ndarray, v_HW: np.ndarray) -> np.ndarray:
    """Distance from a cell's centre that is 0.5 all along the cell's border; u and v are not
    negative.
    """
    return np.maximum(v_HW, (3**0.5 * u_HW + v_HW) / 2)


def _triangles(u_HW: np.ndarray, v_HW: np.ndarray) -> np.ndarray:
    """Triangles of alternating colour between three families of lines."""
    lines_3HW = [
        u_HW * np.cos(turn) + v_HW * np.sin(turn) for turn in (0, 2 * np.pi / 3, 4 * np.pi / 3)
    ]
    points_up_HW = np.mod(sum(np.floor(line_HW) for line_HW in lines_3HW), 2) * 2 - 1
    return points_up_HW * np.minimum.reduce([_off(line_HW) for line_HW in lines_3HW])


def _spirals(u_HW: np.ndarray, v_HW: np.ndarray) -> np.ndarray:
    return _off(np.hypot(u_HW, v_HW) - np.arctan2(v_HW, u_HW) / (2 * np.pi)) - 0.25


def _scales(u_HW: np.ndarray, v_HW: np.ndarray) -> np.ndarray:
    """Arcs in rows half as high as they are wide, each row moved by half an arc."""
    row_HW = np.floor(2 * v_HW)
    arc_HW = np.hypot(_off(u_HW + 0.5 * np.mod(row_HW, 2)), v_HW - row_HW / 2) - 0.5
    return np.abs(arc_HW) - 0.09


def _weave(u_HW: np.ndarray, v_HW: np.ndarray) -> np.ndarray:
    """Squares of three threads each, running along and across in turn."""
    along_HW = np.mod(np.floor(u_HW / 1.5) + np.floor(v_HW / 1.5), 2) > 0
    return (_off(np.where(along_HW, u_HW, v_HW) * 2 + 0.5) - 0.32) / 2


KNOWN_PATTERNS = {
    "stripes": _stripes,
    "checks": _checks,
    "dots": _dots,
    "bricks": _bricks,
    "grid": _grid,
    "zigzags": _zigzags,
    "rings": _rings,
    "honeycomb": _honeycomb,
}
# never in pretraining
NEW_PATTERNS = {"triangles": _triangles, "spirals": _spirals, "scales": _scales, "weave": _weave}
PATTERNS = KNOWN_PATTERNS | NEW_PATTERNS


def words(class_name: str) -> tuple[str, str]:
    """Condition and pattern of a class name."""
    condition, _, pattern = class_name.partition(" ")
    if condition not in CONDITIONS or pattern not in PATTERNS:
        raise ValueError(
            f"cannot draw {class_name!r}: say one of {CONDITIONS} and one of {tuple(PATTERNS)}"
        )
    return condition, pattern


def image(class_name: str, split: str, index: int, seed: int) -> Image.Image:
    """Picture `index` of a class in a split, 48 x 48 RGB; equal arguments give equal pixels
    everywhere.
    """
    condition, pattern = words(class_name)
    rng = canvas.dataset_stream("textures", class_name, split, index, seed)
    ink, paper = canvas.ink_and_paper(rng)
    return draw(rng, condition, pattern, ink, paper)


def draw(
    rng: np.random.Generator, condition: str, pattern: str, ink: str, paper: str
) -> Image.Image:
    """One picture of a pattern in a condition, `ink` on `paper` (colour names)."""
    period = canvas.between(rng, 0.26, 0.52)
    u_HW, v_HW = canvas.placed(rng, period, turn=np.pi, shift=0.5)
    if condition == "wavy":
        u_HW, v_HW = _waved(rng, u_HW, v_HW, period)
    distance_HW = PATTERNS[pattern](u_HW, v_HW) * period
    ink_3, paper_3 = canvas.shade(rng, ink), canvas.shade(rng, paper)
    rgb_HW3 = canvas.paint(
        canvas.ground(rng, paper), canvas.coverage(distance_HW, 1.5 * canvas.PIXEL), ink_3
    )
    rgb_HW3 = _worn(rng, condition, rgb_HW3, ink_3, paper_3)
    rgb_HW3 = canvas.clutter(rgb_HW3, rng, count=int(rng.random() * 4), size=0.3)
    return canvas.photograph(rgb_HW3, rng, grain=0.12)


def _waved(
    rng: np.random.Generator, u_HW: np.ndarray, v_HW: np.ndarray, period: float
) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates that swing to and fro by about a quarter of a period."""
    swing, pace = canvas.between(rng, 0.22, 0.4), canvas.between(rng, 3.5, 6.5) * period
    first, second = canvas.between(rng, 0, 6.283), canvas.between(rng, 0, 6.283)
    return u_HW + swing * np.sin(pace * v_HW + first), v_HW + swing * np.sin(pace * u_HW + second)


def _worn(
    rng: np.random.Generator,
    condition: str,
    rgb_HW3: np.ndarray,
    ink_3: np.ndarray,
    paper_3: np.ndarray,
) -> np.ndarray:
    """The surface with its cracks, specks or bald patches."""
    if condition == "cracked":
        return canvas.paint(rgb_HW3, _cracks(rng), np.full(3, canvas.between(rng, 0, 0.15)))
    if condition == "speckled":
        specks_HW = (rng.random(rgb_HW3.shape[:2]) < canvas.between(rng, 0.07, 0.14)).astype(float)
        return canvas.paint(rgb_HW3, specks_HW, np.full(3, float(rng.random() < 0.5)))
    if condition == "patchy":
        return canvas.paint(rgb_HW3, 0.92 * _patches(rng), canvas.choose(rng, (ink_3, paper_3)))
    return rgb_HW3


def _cracks(rng: np.random.Generator) -> np.ndarray:
    """Opacity of thin lines along the borders between the territories of seven random points."""
    points_P2 = rng.random((7, 2)) * 2.4 - 1.2
    jag_HW = 0.05 * np.sin(17 * canvas.X_HW + 3) * np.sin(19 * canvas.Y_HW)
    distance_PHW = np.hypot(canvas.X_HW + jag_HW - points_P2[:, 0, None, None],
                            canvas.Y_HW + jag_HW - points_P2[:, 1, None, None])  # fmt: skip
    nearest_HW, second_HW = np.partition(distance_PHW, 1, axis=0)[:2]
    return canvas.coverage(second_HW - nearest_HW - 0.06, 1.5 * canvas.PIXEL)


def _patches(rng: np.random.Generator) -> np.ndarray:
    """Opacity of a few round bald spots."""
    alpha_HW = np.zeros_like(canvas.X_HW)
    for _ in range(4):
        x_HW, y_HW = canvas.placed(rng, canvas.between(rng, 0.2, 0.42), np.pi, 0.9)
        spot_HW = (
            np.hypot(x_HW * canvas.between(rng, 0.7, 1.3), y_HW)
            - 1
            + 0.2 * np.sin(5 * np.arctan2(y_HW, x_HW))
        )
        alpha_HW = np.maximum(alpha_HW, canvas.coverage(spot_HW, 0.3))
    return alpha_HW
