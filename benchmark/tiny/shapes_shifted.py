"""tiny_shapes under a shift of domain: its figures as a faded print in one tint, on rough paper.

What tells classes apart is as in tiny_shapes (shapes.py); colours are nearly gone, dark and light
are exchanged, and the grain is coarse. For testing only, after learning on tiny_shapes.
"""

import numpy as np
from PIL import Image

from benchmark.tiny import canvas, shapes

VERSION = 1
FADED = 0.5  # share of the colours that is gone
DARK = np.array([0.10, 0.13, 0.35])  # tints of the print
GRAIN = 0.2  # of one pixel, from dark to light
LIGHT = np.array([0.93, 0.96, 0.88])


def image(class_name: str, split: str, index: int, seed: int) -> Image.Image:
    """Picture `index` of a class in a split, 48 x 48 RGB; equal arguments give equal pixels
    everywhere.
    """
    finish, figure = shapes.words(class_name)
    rng = canvas.dataset_stream("shapes_shifted", class_name, split, index, seed)
    drawn = shapes.draw(rng, finish, figure, *canvas.ink_and_paper(rng))
    return Image.fromarray(printed(np.asarray(drawn) / 255, rng))


def printed(rgb_HW3: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The print of a picture, 8-bit: its negative in one tint, with some colour left, and grain."""
    light_HW = 1 - rgb_HW3 @ np.array([0.3, 0.59, 0.11])
    tint_HW3 = DARK + light_HW[..., None] * (LIGHT - DARK)
    faded_HW3 = FADED * tint_HW3 + (1 - FADED) * rgb_HW3
    grain_HW = GRAIN * (rng.random(light_HW.shape) - 0.5)
    coarse_HW = grain_HW.reshape(24, 2, 24, 2).mean((1, 3)).repeat(2, 0).repeat(2, 1)
    return np.round(255 * np.clip(faded_HW3 + coarse_HW[..., None], 0, 1)).astype(np.uint8)
