"""Which of the shipped datasets are on disk, and where the others can be had."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmark.data import catalog, reading
from benchmark.data.locations import DatasetLocation, dataset_location
from benchmark.data.sources import Generated, Part
from benchmark.data.specs import Spec, read_spec


@dataclass(frozen=True)
class DatasetStatus:
    """One dataset: `state` is "generated", "ready", "adopted", "partial" or "missing"."""

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
    """One status per shipped dataset, suite by suite; only looks for files, reads no image."""
    in_suites = [name for members in catalog.suites().values() for name in members]
    names = dict.fromkeys([*in_suites, *catalog.names()])
    return [_status(read_spec(name), root) for name in names]


def _status(spec: Spec, root: Path | None) -> DatasetStatus:
    location = dataset_location(spec, root)
    return DatasetStatus(
        name=spec.name,
        title=spec.title,
        state=_state(spec, location),
        folder="" if isinstance(spec.source, Generated) else str(location.folders[0]),
        images=sum(dict(spec.counts).values()) if spec.counts else 0,
        classes=len(spec.class_names),
        licence=spec.licence,
        licence_seen=spec.licence_seen,
        registration=spec.registration,
        sources=", ".join(_source_labels(spec.parts[0])) if spec.parts else "",
    )


def _state(spec: Spec, location: DatasetLocation) -> str:
    if isinstance(spec.source, Generated):
        return "generated"
    if not reading.missing_paths(spec, location):
        return "adopted" if location.receipt.adopted else "ready"
    expected = [path for part in spec.parts for path in part.gives]
    return "partial" if any(location.find(path).exists() for path in expected) else "missing"


def _source_labels(part: Part) -> Iterator[str]:
    """Each label once, in the order in which they are tried."""
    yield from dict.fromkeys(
        f"{offer.label} (opt-in)" if offer.opt_in else offer.label for offer in part.offers
    )
    if part.by_hand and all(offer.opt_in for offer in part.offers):
        yield "by hand"
