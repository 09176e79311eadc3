"""A grid written down: a TOML file that says which cells are meant, as the options of `run` do.

    [[grid]]
    methods = ["zero_shot", "coop", "./mine.py"]
    datasets = ["tiny_digits", "pets.toml"]
    shots = [1, 4]
    seeds = "1-3"
    set.coop.lr = [0.001, 0.002]    # a row for each

What a grid leaves out is chosen as `run` chooses it. Paths are relative to the file. A file may
come from a stranger: it is read as data, and a method from elsewhere that it names does not run
unless the user says so.
"""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from benchmark import grid, presets, protocols
from benchmark.backbones import weights
from benchmark.backbones.precision import AUTO, PRECISIONS
from benchmark.commands.grid_file_errors import sentence
from benchmark.commands.options.values import MOST_DIGITS, expanded
from benchmark.errors import UserError, said
from benchmark.methods import stable_name
from benchmark.records.record import Scalar
from benchmark.text_sets import FILES, JOINED

LARGEST_BYTES = 1_000_000
DIGITS = 12  # of the digest of a file


def _listed(value: object) -> object:
    """One value stands for a list of one."""
    return value if isinstance(value, (list, dict)) else [value]


def _apart(values: list[str]) -> list[str]:
    """ValueError for several names in one text, as options take them; a path may have commas."""
    if joined := next((each for each in values if "," in each and os.sep not in each), ""):
        raise ValueError(f'takes names without commas, as ["a", "b"], not {joined!r:.60}')
    return values


def _whole(values: list[int | str]) -> list[int | str]:
    """Ranges written out. ValueError for what is neither a whole number nor a range."""
    try:
        written = expanded("shots and seeds", list(map(str, values)))
    except UserError as error:  # it names an option, and nobody gave one
        raise ValueError from error
    if not all(value.isdecimal() and len(value) <= MOST_DIGITS for value in written):
        raise ValueError
    return list(map(int, written))


def _settings(value: object) -> object:
    """ValueError for what no hyper-parameter takes: dates, lists of lists, empty lists."""
    if not isinstance(value, dict):
        raise ValueError(f"takes a table, as in [grid.set], not {value!r:.60}")
    for name, each in value.items():
        for key, inner in each.items() if isinstance(each, dict) else [(name, each)]:
            _require_values(key, inner)
    return value


def _require_values(key: str, value: object) -> None:
    for each in value if isinstance(value, list) else [value]:
        if not isinstance(each, (str, int, float, bool)):
            raise ValueError(
                f"takes texts, numbers, true, false, or lists of them for '{key[:60]}',"
                f" not {each!r:.60}"
            )
    if value == []:
        raise ValueError(f"takes a value or several for '{key[:60]}', not an empty list")


Names = Annotated[list[str], BeforeValidator(_listed), Field(min_length=1)]
NamesApart = Annotated[Names, AfterValidator(_apart)]
Numbers = Annotated[
    list[int | str], BeforeValidator(_listed), Field(min_length=1), AfterValidator(_whole)
]
Values = Scalar | list[Scalar]
Settings = Annotated[dict[str, Values | dict[str, Values]], BeforeValidator(_settings)]


class Grid(BaseModel):
    """One [[grid]]: methods x datasets x shots x seeds x backbones, and what all cells share.

    None and {} leave the choice to the suite, as an option that is not given does.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    methods: NamesApart | None = None
    datasets: NamesApart | None = None
    suites: NamesApart | None = None
    shots: Numbers | None = None
    seeds: Numbers | None = None
    backbones: NamesApart | None = None
    precision: Literal[(AUTO, *PRECISIONS)] | None = None  # type: ignore[valid-type]
    protocol: Literal[protocols.PROTOCOLS] | None = None  # type: ignore[valid-type]
    learn_from: str | None = None
    val: Literal[grid.VAL_POLICIES] | None = None  # type: ignore[valid-type]
    sampler: Literal[grid.SAMPLERS] | None = None  # type: ignore[valid-type]
    classes: Literal[grid.CLASSES] | None = None  # type: ignore[valid-type]
    texts: Names | None = None
    sources: Names | None = None  # a policy, or datasets
    source_shots: Annotated[int, Field(ge=-1, le=10**9)] | None = None
    preset: Literal[presets.PRESETS] | None = None  # type: ignore[valid-type]
    set: Settings = {}  # hyper-parameters of every method, and by method; a list is a sweep

    def with_paths(self, moved: Callable[[str], str]) -> Grid:
        """The same grid with every path in it given to `moved`."""

        def method(name: str) -> str:
            return name if stable_name(name) == name else moved(name)

        def dataset(name: str) -> str:
            return moved(name) if name.endswith(".toml") else name

        def backbone(name: str) -> str:
            arch, _, file = name.partition("/")
            return f"{arch}/{moved(file)}" if weights.is_file(name) else name

        def texts(name: str) -> str:
            joined = JOINED if name.startswith(JOINED) else ""
            return joined + moved(name.removeprefix(joined)) if name.endswith(FILES) else name

        kinds = {"methods": method, "datasets": dataset, "sources": dataset}
        kinds |= {"backbones": backbone, "texts": texts}
        update: dict[str, Any] = {
            field: list(map(of, names))
            for field, of in kinds.items()
            if (names := getattr(self, field))
        }
        if self.learn_from:
            update["learn_from"] = dataset(self.learn_from)
        return self.model_copy(update=update)


class Saved(BaseModel):
    """What the cells of a file were called when it was written by --save-config."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    cells: Annotated[int, Field(ge=0)]
    keys: str  # digest of the names of their records


class GridFile(BaseModel):
    """The content of a file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    title: str = ""
    grid: Annotated[list[Grid], Field(min_length=1)]
    saved: Saved | None = None


@dataclass(frozen=True)
class WrittenGrids:
    """A file that was read: where it lies, the digest of its bytes, and what it says."""

    path: Path
    digest: str
    content: GridFile

    @property
    def label(self) -> str:
        """How records name it: by the name of the file, without its folder, and the digest."""
        return f"{self.path.name} sha256-{self.digest}"


@contextmanager
def naming_grid(written: WrittenGrids, number: int) -> Iterator[None]:
    """UserErrors of what is done inside begin with the file and the number of its grid."""
    try:
        yield
    except UserError as error:
        sentence = f"{written.path}, grid {number}: {error}"
        raise UserError(sentence, exit_code=error.exit_code, stops=error.stops) from error


def read_grid_file(path: Path) -> WrittenGrids:
    """A grid file. UserError with the place in the file for what no grid has."""
    data = _bytes(path)
    text = data.decode("utf-8-sig", errors="replace")
    try:
        content = GridFile(**_parsed(path, data))
    except ValidationError as error:
        raise UserError(f"{path}{sentence(error, text, GridFile, Grid)}") from None
    return WrittenGrids(path, hashlib.sha256(data).hexdigest()[:DIGITS], content)


def _bytes(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise UserError(f"there is no file {path}; --config takes a grid file (docs/grids.md)")
        if path.stat().st_size > LARGEST_BYTES:
            raise UserError(f"{path} is larger than any grid file; --config takes a grid file")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # a name too long, or no permission
        raise UserError(f"cannot read {str(path)[:200]} ({error}); name a grid file") from error


def _parsed(path: Path, data: bytes) -> Mapping[str, Any]:
    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # no TOML, no text, a number of 5,000 digits
        raise UserError(f"{path} is no TOML: {said(error)[:200]}; correct the file") from error
