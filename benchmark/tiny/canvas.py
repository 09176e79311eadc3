"""What the drawers share: seeded randomness, named colours, backgrounds, clutter, and the look of a
poor camera.

A canvas is a float64 array rgb_HW3 with values in [0, 1]; coordinates x, y run from -1 to 1 across
the picture. All arithmetic is float64, so that a last-digit difference between processors does not
reach the 8-bit pixels.
"""

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from PIL import Image

Choice = TypeVar("Choice")

SIZE_PX = 48
SPLITS = ("train", "val", "test")
DATASET_DOMAIN = "dataset"  # first word of every dataset picture's seed
PRETRAINING_DOMAIN = (
    "pretraining"  # first word of every training picture's seed: the two never meet
)

COLOURS = {
    "red": (0.85, 0.15, 0.15),
    "orange": (0.95, 0.55, 0.10),
    "yellow": (0.95, 0.88, 0.20),
    "green": (0.15, 0.60, 0.20),
    "blue": (0.15, 0.30, 0.85),
    "purple": (0.50, 0.20, 0.60),
    "pink": (0.97, 0.62, 0.75),
    "brown": (0.42, 0.26, 0.12),
    "white": (0.95, 0.95, 0.95),
    "black": (0.06, 0.06, 0.06),
    "grey": (0.50, 0.50, 0.50),
}
CONTRAST = 0.55  # least distance in RGB between ink and paper

_axis = (np.arange(SIZE_PX) + 0.5) * 2 / SIZE_PX - 1
X_HW, Y_HW = np.meshgrid(_axis, _axis)
PIXEL = 2 / SIZE_PX  # one pixel in coordinate units


def stream(*parts: object) -> np.random.Generator:
    """Random numbers that depend on `parts` alone: the same in every process and machine."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))


def dataset_stream(
    generator: str, class_name: str, split: str, index: int, seed: int
) -> np.random.Generator:
    """The random numbers of one dataset picture; refuses an unknown split or index."""
    if split not in SPLITS:
        raise ValueError(f"there is no split {split!r}; choose from {', '.join(SPLITS)}")
    if index < 0:
        raise IndexError(
            f"picture {index} of {class_name!r} does not exist: pictures are counted from 0"
        )
    return stream(DATASET_DOMAIN, generator, class_name, split, index, seed)


def choose(rng: np.random.Generator, options: Sequence[Choice]) -> Choice:
    """One of `options`, each equally likely."""
    return options[int(rng.random() * len(options))]


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """A number drawn evenly from [low, high)."""
    return low + (high - low) * rng.random()


def _partners(ink: str) -> tuple[str, ...]:
    far = {name: np.linalg.norm(np.subtract(COLOURS[ink], rgb)) for name, rgb in COLOURS.items()}
    return tuple(name for name, distance in far.items() if distance > CONTRAST)


_PARTNERS = {name: _partners(name) for name in COLOURS}


def ink_and_paper(rng: np.random.Generator) -> tuple[str, str]:
    """Two colour names that can be told apart."""
    ink = choose(rng, tuple(COLOURS))
    return ink, choose(rng, _PARTNERS[ink])


def shade(rng: np.random.Generator, colour: str) -> np.ndarray:
    """One shade of a named colour, rgb_3."""
    return np.clip(np.array(COLOURS[colour]) + 0.16 * (rng.random(3) - 0.5), 0, 1)


def coverage(distance_HW: np.ndarray, softness: float = PIXEL) -> np.ndarray:
    """Share of each pixel that lies inside, from a signed distance (negative inside)."""
    return np.clip(0.5 - distance_HW / softness, 0, 1)


def paint(rgb_HW3: np.ndarray, alpha_HW: np.ndarray, rgb_3: np.ndarray) -> np.ndarray:
    """The canvas with a colour laid over it, as opaque as alpha says."""
    return rgb_HW3 + alpha_HW[..., None] * (rgb_3 - rgb_HW3)


def placed(
    rng: np.random.Generator, scale: float, turn: float, shift: float
) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of a figure of radius `scale`, turned by up to +-`turn` radians, off centre by up
    to `shift`.
    """
    angle = between(rng, -turn, turn)
    x_HW = (X_HW - between(rng, -shift, shift)) / scale
    y_HW = (Y_HW - between(rng, -shift, shift)) / scale
    cos, sin = np.cos(angle), np.sin(angle)
    return cos * x_HW + sin * y_HW, cos * y_HW - sin * x_HW


