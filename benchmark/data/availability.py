"""What is there of every dataset, at a glance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmark.data import catalog, reading
from benchmark.data.locations import place
from benchmark.data.sources import Generated
from benchmark.data.specs import Spec, spec


@dataclass(frozen=True)
class Row:
    """One dataset: `state` is "drawn", "ready", "adopted", "partial" or "missing"."""

    name: str
    title: str
    state: str
    folder: str
    images: int
    classes: int
    licence: str
    licence_seen: str
    registration: bool
    way: str  # how it can be had: labels of its sources, or "by hand"


def status(root: Path | None = None) -> list[Row]:
    """One row per shipped dataset, suite by suite; looks at names only, reads no image."""
    order = dict.fromkeys(name for members in catalog.suites().values() for name in members)
    return [_row(spec(name), root) for name in (*order, *sorted(set(catalog.names()) - set(order)))]


def _row(promise: Spec, root: Path | None) -> Row:
    where = place(promise, root)
    folder = "" if isinstance(promise.source, Generated) else str(where.folders[0])
    images = sum(dict(promise.counts).values()) if promise.counts else 0
    licence = (promise.licence, promise.licence_seen, promise.registration)
    return Row(
        promise.name,
        promise.title,
        _state(promise, root),
        folder,
        images,
        len(promise.class_names),
        *licence,
        _way(promise),
    )


def _state(promise: Spec, root: Path | None) -> str:
    if isinstance(promise.source, Generated):
        return "drawn"
    where = place(promise, root)
    if not reading.lacking(promise, where):
        return "adopted" if where.receipt.adopted else "ready"
    return (
        "partial"
        if any(where.find(path).exists() for part in promise.parts for path in part.gives)
        else "missing"
    )


def _way(promise: Spec) -> str:
    labels = dict.fromkeys(
        offer.label + (" (opt-in)" if offer.opt_in else "")
        for part in promise.parts[:1]
        for offer in part.offers
    )
    by_hand = (
        ["by hand"]
        if any(
            part.by_hand and all(offer.opt_in for offer in part.offers)
            for part in promise.parts[:1]
        )
        else []
    )
    return ", ".join([*labels, *by_hand])
