"""Hostile files: how valid ones are mutated, and what a parser may do with them. Deterministic by
seed.

A parser may accept a file or raise one UserError. Everything else is a crash: another exception, a
file outside of its folder, memory beyond MEMORY_MB, processor time beyond SECONDS, a touched trap.
"""

from __future__ import annotations

import copy
import json
import os
import random
import re
import resource
import shutil
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.errors import UserError

MEMORY_MB = 768  # that the peak of the process may rise by during one input
# Of addresses beyond what the process has: memory that is reserved but never used is free so far.
SPACE_MB = 3072
SECONDS = 5.0  # processor time of one input
HANG_S = 30  # on the clock, after which an input is interrupted
ELSEWHERE = Path("/tmp/fsbench-hostile")  # where absolute paths of hostile files lead
TRAP = "sprung"  # a file that appears where foreign code has run
TRAP_AT = "FSBENCH_TRAP"
TRAP_CODE = f"open(__import__('os').environ['{TRAP_AT}'], 'w').close()"

# Text that stands for something JSON and TOML libraries do not write: replaced after serialising.
RAW = {
    "@nan@": "NaN",
    "@inf@": "1e999",
    "@digits@": "9" * 5000,
    "@deep@": "[" * 100_000 + "]" * 100_000,
    "@deep-object@": '{"a":' * 50_000 + "1" + "}" * 50_000,
    "@surrogate@": '"\\ud800"',
    "@negative-zero@": "-0.0",
}
PATHS = (
    "../../outside/escaped",
    "/tmp/fsbench-hostile/escaped",
    "..",
    ".",
    "",
    "a/../../x",
    "a\0b",
    "x" * 300,
    "x/" * 3000,
    "a\nb",
    "\\..\\x",
)
VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        2**31,
        -(2**31),
        2**63,
        2**64,
        10**30,
        0.5,
        1e308,
        -1e308,
        5e-324,
    ),
    *(
        "",
        "a",
        "0",
        "{}",
        "{",
        "\0",
        "\n",
        "\x1b[31m",
        "é",
        "\U0001f600",
        "x" * 100_000,
        [],
        {},
        [[]],
        [None],
        {"": None},
    ),
    *PATHS,
    *RAW,
)
NUMBERS = (
    b"0",
    b"-1",
    b"1e999",
    b"-1e999",
    b"NaN",
    b"inf",
    b"9" * 5000,
    b"1e308",
    b"18446744073709551616",
    b"-2147483649",
    b"0x10",
    b"1_0",
    b"",
)
TOKENS = (
    *(
        b"\0",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\xc3\x28",
        b"\xed\xa0\x80",
        b"../",
        b"/",
        b"\n",
        b"\r",
        b'"',
        b"'",
        b"[",
        b"{",
        b"}",
        b"]",
        b",",
    ),
    *(
        b"=",
        b"\x1b[2J",
        b"\x80" * 8,
        b"\xff" * 8,
        b"\x7f\xff\xff\xff",
        b"PK\x03\x04",
        b"ustar",
        b"\x1f\x8b",
        b"%!PS",
        b"\x80\x04.",
        b"#",
        b"%",
    ),
)


# --- mutations