def ground(rng: np.random.Generator, paper: str) -> np.ndarray:
    """An uneven background of one named colour, rgb_HW3."""
    angle, waves, phase = between(rng, 0, 6.283), between(rng, 0.5, 3), between(rng, 0, 6.283)
    swell_HW = np.sin(waves * (np.cos(angle) * X_HW + np.sin(angle) * Y_HW) * 3 + phase)
    return shade(rng, paper) + (between(rng, 0, 0.12) * swell_HW)[..., None]


def clutter(rgb_HW3: np.ndarray, rng: np.random.Generator, count: int, size: float) -> np.ndarray:
    """The canvas with `count` small bars and specks of any colour strewn over it; `size` is the
    longest half length.
    """
    for _ in range(count):
        x_HW, y_HW = placed(rng, 1, 3.14, 1)
        half = between(rng, size / 4, size)
        distance_HW = np.maximum(np.abs(x_HW) - half, np.abs(y_HW) - between(rng, 0.02, 0.07))
        rgb_HW3 = paint(rgb_HW3, coverage(distance_HW), shade(rng, choose(rng, tuple(COLOURS))))
    return rgb_HW3


def photograph(rgb_HW3: np.ndarray, rng: np.random.Generator, grain: float) -> Image.Image:
    """The picture a poor camera takes: uneven light, sometimes out of focus, noise of up to `grain`
    (of full white).
    """
    angle, fall = between(rng, 0, 6.283), between(rng, 0, 0.3)
    light_HW = between(rng, 0.8, 1.1) + fall * (np.cos(angle) * X_HW + np.sin(angle) * Y_HW)
    rgb_HW3 = rgb_HW3 * light_HW[..., None]
    if rng.random() < 0.3:
        rgb_HW3 = _unfocused(rgb_HW3)
    rgb_HW3 = rgb_HW3 + between(rng, 0, grain) * rng.standard_normal(rgb_HW3.shape)
    return Image.fromarray(np.clip(rgb_HW3 * 255 + 0.5, 0, 255).astype(np.uint8), "RGB")


def _unfocused(rgb_HW3: np.ndarray) -> np.ndarray:
    """Blurred by a 1-2-1 kernel along both axes; the border repeats itself."""
    for axis in (0, 1):
        pad = [(1, 1) if a == axis else (0, 0) for a in range(3)]
        wide = np.pad(rgb_HW3, pad, mode="edge")
        before, middle, after = (np.take(wide, np.arange(SIZE_PX) + k, axis) for k in range(3))
        rgb_HW3 = (before + 2 * middle + after) / 4
    return rgb_HW3


def enlarged(counts_88: np.ndarray) -> np.ndarray:
    """An 8 x 8 picture of whole numbers 0 to 16 drawn six times as large, uint8 of shape 48 x 48.

    Bilinear, in whole numbers throughout, so that no rounding depends on the machine.
    """
    scale = SIZE_PX // 8
    twelfths = np.clip(2 * np.arange(SIZE_PX) + 1 - scale, 0, 2 * scale * 7)
    left = np.minimum(twelfths // (2 * scale), 6)
    right_share = twelfths - left * 2 * scale
    counts_88 = np.asarray(counts_88, dtype=np.int64)
    rows = (
        counts_88[left] * (2 * scale - right_share)[:, None]
        + counts_88[left + 1] * right_share[:, None]
    )
    both = rows[:, left] * (2 * scale - right_share) + rows[:, left + 1] * right_share
    full = 16 * (2 * scale) ** 2
    return ((both * 255 + full // 2) // full).astype(np.uint8)
