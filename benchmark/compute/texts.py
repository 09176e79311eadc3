"""Which sentences describe the classes of a dataset, and whether a text set has them all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

from benchmark import data, text_sets
from benchmark.grid import Cell
from benchmark.text_sets import TextSet


def sentences(
    texts: TextSet, dataset: str, class_names: Sequence[str]
) -> tuple[tuple[str, ...], ...]:
    """The sentences of every class; a shifted variant may have those of the dataset it is of."""
    spec = data.read_spec(dataset)
    return texts.of([name for name in (spec.name, spec.parent) if name], class_names)


def require_sentences(cells: Iterable[Cell]) -> None:
    """UserError where a text set lacks sentences for a class that a cell learns or tests."""
    read = cache(text_sets.read)
    wanted = {
        (cell.texts, name)
        for cell in cells
        if cell.texts
        for name in (cell.dataset, cell.learned.dataset)
    }
    for texts, name in sorted(wanted):
        sentences(read(texts), name, data.read_spec(name).class_names)
