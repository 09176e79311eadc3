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


# The formats of class_folders.SUFFIXES; of others Pillow would run PostScript.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM", "TIFF")
# Long side over short side. Resizing the short side of a narrower strip would fill the memory.
MAX_ASPECT_RATIO = 1000


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
                f"the generator '{self.source.generator}' cannot draw {key} ({error}); "
                f"correct class_names"
            ) from error
        return image

    def digest(self, key: str) -> str:
        version = specs.generator(self.source).VERSION
        return hashlib.sha256(
            f"{self.source.generator}:{version}:{self.source.seed}:{key}".encode()
        ).hexdigest()


def decode(stream: Any, label: str) -> Image:
    """A picture in RGB from a path or a binary stream.

    Raises UserError naming `label` where it is no picture or cut short.
    """
    from PIL import Image as pil

    try:
        with pil.open(stream, formats=FORMATS) as image:
            if max(image.size) > MAX_ASPECT_RATIO * min(image.size):
                raise ValueError(f"{image.width} x {image.height} pixels are no picture")
            # Palettes with transparency warn when converted in one step, to the same colours.
            through = image.convert("RGBA") if "transparency" in image.info else image
            return through.convert("RGB")
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
