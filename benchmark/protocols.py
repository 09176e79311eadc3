"""The field's protocols: what is learned on which classes, and which results come of it.

few-shot: learned and tested on the same classes. base-to-new (CoCoOp, CVPR 2022): learned on the
first half of the classes, tested on each half with that half's names, and on all of them.
cross-dataset: learned on one dataset, tested on others. domain: learned on one dataset, tested on
shifted variants, which have some or all of its classes. In the last two the source is tested too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

FEW_SHOT = "few-shot"
BASE_TO_NEW = "base-to-new"
CROSS_DATASET = "cross-dataset"
DOMAIN = "domain"
PROTOCOLS = (FEW_SHOT, BASE_TO_NEW, CROSS_DATASET, DOMAIN)
FROM_A_SOURCE = (CROSS_DATASET, DOMAIN)
BASE, NEW, ALL = "base", "new", "all"
SHOTS = (16,)  # of all protocols but few-shot, unless others are asked for


@dataclass(frozen=True)
class Test:
    """One result of a protocol: what is tested, and after learning on what."""

    dataset: str
    classes: str
    learned_on: str = ""  # a dataset; empty: the tested one


def tests(
    protocol: str, datasets: Sequence[str], source: str = "", classes: str = ALL
) -> Iterator[Test]:
    """The results of a protocol over some datasets; `classes` are those of few-shot."""
    if protocol == FEW_SHOT:
        yield from (Test(name, classes) for name in datasets)
    elif protocol == BASE_TO_NEW:
        yield from (Test(name, part) for name in datasets for part in (BASE, NEW, ALL))
    else:
        yield from (Test(name, ALL, source) for name in dict.fromkeys([source, *datasets]))


def learned_classes(protocol: str, classes: str) -> str:
    """The classes that are learned where `classes` are tested."""
    return {FEW_SHOT: classes, BASE_TO_NEW: BASE}.get(protocol, ALL)


def protocol_of(cell: str) -> str:
    """The protocol of a cell in words, as grid.Cell writes itself."""
    named = (name for name in PROTOCOLS if f" ({name} " in cell or f" ({name}," in cell)
    return next(named, FEW_SHOT)


def others(names: Iterable[str], source: str) -> tuple[str, ...]:
    """The names without the source, in order."""
    return tuple(name for name in names if name != source)
