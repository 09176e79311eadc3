"""Zip and tar: mutated, crafted to get out of their folder, and bombs."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

from benchmark.data.unpack import BadArchive, unpack
from benchmark.errors import UserError
from testbed.targets.inputs import BOMB_BYTES, LIMITS, nothing_beside, written, zipped

MEMBERS = {
    "set/images/a/1.jpg": b"one" * 50,
    "set/images/b/2.jpg": b"two",
    "set/labels.txt": b"labels",
    "./set/images/c.jpg": b"three",
}


def tarred(
    mode: str,
    *infos: tarfile.TarInfo,
    members: dict[str, bytes] = MEMBERS,
    form: int = tarfile.PAX_FORMAT,
) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode, format=form) as archive:  # type: ignore[call-overload]
        for name, body in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
        for info in infos:
            archive.addfile(info, io.BytesIO(bytes(info.size)) if info.isreg() else None)
    return packed.getvalue()


@cache
def tars() -> list[bytes]:
    long = tarfile.TarInfo("set/images/" + "long/" * 40 + "é.jpg")
    sparse = tarfile.TarInfo("set/images/sparse.jpg")
    sparse.type = tarfile.GNUTYPE_SPARSE
    forms = (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT)
    return [
        *(
            tarred("w", *([long] if form != tarfile.USTAR_FORMAT else []), form=form)
            for form in forms
        ),
        tarred("w", sparse),
    ]


@cache
def packed_tars() -> list[bytes]:
    return [
        gzip.compress(tarred("w"), mtime=0),
        bz2.compress(tarred("w")),
        lzma.compress(tarred("w")),
    ]


@cache
def zips() -> list[bytes]:
    methods_ = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    return [
        *(zipped(MEMBERS, method) for method in methods_),
        zipped({"set/images/é.jpg": b"x", **MEMBERS}),
    ]


def special(
    name: str, kind: bytes, target: str = "", size: int = 0, mode: int = 0o644
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, target, size, mode
    return info


ESCAPES = (
    "../../outside/x",
    "/tmp/fsbench-hostile/x",
    "images/../../../x",
    "set/images/\\..\\..\\x",
    "C:/images/x",
    "images/a\0b",
    "images/\n",
)
LINKS = [
    (kind, to)
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE)
    for to in ("/etc/passwd", "../../outside", "set/images/a/1.jpg", "..")
]
DEVICES = [
    (kind, "")
    for kind in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE, b"Z")
]


@cache
def crafted_tars() -> list[bytes]:
    crafted = [tarred("w", special(name, tarfile.REGTYPE)) for name in ESCAPES]
    crafted += [
        tarred(
            "w", special("set/images/link", kind, to), special("set/images/link/x", tarfile.REGTYPE)
        )
        for kind, to in LINKS + DEVICES
    ]
    # colliding
    crafted += [
        tarred(
            "w",
            special("set/images/A/1.JPG", tarfile.REGTYPE),
            special("set/images/a", tarfile.REGTYPE),
        )
    ]
    crafted += [
        tarred("w", special("set/images/a/1.jpg", tarfile.REGTYPE)),
        tarred("w", special("set/images/" + "x" * 300, tarfile.REGTYPE)),
    ]
    crafted += [tarred("w", special("set/images/set.uid", tarfile.REGTYPE, mode=0o4777))]
    for key, value in (
        ("size", "-1"),
        ("size", "1" * 5000),
        ("size", "x"),
        ("path", "images/a\0b"),
        ("mtime", "nan"),
        ("GNU.sparse.major", "1"),
    ):
        info = special("set/images/pax.jpg", tarfile.REGTYPE)
        info.pax_headers = {key: value}
        crafted.append(tarred("w", info))
    crafted += [bomb_of_zeros(name) for name in ("set/images/bomb", "elsewhere/bomb")]
    crafted += [bomb_of_header(kind) for kind in (b"x", b"L", b"g")] + [bomb_of_members()]
    return crafted


@cache
def bomb_of_zeros(name: str) -> bytes:
    """A large member of zeros, packed."""
    return _gzip_of(special(name, tarfile.REGTYPE, size=BOMB_BYTES).tobuf(), BOMB_BYTES)


@cache
def bomb_of_header(kind: bytes) -> bytes:
    """A large extended header, which tar libraries read whole."""
    return _gzip_of(
        special("set/images/x", kind, size=BOMB_BYTES).tobuf(tarfile.GNU_FORMAT), BOMB_BYTES
    )


@cache
def bomb_of_members(count: int = 300_000) -> bytes:
    return gzip.compress(special("elsewhere/x", tarfile.REGTYPE).tobuf() * count, 1, mtime=0)


def _gzip_of(head: bytes, zeros: int) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    parts = [packer.compress(head)]
    parts += [packer.compress(bytes(1 << 20)) for _ in range(zeros >> 20)]
    return b"".join([*parts, packer.flush()])


@cache
def crafted_zips() -> list[bytes]:
    crafted = [zipped([(zipfile.ZipInfo(name), b"x"), ("images/1.jpg", b"y")]) for name in ESCAPES]
    for mode in (stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK):
        link = zipfile.ZipInfo("images/link")
        link.external_attr = (mode | 0o777) << 16
        crafted.append(zipped([(link, b"/etc/passwd"), ("images/1.jpg", b"y")]))
    crafted += [
        zipped([("images/1.jpg", b"x"), ("IMAGES/1.JPG", b"y")]),
        zipped([("images/1.jpg", b"x"), ("images/1.jpg/2.jpg", b"y")]),
    ]
    bomb = zipped({"images/bomb": bytes(64 << 20)})
    lying = bomb.replace(struct.pack("<I", 64 << 20), struct.pack("<I", 100))
    huge = bomb.replace(struct.pack("<I", 64 << 20), struct.pack("<I", 0xFFFFFFFE))
    not_utf8 = zipped({"images/é.jpg": b"x"}).replace("é".encode(), b"\xff\xff")
    return [
        *crafted,
        bomb,
        lying,
        huge,
        not_utf8,
        zipped({f"elsewhere/{i}": b"" for i in range(20_000)}, zipfile.ZIP_STORED),
        overlapping(),
    ]


def overlapping(entries: int = 200) -> bytes:
    """Many entries of the directory that share the bytes of one packed member: the quine of the
    bombs.
    """
    whole = zipped({"images/0000": bytes(1 << 20)})
    start = whole.index(b"PK\x01\x02")
    end = whole.index(b"PK\x05\x06")
    entry = whole[start:end]
    directory = b"".join(
        entry.replace(b"images/0000", f"images/{i:04}".encode()) for i in range(entries)
    )
    closing = struct.pack(
        "<4s4H2IH", b"PK\x05\x06", 0, 0, entries, entries, len(directory), start, 0
    )
    return whole[:start] + directory + closing


def reader(suffix: str) -> Callable[[Path, bytes], None]:
    def read(folder: Path, content: bytes) -> None:
        archive = written(folder / f"set.{suffix}", content)
        into = folder / "into"
        into.mkdir()
        try:
            for _ in unpack(archive, into, {"images": "images"}, LIMITS):
                pass
        except BadArchive as error:
            raise UserError(str(error)) from error
        finally:
            nothing_beside(folder, {"into", archive.name})
            assert not [
                path
                for path in into.rglob("*")
                if path.is_symlink() or not (path.is_file() or path.is_dir())
            ], "a link came out"

    return read
