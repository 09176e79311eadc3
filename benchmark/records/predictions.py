"""What lies beside a record, image by image in test order: an archive of plain arrays.

predicted.npy   int32, the class with the largest logit
confidence.npy  float16, its probability: the softmax of the logits as the method scales them
right.npy       bool, whether it is the true class; with the confidences calibration can be measured
                where the dataset is not at hand

Archives written before confidences were kept hold the first array alone. All of them are read as a
stranger's: numpy gives memory to whatever a file claims to hold, so it does not read them.
"""

from __future__ import annotations

import io
import re
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

MOST_BYTES = 64 << 20  # of a record, or of one array beside it; ImageNet's labels are 0.2 MB
NPY_HEAD = re.compile(
    rb"\x93NUMPY\x01\x00.."
    rb"\{'descr': '([<|][ifb]\d)', 'fortran_order': False, 'shape': \((\d{1,9}),\), \} *\n",
    re.DOTALL,
)
DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    RuntimeError,
    NotImplementedError,
    OSError,
    ValueError,
    LookupError,
)


@dataclass(frozen=True, eq=False)
class Confidences:
    """confidence_Q, float16 in [0, 1], of the predicted classes, and right_Q, bool."""

    confidence_Q: Array
    right_Q: Array


def pack(predicted_Q: Array, confidences: Confidences | None = None) -> bytes:
    """The archive."""
    import numpy as np

    arrays = {"predicted": predicted_Q.astype(np.int32)}
    if confidences is not None:
        arrays["confidence"] = confidences.confidence_Q.astype(np.float16)
        arrays["right"] = confidences.right_Q.astype(np.bool_)
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
    return packed.getvalue()


def read_predicted(path: Path) -> Array:
    """predicted_Q, int32; raises one of DAMAGED."""
    with _opened(path) as archive:
        return _array(archive, "predicted", "<i4")


def read_confidences(path: Path) -> Confidences | None:
    """None of an archive without them; raises one of DAMAGED."""
    import numpy as np

    with _opened(path) as archive:
        if "confidence.npy" not in archive.namelist():
            return None
        confidence_Q = _array(archive, "confidence", "<f2")
        right_Q = _array(archive, "right", "|u1", stored="|b1")
    if len(confidence_Q) != len(right_Q) or bool((right_Q > 1).any()):
        raise ValueError("its arrays do not fit together")
    if not bool(((confidence_Q >= 0) & (confidence_Q <= 1)).all()):  # not so of what is no number
        raise ValueError("a confidence is not a probability")
    return Confidences(confidence_Q, right_Q.astype(np.bool_))


def is_small(path: Path) -> bool:
    """Whether it is a regular file, of bytes that can be read at once: a pipe, a device or a link
    to one would have no end.
    """
    status = path.stat()
    return stat.S_ISREG(status.st_mode) and status.st_size < MOST_BYTES


def _opened(path: Path) -> zipfile.ZipFile:
    if not is_small(path):
        raise ValueError("it is no file, or too large")
    return zipfile.ZipFile(path)


def _array(archive: zipfile.ZipFile, name: str, kind: str, stored: str = "") -> Array:
    """One row of numbers of this kind, as `pack` writes it; `stored` is how the file names the
    kind, where the bytes are to be looked at first.
    """
    import numpy as np

    member = archive.getinfo(f"{name}.npy")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError("it was not written by this suite")
    with archive.open(member) as stream:
        content = stream.read(MOST_BYTES)
    head = NPY_HEAD.match(content)
    if not head or head[1].decode() != (stored or kind):
        raise ValueError(f"'{name}' is not one row of numbers")
    dtype = np.dtype(kind)
    if len(content) - head.end() != dtype.itemsize * int(head[2]):
        raise ValueError(f"'{name}' is not one row of numbers")
    return np.frombuffer(content[head.end() :], dtype).copy()
