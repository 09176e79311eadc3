"""Where pictures come from: files below a folder, or a generator."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from benchmark.data import digests, rgb, specs
from benchmark.data.sources import Generated
from benchmark.errors import MISSING, UserError

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class PictureFiles:
    """Image files; a key is a path below `folder`."""

    folder: Path
    exif: rgb.Exif = "ignore"

    def open(self, key: str) -> Image:
        path = self._file(key)
        return rgb.decode(path, str(path), self.exif)

    def peculiarities(self, key: str) -> frozenset[str]:
        path = self._file(key)
        return rgb.peculiarities(path, str(path))

    def fresh_digest(self, key: str) -> str:
        try:
            return digests.anew(digests.whole(os.path.join(self.folder, key)))
        except OSError as error:
            raise _unreadable(error) from error

    def digests(self, keys: Sequence[str]) -> list[str]:
        try:
            return digests.of_files([os.path.join(self.folder, key) for key in keys])
        except OSError as error:
            raise _unreadable(error) from error

    def _file(self, key: str) -> Path:
        path = self.folder / key
        if path.exists() and not path.is_file():
            raise UserError(
                f"image {path} is no regular file; restore it from the source", exit_code=MISSING
            )
        return path


@dataclass(frozen=True)
class GeneratedPictures:
    """Pictures of a generator; a key is split/class name/index."""

    source: Generated
    exif: ClassVar[rgb.Exif] = "ignore"

    def open(self, key: str) -> Image:
        try:
            image: Image = specs.generator(self.source).image(*_parts(key), self.source.seed)
        except (ValueError, LookupError) as error:
            raise UserError(
                f"the generator '{self.source.generator}' cannot draw {key} ({error}); "
                f"correct class_names"
            ) from error
        return image

    def digests(self, keys: Sequence[str]) -> list[str]:
        version = specs.generator(self.source).VERSION
        start = f"{self.source.generator}:{version}:{self.source.seed}"
        return [hashlib.sha256(f"{start}:{key}".encode()).hexdigest() for key in keys]


def _unreadable(error: OSError) -> UserError:
    return UserError(
        f"image {error.filename} cannot be read ({error.strerror}); see that it is there",
        exit_code=MISSING,
    )


def _parts(key: str) -> tuple[str, str, int]:
    split, _, rest = key.partition("/")
    class_name, _, index = rest.rpartition("/")
    return class_name, split, int(index)
