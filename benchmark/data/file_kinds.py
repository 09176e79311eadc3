"""What a downloaded file is, by its first bytes: its name may say anything or nothing."""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import re
import tarfile
import zlib
from pathlib import Path
from typing import IO, Any

HEAD_BYTES = 4096  # that tell a web page
TAR_HEADER_BYTES = 512
PACKED: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
ZIP = (b"PK\x03\x04", b"PK\x05\x06")  # the second is a zip without members
MARKS = {  # of byte order
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
# XHTML begins like any XML, and comments may stand before the first tag.
WEB_PAGE = re.compile(
    r"\s*(?:<\?xml[^>]*>\s*|<!--.*?-->\s*)*"
    r"(?:<!doctype\s+html|<(?:html|head|body|title|meta|script)[\s/>]|<!--(?!.*-->))",
    re.DOTALL | re.IGNORECASE,
)


def is_web_page(head: bytes) -> bool:
    """Whether a file that begins with `head` is HTML or XHTML."""
    mark = next((mark for mark in MARKS if head.startswith(mark)), b"")
    text = head[len(mark) : HEAD_BYTES].decode(MARKS.get(mark, "utf-8"), errors="replace")
    return WEB_PAGE.match(text) is not None


def is_archive(file: Path) -> bool:
    """Whether a file is a zip, or a tar, packed or not."""
    try:
        with file.open("rb") as stream:
            if stream.read(4) in ZIP:
                return True
        with unpacked(file) as stream:
            tarfile.TarInfo.frombuf(stream.read(TAR_HEADER_BYTES), "utf-8", "surrogateescape")
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, tarfile.TarError):
        return False
    return True


def unpacked(file: Path) -> IO[bytes]:
    """The bytes of a file, decompressed where its first bytes say gzip, bzip2 or xz."""
    with file.open("rb") as stream:
        head = stream.read(6)
    opener = next((each for magic, each in PACKED.items() if head.startswith(magic)), None)
    stream_: IO[bytes] = opener(file, "rb") if opener else file.open("rb")
    return stream_
