"""Grids as the text of a file that means the same cells wherever it is read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmark.commands.grid_file import DIGITS, Grid, Saved
from benchmark.commands.option_fields import Flags
from benchmark.compute.devices import precision_for
from benchmark.errors import UserError
from benchmark.paths import write_atomic
from benchmark.text_sets import HAND
from benchmark.toml_text import toml_key, toml_value, unwritable_line

# left out of a file, which stays short: what a grid says where no option says otherwise
USUAL: Mapping[str, object] = {name: value or None for name, value in vars(Flags()).items()} | {
    "texts": [HAND],
    "sources": Flags().sources.split(","),
}


def saved(keys: Iterable[str]) -> Saved:
    """What cells are called, in short: how many there are, and a digest of their keys."""
    ordered = sorted(keys)
    digest = hashlib.sha256("\n".join(ordered).encode()).hexdigest()[:DIGITS]
    return Saved(cells=len(ordered), keys=digest)


def write_grid_file(path: Path, grids: Sequence[Grid], names: Saved, device: str) -> None:
    """Write grids that leave nothing open, as `select` makes them; "auto" becomes the precision
    that it means on `device`.

    Raises UserError where another file lies there already, and for what no file can hold.
    """
    settled = [part for each in grids for part in _with_precision(each, device)]
    seen_from_there = (each.with_paths(partial(_seen_from, path.parent)) for each in settled)
    text = "\n".join(map(_grid_text, seen_from_there))
    content = f"{text}\n[saved]\ncells = {names.cells}\nkeys = {toml_value(names.keys)}\n"
    if bad := unwritable_line(content):
        raise UserError(f"what was chosen is not UTF-8, which a grid file is: {bad}; correct it")
    if os.path.lexists(path):
        if _holds(path, content):
            return  # writing again would put a file in the place of a link
        raise UserError(f"{path} is there already, with other content; name another file")
    write_atomic(path, content.encode())


def _seen_from(folder: Path, file: str) -> str:
    """The way from a folder to a file, which ".." goes from where links lead to."""
    place = os.path.join(os.path.realpath(os.path.dirname(file)), os.path.basename(file))
    return os.path.relpath(place, os.path.realpath(folder))


def _holds(path: Path, content: str) -> bool:
    return path.is_file() and path.read_bytes() == content.encode()


def _with_precision(each: Grid, device: str) -> Iterator[Grid]:
    """The grid, in parts where its backbones compute in different precisions."""
    by_precision: dict[str, list[str]] = {}
    for name in each.backbones or ():
        precision = precision_for(name, device, each.precision or "auto")
        by_precision.setdefault(precision, []).append(name)
    for precision, names in by_precision.items():
        yield each.model_copy(update={"backbones": names, "precision": precision})


def _grid_text(each: Grid) -> str:
    values = each.model_dump()
    lines = [
        f"{name} = {toml_value(value)}"
        for name, value in values.items()
        if name != "set" and value != USUAL.get(name, ...)
    ]
    for method, table in values["set"].items():
        lines += [f"\n[grid.set.{toml_key(method)}]"]
        lines += [
            f"{toml_key(name)} = {toml_value(value[0] if len(value) == 1 else value)}"
            for name, value in table.items()
        ]
    return "\n".join(["[[grid]]", *lines, ""])
