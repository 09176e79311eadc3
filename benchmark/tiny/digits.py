"""tiny_digits: real handwriting, the digits that ship inside scikit-learn (UCI Optical Recognition,
test half).

1797 pictures of 8 x 8 cells, each cell the count (0 to 16) of inked points in a 4 x 4 block of the
scan. The tiny CLIP's pretraining never touches this module: it learns digits from type (fonts.py).
"""

import functools

import numpy as np
from PIL import Image

from benchmark.tiny import canvas

VERSION = 1

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# pictures of each class in each split; the rarest digit has 174
SIZES = {"train": 48, "val": 16, "test": 110}


@functools.cache
def _partition() -> dict[tuple[str, str], np.ndarray]:
    """The bundled pictures, counts_N88, by class name and split: one fixed shuffle per class."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pictures: dict[tuple[str, str], np.ndarray] = {}
    for label, name in enumerate(NAMES):
        rows = np.flatnonzero(digits.target == label)
        rows = rows[np.argsort(canvas.stream("digits", name).random(len(rows)))]
        parts = np.split(rows, np.cumsum(list(SIZES.values())))  # the last part is left over
        pictures |= {
            (name, split): digits.images[part]
            for split, part in zip(SIZES, parts[:-1], strict=True)
        }
    return pictures


def image(class_name: str, split: str, index: int, seed: int = 0) -> Image.Image:
    """Picture `index` of a digit ("seven") in a split, 48 x 48 RGB, white on black; `seed` changes
    nothing.
    """
    if class_name not in NAMES:
        raise ValueError(f"there is no digit {class_name!r}; choose from {', '.join(NAMES)}")
    if split not in SIZES:
        raise ValueError(f"there is no split {split!r}; choose from {', '.join(SIZES)}")
    if not 0 <= index < SIZES[split]:
        raise IndexError(
            f"picture {index} of {class_name!r} does not exist: {split} has {SIZES[split]} of "
            "each digit"
        )
    return Image.fromarray(canvas.enlarged(_partition()[class_name, split][index]), "L").convert(
        "RGB"
    )
