"""Where pictures come from: files below a folder, or a generator."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.data import digests, specs
from benchmark.data.sources import Generated
from benchmark.errors import MISSING, UserError

if TYPE_CHECKING:
    from PIL.Image import Image


FORMATS = (
    "JPEG",
    "PNG",
    "WEBP",
    "BMP",
    "GIF",
    "PPM",
    "TIFF",
)  # those of folders.SUFFIXES: Pillow would run PostScript, too
NARROWEST = 1000  # long side over short: a strip of one pixel's width would grow a hundredfold when its short side is resized


@dataclass(frozen=True)
class PictureFiles:
    """Image files; a key is a path below `folder`."""

    folder: Path

    def open(self, key: str) -> Image:
        path = self.folder / key
        if path.exists() and not path.is_file():
            raise UserError(
                f"image {path} is no regular file; restore it from the source", exit_code=MISSING
            )
        return decode(path, str(path))

    def digest(self, key: str) -> str:
        try:
            return digests.of_file(self.folder / key)
        except OSError as error:
            raise UserError(
                f"image {self.folder / key} cannot be read ({error.strerror}); restore it",
                exit_code=MISSING,
            ) from error


@dataclass(frozen=True)
class GeneratedPictures:
    """Pictures of a generator; a key is split/class name/index."""

    source: Generated

    def open(self, key: str) -> Image:
        try:
            image: Image = specs.generator(self.source).image(*_parts(key), self.source.seed)
        except (ValueError, LookupError) as error:
            raise UserError(
                f"the generator '{self.source.generator}' knows no {key} ({error}); correct class_names"
            ) from error
        return image

    def digest(self, key: str) -> str:
        version = specs.generator(self.source).VERSION
        return hashlib.sha256(
            f"{self.source.generator}:{version}:{self.source.seed}:{key}".encode()
        ).hexdigest()


def decode(stream: Any, label: str) -> Image:
    """A picture in RGB from a path or a binary stream; UserError naming `label` where it is none or
    is cut short.
    """
    from PIL import Image as pil

    try:
        with pil.open(stream, formats=FORMATS) as image:
            if max(image.size) > NARROWEST * min(image.size):
                raise ValueError(f"{image.width} x {image.height} pixels are no picture")
            # Palettes with transparency warn when converted in one step; the colours are the same
            # either way.
            return (
                image.convert("RGBA").convert("RGB")
                if "transparency" in image.info
                else image.convert("RGB")
            )
    except FileNotFoundError as error:
        raise UserError(
            f"image {label} is missing; restore it or prepare the dataset again", exit_code=MISSING
        ) from error
    except (OSError, SyntaxError, ValueError, pil.DecompressionBombError) as error:
        raise UserError(
            f"image {label} cannot be decoded ({error}); restore it from the source",
            exit_code=MISSING,
        ) from error


def _parts(key: str) -> tuple[str, str, int]:
    split, _, rest = key.partition("/")
    class_name, _, index = rest.rpartition("/")
    return class_name, split, int(index)
