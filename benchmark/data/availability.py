"""What is there of every dataset, at a glance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmark.data import catalog, reading
from benchmark.data.locations import dataset_location
from benchmark.data.sources import Generated
from benchmark.data.specs import Spec, read_spec


@dataclass(frozen=True)
class DatasetStatus:
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
    sources: str  # labels of the sources it can be fetched from, or "by hand"


def availability(root: Path | None = None) -> list[DatasetStatus]:
    """One row per shipped dataset, suite by suite; looks at names only, reads no image."""
    order = dict.fromkeys(name for members in catalog.suites().values() for name in members)
    return [
        _status(read_spec(name), root)
        for name in (*order, *sorted(set(catalog.names()) - set(order)))
    ]


def _status(spec: Spec, root: Path | None) -> DatasetStatus:
    location = dataset_location(spec, root)
    folder = "" if isinstance(spec.source, Generated) else str(location.folders[0])
    images = sum(dict(spec.counts).values()) if spec.counts else 0
    licence = (spec.licence, spec.licence_seen, spec.registration)
    return DatasetStatus(
        spec.name,
        spec.title,
        _state(spec, root),
        folder,
        images,
        len(spec.class_names),
        *licence,
        _sources(spec),
    )


def _state(spec: Spec, root: Path | None) -> str:
    if isinstance(spec.source, Generated):
        return "drawn"
    location = dataset_location(spec, root)
    if not reading.lacking(spec, location):
        return "adopted" if location.receipt.adopted else "ready"
    return (
        "partial"
        if any(location.find(path).exists() for part in spec.parts for path in part.gives)
        else "missing"
    )


def _sources(spec: Spec) -> str:
    labels = dict.fromkeys(
        offer.label + (" (opt-in)" if offer.opt_in else "")
        for part in spec.parts[:1]
        for offer in part.offers
    )
    by_hand = (
        ["by hand"]
        if any(
            part.by_hand and all(offer.opt_in for offer in part.offers) for part in spec.parts[:1]
        )
        else []
    )
    return ", ".join([*labels, *by_hand])