def mutated(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """One to four changes of bytes."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = rng.choice(CHANGES)(rng, data, others)
    return data


def _flip(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    changed = bytearray(data)
    for _ in range(min(len(data), rng.choice((1, 1, 2, 8, 64)))):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(data) + 1)
    return rng.choice((data[:at], data[at:]))


def _drop(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[at + rng.choice((1, 2, 8, 100, 1000)) :]


def _insert(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    at = rng.choice((0, rng.randrange(len(data) + 1), len(data)))
    return data[:at] + rng.choice((*TOKENS, rng.randbytes(rng.randrange(1, 40)))) + data[at:]


def _splice(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    other = rng.choice(others) if others else data
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _repeat(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(data) + 1)
    piece = data[at : at + rng.choice((1, 4, 32, 512))]
    return data[:at] + piece * rng.choice((2, 3, 100, 5000)) + data[at:]


def _number(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A number written in digits becomes another one; without any, four or eight bytes become an
    extreme integer.
    """
    spans = [match.span() for match in re.finditer(rb"\d+(\.\d+)?", data[:200_000])]
    if spans:
        start, end = rng.choice(spans)
        return data[:start] + rng.choice(NUMBERS) + data[end:]
    return _extreme(rng, data, others)


def _extreme(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    width = rng.choice((1, 2, 4, 8))
    value = rng.choice(
        (0, 1, (1 << (8 * width)) - 1, 1 << (8 * width - 1), (1 << (8 * width - 1)) - 1, 100)
    )
    at = rng.randrange(max(1, len(data) - width + 1))
    return data[:at] + value.to_bytes(width, rng.choice(("little", "big"))) + data[at + width :]


def _deep(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(data) + 1)
    return (
        data[:at]
        + rng.choice((b"[", b"{", b"(", b'{"a":', b"-", b"not ", b"a.")) * rng.choice((500, 50_000))
        + data[at:]
    )


CHANGES = (
    _flip,
    _flip,
    _cut,
    _drop,
    _insert,
    _insert,
    _splice,
    _repeat,
    _number,
    _number,
    _extreme,
    _deep,
)


def mutated_tree(rng: random.Random, tree: Any) -> Any:
    """Plain data with one to three of its values replaced, dropped, doubled or joined by an unknown
    key.
    """
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = list(_places(tree))
        if not places:
            return rng.choice(VALUES)
        holder, key = rng.choice(places)
        _change(rng, holder, key, [each for each, _ in places])
    return tree


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """(holder, key) of every value below a dictionary or list."""
    items = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    for key, value in list(items):
        yield tree, key
        yield from _places(value)


def _change(rng: random.Random, holder: Any, key: Any, holders: Sequence[Any]) -> None:
    match rng.randrange(8):
        case 0:
            del holder[key]
        case 1:
            holder[key] = [holder[key]] * rng.choice((1, 2, 500))
        case 2:
            holder[key] = {"unknown": holder[key]}
        case 3:
            holder[key] = copy.deepcopy(rng.choice(holders))
        case 4 if isinstance(holder, dict):
            holder[str(rng.choice(("unknown", "", "\n", "__class__", "x" * 1000)))] = rng.choice(
                VALUES
            )
        case 5 if isinstance(holder[key], str):
            holder[key] += str(rng.choice((*PATHS, "\x1b[2J", "\ud7ff", "{}")))
        case _:
            holder[key] = copy.deepcopy(rng.choice(VALUES))


def json_text(tree: Any) -> bytes:
    """JSON, with what stands for numbers no library writes put in raw."""
    return _raw(json.dumps(tree)).encode()


def toml_text(tree: Any) -> bytes:
    """A dictionary as TOML, every value inline; what TOML has no word for becomes something it
    cannot parse, which is fair too.
    """
    if not isinstance(tree, dict):
        return _raw(_toml_value(tree)).encode()
    return _raw(
        "".join(f"{json.dumps(str(key))} = {_toml_value(value)}\n" for key, value in tree.items())
    ).encode(errors="surrogatepass")


def _toml_value(value: Any) -> str:
    match value:
        case dict():
            return (
                "{"
                + ", ".join(
                    f"{json.dumps(str(key))} = {_toml_value(each)}" for key, each in value.items()
                )
                + "}"
            )
        case list() | tuple():
            return "[" + ", ".join(map(_toml_value, value)) + "]"
        case float() if value in (float("inf"), -float("inf")) or value != value:
            return str(value)
    return json.dumps(value)


def _raw(text: str) -> str:
    for word, raw in RAW.items():
        text = text.replace(f'"{word}"', raw)
    return text


def csv_text(rows: Any) -> bytes:
    """Rows of cells, whatever they are, as CSV without any quoting."""
    lines = rows if isinstance(rows, list) else [rows]
    return _raw(
        "\n".join(
            ",".join(map(str, line)) if isinstance(line, list) else str(line) for line in lines
        )
    ).encode(errors="replace")


class Trap:
    """Whoever unpickles this runs foreign code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (TRAP_CODE,)


# --- judgement


@dataclass(frozen=True)
class Target:
    """A parser of foreign files: how a hostile input is made, and how it is read."""

    name: str
    make: Callable[[random.Random], Any]
    parse: Callable[[Path, Any], object]  # in an empty folder
    honest: Callable[[], Any]  # an input that is accepted, or the hostile ones would prove nothing
    crafted: Callable[[], Sequence[Any]] = (
        tuple  # inputs that no chance would find, read before those of chance
    )
    share: float = 1.0  # of the inputs an average target gets


@dataclass(frozen=True)
class Verdict:
    """What became of an input; `crash` is empty where all is well."""

    accepted: bool
    crash: str = ""


class TooSlow(BaseException):
    """Not an Exception, so that no parser can take it for one of its own."""


def judge(target: Target, content: Any, box: Path) -> Verdict:
    """Read an input in an empty folder below `box` and see what else has happened."""
    inside = box / "inside"
    for left in (box, ELSEWHERE):
        shutil.rmtree(left, ignore_errors=True)
    inside.mkdir(parents=True)
    os.environ[TRAP_AT] = str(inside / TRAP)
    peak, start = _peak_mb(), time.process_time()
    try:
        with interrupted(HANG_S), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.parse(inside, content)
        verdict = Verdict(True)
    except UserError as error:
        verdict = Verdict(False, "" if str(error).strip() else "a UserError without a word")
    except (Exception, TooSlow) as error:
        verdict = Verdict(False, f"{type(error).__name__} at {_place(error)}: {str(error)[:200]!r}")
    return Verdict(
        verdict.accepted,
        verdict.crash or _harm(box, _peak_mb() - peak, time.process_time() - start),
    )


def _harm(box: Path, grown_mb: float, spent_s: float) -> str:
    """What an input did beside being read; nothing where it did no harm."""
    outside = [
        path for path in (*box.iterdir(), ELSEWHERE) if path.name != "inside" and path.exists()
    ]
    if outside:
        return f"written outside of its folder: {outside[0]}"
    if any(TRAP in names for _, _, names in os.walk(box)):
        return "foreign code has run"
    if grown_mb > MEMORY_MB:
        return f"memory grew by {grown_mb:.0f} MB"
    return f"took {spent_s:.1f} s" if spent_s > SECONDS else ""


def _place(error: BaseException) -> str:
    """The last line of our own code that the error came through."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__, limit=-200)
        if "/benchmark/" in frame.filename
    ]
    return f"{Path(frames[-1].filename).name} line {frames[-1].lineno}" if frames else "?"


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@contextmanager
def interrupted(after_s: int) -> Iterator[None]:
    def ring(*_: object) -> None:
        raise TooSlow(f"interrupted after {after_s} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(after_s)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def bounded_memory() -> Iterator[None]:
    """No more than SPACE_MB beyond what this process has: a bomb becomes a MemoryError instead of
    taking the machine.
    """
    limits = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + (SPACE_MB << 20), limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def smaller(target: Target, content: Any, box: Path, crash: str, attempts: int = 200) -> Any:
    """An input of bytes cut down as long as the same crash comes of it; other inputs, and those
    that take long, as they are.
    """
    if not isinstance(content, bytes) or crash.startswith(("took", "TooSlow")):
        return content
    kind, step = crash.partition(": ")[0], max(1, len(content) // 2)
    while step and attempts > 0:
        for start in range(0, len(content), step):
            attempts -= 1
            candidate = content[:start] + content[start + step :]
            if judge(target, candidate, box).crash.partition(": ")[0] == kind:
                content = candidate
                break
            if attempts <= 0:
                break
        else:
            step //= 2
    return content
