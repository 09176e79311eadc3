"""What a backbone may have seen of a dataset before: facts with their sources, and no guesses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from benchmark import data

UNKNOWN = "not known"


@dataclass(frozen=True)
class Sighting:
    """What every backbone of a pattern saw of a dataset, or of every dataset of "suite:NAME"."""

    backbone: str
    dataset: str
    saw: str
    source: str


SIGHTINGS = (
    Sighting(
        "tiny",
        "tiny_shapes",
        "other pictures of the same generator; 10 of 16 classes never shown",
        "benchmark/tiny/captions.py",
    ),
    Sighting(
        "tiny",
        "tiny_textures",
        "other pictures of the same generator; 8 of 16 classes never shown",
        "benchmark/tiny/captions.py",
    ),
    Sighting(
        "tiny",
        "tiny_digits",
        "printed digits of the same classes; no handwriting",
        "benchmark/tiny/captions.py",
    ),
    Sighting(
        "*/openai",
        "suite:classic",
        "overlap not known per image; median over 35 datasets 2.2 %",
        "arXiv:2103.00020, section 5",
    ),
    Sighting(
        "timm:*in1k*",
        "imagenet",
        "its training images with their labels",
        "the name of the weights",
    ),
)


def seen(backbone: str, dataset: str) -> str:
    """What is known, with its source, or UNKNOWN."""
    for each in SIGHTINGS:
        if fnmatchcase(backbone, each.backbone) and dataset in _datasets(each):
            return f"{each.saw} ({each.source})"
    return UNKNOWN


def seen_notes(backbone: str, datasets: Iterable[str]) -> list[str]:
    """A line for each fact about the datasets of a table; none where nothing is known."""
    names_of: dict[str, list[str]] = {}
    for dataset in datasets:
        names_of.setdefault(seen(backbone, dataset), []).append(dataset)
    return [
        f"{backbone} has seen of {', '.join(names)}: {fact}"
        for fact, names in names_of.items()
        if fact != UNKNOWN
    ]


def _datasets(each: Sighting) -> tuple[str, ...]:
    suite = each.dataset.removeprefix("suite:")
    return data.suites()[suite] if suite != each.dataset else (each.dataset,)
