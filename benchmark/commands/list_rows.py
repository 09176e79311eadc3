"""Methods, datasets, suites and backbones as plain rows. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmark import data, methods
from benchmark.backbones import weights
from benchmark.errors import UserError, nearest

Row = dict[str, Any]
Rows = list[Row]


def rows(what: str, data_root: Path | None) -> Rows:
    """The rows of a list; UserError where there is no such list."""
    lists: dict[str, Callable[[Path | None], Rows]] = {
        "methods": lambda root: [_method(name) for name in methods.names()],
        "datasets": lambda root: [_dataset(name, root) for name in data.names()],
        "suites": lambda root: [
            _suite(name, members, root) for name, members in data.suites().items()
        ],
        "backbones": lambda root: [
            {"name": name, "what": what} for name, what in weights.NAMED.items()
        ],
    }
    if what not in lists:
        raise UserError(f"there is no list of '{what}'; {nearest(what, list(lists))}")
    return lists[what](data_root)


def _method(name: str) -> Row:
    try:
        card = methods.card(name)
    except UserError as error:  # a broken plug-in must not hide the others
        return {
            "name": name,
            "title": "cannot be loaded",
            "paper": "",
            "summary": str(error),
            "params": {},
        }
    return {
        "name": name,
        "title": card.title,
        "paper": card.paper,
        "summary": card.summary,
        "params": card.defaults,
    }


def _dataset(name: str, data_root: Path | None) -> Row:
    spec = data.read_spec(name)
    return {
        "name": name,
        "title": spec.title,
        "classes": len(spec.class_names),
        "test": spec.counts.test if spec.counts else None,
        "prepared": data.prepared(name, data_root),
        "licence": spec.licence,
    }


def _suite(name: str, members: tuple[str, ...], data_root: Path | None) -> Row:
    known = [member for member in members if member in data.names()]
    return {
        "name": name,
        "datasets": list(members),
        "prepared": sum(data.prepared(member, data_root) for member in known),
    }


def text(rows: Rows) -> str:
    """Aligned columns; the last one may be long, lists and tables of parameters stand there."""
    shown = [[_word(value) for value in row.values()] for row in rows]
    heads = list(rows[0]) if rows else []
    widths = [max(len(row[index]) for row in [heads, *shown]) for index in range(len(heads))]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()
        for row in [heads, *shown]
    )


def _word(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case dict():
            return " ".join(f"{name}={setting}" for name, setting in value.items())
        case list():
            return " ".join(map(str, value))
        case _:
            return str(value)
