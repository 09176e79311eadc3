"""Methods, datasets, suites and backbones as plain rows. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmark import methods
from benchmark.errors import UserError, nearest
from benchmark.methods import Card

Row = dict[str, Any]
Rows = list[Row]
COLUMNS = {  # that a table shows; JSON and the details of one name have everything
    "methods": ("name", "title", "family", "needs", "paper"),
    "datasets": ("name", "title", "classes", "test", "prepared", "licence"),
    "suites": ("name", "prepared", "datasets"),
    "backbones": ("name", "here", "what"),
}


def rows(what: str, data_root: Path | None) -> Rows:
    """The rows of a list; UserError where there is no such list."""
    lists: dict[str, Callable[[Path | None], Rows]] = {
        "methods": lambda root: [_method(name) for name in methods.names()],
        "datasets": _datasets,
        "suites": _suites,
        "backbones": _backbones,
    }
    if what not in lists:
        raise UserError(f"there is no list of '{what}'; {nearest(what, list(lists))}")
    return lists[what](data_root)


def row(what: str, name: str, data_root: Path | None) -> Row:
    """Everything about one method, dataset, suite or backbone; UserError for an unknown name."""
    by_name = {each["name"]: each for each in rows(what, data_root)}
    if what == "backbones":
        from benchmark.backbones import weights

        name = weights.canonical(name)
    given_by_file = name.endswith({"methods": ".py", "datasets": ".toml"}.get(what, "\0"))
    if name not in by_name and not given_by_file:
        raise UserError(f"there is no '{name}' among {what}; {nearest(name, list(by_name))}")
    details: dict[str, Callable[[], Row]] = {
        "methods": lambda: _method(name),
        "datasets": lambda: _dataset_details(name, data_root),
        "backbones": lambda: by_name[name] | _abilities(name),
    }
    return details[what]() if what in details else by_name[name]


# Each list imports what it needs itself, so that the list of methods comes at once.


def _datasets(data_root: Path | None) -> Rows:
    from benchmark import data

    return [_dataset(name, data_root) for name in data.names()]


def _suites(data_root: Path | None) -> Rows:
    from benchmark import data

    return [_suite(name, members, data_root) for name, members in data.suites().items()]


def _backbones(data_root: Path | None) -> Rows:
    from benchmark.backbones import weights

    return [
        {"name": name, "here": weights.seem_here(name), "what": what}
        for name, what in weights.NAMED.items()
    ]


def _abilities(name: str) -> Row:
    from benchmark.backbones import abilities

    offered = abilities.offered(name)
    return {need: need in offered for need in abilities.ABILITIES}


def _method(name: str) -> Row:
    try:
        card = methods.card(name)
    except UserError as error:  # a broken plug-in must not hide the others
        return {
            "name": name,
            "title": "cannot be loaded",
            "family": "",
            "needs": "",
            "paper": "",
            "summary": str(error),
            "params": {},
        }
    return {
        "name": name,
        "title": card.title,
        "family": _family(card),
        "needs": _needs(card),
        "backbone needs": list(card.needs),
        "paper": card.paper,
        "summary": card.summary,
        "params": card.defaults,
    }


def _family(card: Card) -> str:
    """What of a model is learned or adapted."""
    if not card.few_shot:
        return "zero-shot"
    towers = dict.fromkeys(("text blocks", "image blocks"), "towers")
    learned = {"prompts": "prompts", "projection": "projection", **towers}
    return " + ".join(dict.fromkeys(learned[each] for each in card.needs if each in learned)) or (
        "features"
    )


def _needs(card: Card) -> str:
    """What a method learns from: labelled images of its dataset, and of source datasets; or all
    test images at once.
    """
    if not card.few_shot:
        return "nothing"
    if card.transductive:
        return "shots, test images"
    return "shots, sources" if card.pretrains else "shots"


def _dataset(name: str, data_root: Path | None) -> Row:
    from benchmark import data

    spec = data.read_spec(name)
    return {
        "name": name,
        "title": spec.title,
        "classes": len(spec.class_names),
        "test": spec.counts.test if spec.counts else None,
        "prepared": data.prepared(name, data_root),
        "licence": spec.licence,
    }


def _dataset_details(name: str, data_root: Path | None) -> Row:
    from benchmark import data
    from benchmark.data.locations import dataset_location
    from benchmark.data.sources import Generated

    spec = data.read_spec(name)
    drawn = isinstance(spec.source, Generated)
    counts = spec.counts.model_dump() if spec.counts else {}
    return _dataset(name, data_root) | {
        "domain": spec.domain,
        **{split: counts.get(split) for split in ("train", "val", "test")},
        "suites": [suite for suite, members in data.suites().items() if spec.name in members],
        "variant of": spec.parent,
        "folder": None if drawn else str(dataset_location(spec, data_root).folders[0]),
        "templates": list(spec.templates),
        "class names": list(spec.class_names),
    }


def _suite(name: str, members: tuple[str, ...], data_root: Path | None) -> Row:
    from benchmark import data

    known = [member for member in members if member in data.names()]
    return {
        "name": name,
        "datasets": list(members),
        "prepared": sum(data.prepared(member, data_root) for member in known),
    }
