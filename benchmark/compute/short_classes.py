"""Classes with fewer training images than shots: refused for a whole grid, before any cell runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmark import data
from benchmark.data.sampling import short_classes
from benchmark.errors import UserError, counted
from benchmark.grid import Cell


def refuse_short_classes(
    cells: Iterable[Cell], root: Path | None = None, *, accept_changed_data: bool = False
) -> None:
    """Raise UserError, with every class that is too short, for the first dataset that has some."""
    shots_of: dict[tuple[str, str], set[int]] = defaultdict(set)
    for cell in cells:
        if cell.shots:
            shots_of[cell.learned.dataset, cell.sampler].add(cell.shots)
        for source in cell.sources if cell.source_shots >= 0 else ():
            shots_of[source, cell.sampler].add(cell.source_shots or cell.shots)
    for (name, sampler), shots in shots_of.items():
        try:
            class_names, labels = data.train_labels(
                name, root, accept_changed_data=accept_changed_data
            )
        except UserError:  # data that are missing or wrong are for the cells to report
            continue
        short = {number: short_classes(labels, number, sampler) for number in sorted(shots)}
        if any(short.values()):
            raise UserError(_sentence(name, class_names, short))


def _sentence(
    name: str, class_names: tuple[str, ...], short: Mapping[int, Mapping[int, tuple[int, int]]]
) -> str:
    enough = ",".join(str(number) for number, found in short.items() if not found)
    most, classes = max(short.items())
    counts = ", ".join(
        f"'{class_names[label]}' has {own} of {share}" for label, (own, share) in classes.items()
    )
    fewer = f"take --shots {enough}" if enough else "ask for fewer"
    return (
        f"{name}: {len(classes)} of {len(class_names)} classes have too few training images for "
        f"{counted(most, 'shot')} ({counts}); {fewer}, or --sampler coop-short, by which such a "
        "class gives all it has, as in CoOp's code"
    )
