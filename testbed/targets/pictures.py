"""Image files, and what only calls itself one."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from benchmark.backbones.preprocessing import square
from benchmark.data import rgb
from benchmark.features.transforms import centre
from testbed.targets.inputs import Random, written


@cache
def images() -> list[bytes]:
    picture = Image.frombytes("RGB", (24, 16), Random(0).randbytes(24 * 16 * 3))
    grey, palette = picture.convert("L"), picture.quantize(16)
    crafted = [
        _saved(picture, kind) for kind in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM", "TIFF")
    ]
    crafted += [_saved(palette, kind, transparency=3) for kind in ("PNG", "GIF")] + [
        _saved(grey, "TIFF", compression="tiff_lzw")
    ]
    crafted += [
        _saved(picture.convert("CMYK"), "JPEG"),
        _saved(picture, "JPEG", progressive=True),
        _saved(picture, "WEBP", lossless=True),
    ]
    crafted += [
        _saved(picture, "TIFF", compression="tiff_adobe_deflate"),
        _saved(picture, "PNG", icc_profile=b"icc" * 100),
    ]
    return [*crafted, _saved(picture, "GIF", save_all=True, append_images=[grey]), POSTSCRIPT]


POSTSCRIPT = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    b"(/tmp/fsbench-hostile) (w) file closefile showpage\n%%EOF\n"
)


def _saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def png(width: int, height: int, rows: bytes = b"") -> bytes:
    """A PNG that states a size and holds what it is given."""
    head = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(text)) + name + text + struct.pack(">I", zlib.crc32(name + text))
        for name, text in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def crafted_images() -> list[bytes]:
    narrow = [
        png(1, 1_000_000, bytes(2_000_000)),
        png(1_000_000, 1, bytes(1_000_001)),
        png(0, 0),
        png(1, 0),
    ]
    bombs = [
        png(2**31 - 1, 2**31 - 1),
        png(20_000, 20_000, bytes(1000)),
        png(13_000, 13_000, bytes(1000)),
    ]
    return [
        *narrow,
        *bombs,
        POSTSCRIPT,
        b"",
        b"P6 99999999 99999999 255\n",
        b"P6 1 1 0\n ",
        b"P1 1000000 1000 " + b"1 " * 10,
    ]


def read_image(folder: Path, content: bytes) -> None:
    file = written(folder / "picture.jpg", content)
    centre(rgb.decode(file, str(file)), square(224))
