"""Digits set in type, bent towards handwriting: the only digits the tiny CLIP is trained on.

The typefaces are those that matplotlib carries (DejaVu, STIX, Computer Modern). A glyph is kept as
a map of signed distances to its outline, so that a stroke can be made thicker or thinner by moving
the level at which it is cut.
"""

import functools
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmark.tiny import canvas

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
FACES = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono",
    "DejaVuSansMono-Oblique",
    "DejaVuSansMono-Bold", "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic",
    "STIXGeneral", "STIXGeneralBol",
    "STIXGeneralItalic", "STIXGeneralBolIta", "cmb10", "cmr10", "cmss10", "cmti10", "cmtt10",
)  # fmt: skip
GLYPH_PX = 64  # height of the ink in a distance map
MARGIN_PX = 24


@functools.cache
def _face(name: str) -> ImageFont.FreeTypeFont:
    import matplotlib

    return ImageFont.truetype(
        str(Path(matplotlib.get_data_path(), "fonts", "ttf", f"{name}.ttf")), 90
    )


@functools.cache
def _glyph(face: str, digit: int) -> np.ndarray:
    """Signed distance to the glyph's outline, negative inside, in units of its height."""
    from scipy.ndimage import distance_transform_edt as distance_to_zero

    sheet = Image.new("L", (160, 160))
    ImageDraw.Draw(sheet).text((40, 20), str(digit), fill=255, font=_face(face))
    box = sheet.getbbox()
    assert box, f"{face} has no glyph for {digit}"
    width = max(1, round((box[2] - box[0]) * GLYPH_PX / (box[3] - box[1])))
    ink = np.array(sheet.crop(box).resize((width, GLYPH_PX), Image.Resampling.BICUBIC)) > 127
    ink = np.pad(ink, MARGIN_PX)
    return (distance_to_zero(~ink) - distance_to_zero(ink)) / GLYPH_PX


def draw(rng: np.random.Generator, digit: str, ink: str, paper: str) -> Image.Image:
    """One 48 x 48 RGB picture of a digit ("seven"): half are coarse white-on-black scans, half
    colour photographs.
    """
    glyph_HW = _glyph(canvas.choose(rng, FACES), NAMES.index(digit))
    coarse = rng.random() < 0.5
    alpha_HW = _written(
        rng,
        glyph_HW,
        radius=canvas.between(rng, 0.85, 1.0) if coarse else canvas.between(rng, 0.5, 1),
    )
    if coarse:
        return _scan(alpha_HW)
    rgb_HW3 = canvas.clutter(canvas.ground(rng, paper), rng, count=int(rng.random() * 4), size=0.25)
    rgb_HW3 = canvas.paint(rgb_HW3, alpha_HW, canvas.shade(rng, ink))
    return canvas.photograph(rgb_HW3, rng, grain=0.12)


def _written(rng: np.random.Generator, glyph_HW: np.ndarray, radius: float) -> np.ndarray:
    """Opacity of a glyph of half height `radius`, slanted, squeezed, bent, its strokes thinned or
    thickened.
    """
    x_HW, y_HW = canvas.placed(rng, radius, turn=0.2, shift=1.02 - radius)
    x_HW, y_HW = _bent(rng, x_HW, y_HW)
    x_HW = (x_HW + canvas.between(rng, -0.25, 0.35) * y_HW) * canvas.between(rng, 0.8, 1.4)
    distance_HW = _sampled(glyph_HW, x_HW, y_HW)
    return canvas.coverage(distance_HW - canvas.between(rng, -0.02, 0.08), 0.04)


def _bent(
    rng: np.random.Generator, x_HW: np.ndarray, y_HW: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates displaced by slow waves, as an unsteady hand does."""
    phases, paces = rng.random(4) * 6.283, 1.5 + 2 * rng.random(4)
    swing = canvas.between(rng, 0, 0.16)
    return (
        x_HW
        + swing * (np.sin(paces[0] * y_HW + phases[0]) + 0.5 * np.sin(paces[1] * x_HW + phases[1])),
        y_HW
        + swing * (np.sin(paces[2] * x_HW + phases[2]) + 0.5 * np.sin(paces[3] * y_HW + phases[3])),
    )


def _sampled(map_HW: np.ndarray, x_HW: np.ndarray, y_HW: np.ndarray) -> np.ndarray:
    """Bilinear values of a distance map whose ink spans y from -1 to 1; beyond its border the
    border's.
    """
    tall, wide = map_HW.shape
    column_HW = np.clip(x_HW * GLYPH_PX / 2 + (wide - 1) / 2, 0, wide - 1.001)
    row_HW = np.clip(y_HW * GLYPH_PX / 2 + (tall - 1) / 2, 0, tall - 1.001)
    left_HW, top_HW = column_HW.astype(int), row_HW.astype(int)
    right_share_HW, low_share_HW = column_HW - left_HW, row_HW - top_HW
    above_HW = (
        map_HW[top_HW, left_HW] * (1 - right_share_HW)
        + map_HW[top_HW, left_HW + 1] * right_share_HW
    )
    below_HW = (
        map_HW[top_HW + 1, left_HW] * (1 - right_share_HW)
        + map_HW[top_HW + 1, left_HW + 1] * right_share_HW
    )
    return above_HW * (1 - low_share_HW) + below_HW * low_share_HW


def _scan(alpha_HW: np.ndarray) -> Image.Image:
    """White on black through an 8 x 8 scanner that counts to 16."""
    block = canvas.SIZE_PX // 8
    share_88 = alpha_HW.reshape(8, block, 8, block).mean((1, 3))
    return Image.fromarray(canvas.enlarged(np.round(share_88 * 16).astype(int)), "L").convert("RGB")
