"""From an image file of any kind to a picture in RGB, the same for every reader and pipeline.

| pixels | in RGB |
|---|---|
| grey, black and white, palette, CMYK | as Pillow converts them; colour profiles are not applied |
| transparency | left out, as CoOp does: the colours below it appear |
| 16 bits, grey | the upper 8 of them, which is what Pillow takes of 16 bits in colour |
| 8 or 12 bits, grey, stored in 16 | refused: they would be black, or nearly so |
| 32 bits, whole or floating point | refused: no file states their range |
| several frames | the first |
| EXIF orientation | ignored, as CoOp does, or applied where the spec says `exif = "apply"` |
| the same of TIFF files | always applied, by Pillow itself |

Pictures of up to 179 million pixels are read without a word, scans and maps among them; larger ones
are refused, as Pillow does, because a small file can unpack to such a size.

Raise `VERSION` where a pixel changes: stored features are then made again. Numbers on record of
datasets with such pictures need another digest besides.
"""

from __future__ import annotations

import hashlib
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from benchmark.errors import MISSING, UserError

if TYPE_CHECKING:
    from PIL.Image import Image

VERSION = 2
Exif = Literal["ignore", "apply"]
# The formats of class_folders.SUFFIXES; of others Pillow would run PostScript.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM", "TIFF")
# Long side over short side. Resizing the short side of a narrower strip would fill the memory.
MAX_ASPECT_RATIO = 1000
ORIENTATION = 0x0112  # the EXIF tag; 1 is upright
# Orientation -> the transposition of Pillow's that undoes it.
UPRIGHT = {
    2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE",
    6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90",
}  # fmt: skip
TURNED, FRAMES, TRANSPARENT, DEEP = "turned", "several frames", "transparent", "16 bits"
PECULIARITIES = {  # what a picture in RGB does not show -> what becomes of it
    TURNED: "are to be turned by their EXIF data, which are ignored; exif = 'apply' turns them",
    FRAMES: "have several frames, of which the first is taken",
    TRANSPARENT: "have transparent parts, of which the colours below are taken",
    DEEP: "are grey with 16 bits, of which the upper 8 are taken",
}


def decode(stream: Any, label: str, exif: Exif = "ignore") -> Image:
    """A picture in RGB from a path or a binary stream.

    Raises UserError naming `label` where it is no picture, cut short, or of a kind that is refused.
    """
    with _opened(stream, label) as image:
        return _upright(image, _in_rgb(image)) if exif == "apply" else _in_rgb(image)


def named(digest: str, exif: Exif) -> str:
    """The digest of a picture, from that of its content: turned, it is another one."""
    return hashlib.sha256(f"upright {digest}".encode()).hexdigest() if exif == "apply" else digest


def peculiarities(stream: Any, label: str) -> frozenset[str]:
    """Which of PECULIARITIES a picture has. Raises as `decode` does."""
    with _opened(stream, label) as image:
        _in_rgb(image)
        found = {
            TURNED: _orientation(image) in UPRIGHT,
            FRAMES: getattr(image, "n_frames", 1) > 1,
            TRANSPARENT: "transparency" in image.info or image.mode in ("LA", "PA", "RGBA"),
            DEEP: _is_16_bit(image),
        }
        return frozenset(name for name, holds in found.items() if holds)


@contextmanager
def _opened(stream: Any, label: str) -> Iterator[Image]:
    """A picture that Pillow has opened; whatever it says against it becomes a UserError."""
    from PIL import Image as pil

    # Pillow warns from half of the size that it refuses. The filter is for the whole process, since
    # `catch_warnings` is not safe in threads; whoever restores the filters gets it again.
    if ("ignore", None, pil.DecompressionBombWarning, None, 0) not in warnings.filters:
        warnings.simplefilter("ignore", pil.DecompressionBombWarning)
    try:
        with pil.open(stream, formats=FORMATS) as image:
            if max(image.size) > MAX_ASPECT_RATIO * min(image.size):
                raise ValueError(f"{image.width} x {image.height} pixels are no picture")
            yield image
    except FileNotFoundError as error:
        raise UserError(
            f"image {label} is missing; restore it or prepare the dataset again", exit_code=MISSING
        ) from error
    except (OSError, SyntaxError, ValueError, struct.error, pil.DecompressionBombError) as error:
        raise UserError(
            f"image {label} cannot be decoded ({error}); restore it from the source",
            exit_code=MISSING,
        ) from error


def _upright(image: Image, in_rgb: Image) -> Image:
    """`in_rgb` as the EXIF data of the loaded `image` say it is meant to be looked at."""
    from PIL.Image import Transpose

    orientation = _orientation(image)
    if orientation not in UPRIGHT:
        return in_rgb
    return in_rgb.transpose(Transpose[UPRIGHT[orientation]])


def _orientation(image: Image) -> Any:
    """The EXIF tag of a loaded picture; None where there is none that can be read."""
    try:
        return image.getexif().get(ORIENTATION)
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, struct.error):
        return None


def _in_rgb(image: Image) -> Image:
    if _is_16_bit(image):
        return _upper_bits(image).convert("RGB")
    if image.mode in ("I", "F"):
        kind = "whole numbers" if image.mode == "I" else "floating point numbers"
        raise ValueError(
            f"its pixels are {kind} of 32 bits, whose range no file states; "
            f"save it with 8 or 16 bits"
        )
    # Palettes with transparency warn when converted in one step, to the same colours.
    return (image.convert("RGBA") if "transparency" in image.info else image).convert("RGB")


def _is_16_bit(image: Image) -> bool:
    # Pillow scales a PGM of more than 8 bits to 16, and holds it in 32.
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")


def _upper_bits(image: Image) -> Image:
    """A grey picture of 8 bits from one of 16."""
    import numpy as np
    from PIL import Image as pil

    values_HW = np.asarray(image)
    most = int(values_HW.max())
    if 0 < most < 4096:  # of 8 and of 12 bits, as cameras and scanners store them
        zero, shown = (8, "black") if most < 256 else (4, "nearly black")
        raise ValueError(
            f"its pixels have 16 bits of which the upper {zero} are all zero, so it would be "
            f"{shown}; save it with 8 bits"
        )
    return pil.fromarray((values_HW >> 8).astype(np.uint8))
