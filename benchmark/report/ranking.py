"""Which lines of a table lead: not one winner, but all that cannot be told from the best under the
same protocol.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmark.records.record import Record
from benchmark.report.lines import Line
from benchmark.report.scores import per_shots
from benchmark.report.stats import Numbers, leaders

Lines = Mapping[Line, Mapping[str, Sequence[Record]]]


def leading(lines: Lines, shots: int, datasets: Sequence[str]) -> frozenset[Line]:
    """Among lines of one protocol at one number of shots, those that tie with the best over
    `datasets`.

    Methods without shots take part in every protocol, since none of it concerns them, and lead only
    where they lead in all. A line that stands alone leads nothing. Diagnostics never take part.
    """
    numbers = {
        line: _numbers(found, shots, datasets)
        for line, found in lines.items()
        if line.exposure.ranked
    }
    present = {line: by_dataset for line, by_dataset in numbers.items() if by_dataset}
    untrained = {line for line in present if line.sampler == "none"}
    protocols = {line.protocol for line in present if line not in untrained} or {
        line.protocol for line in untrained
    }
    found: list[frozenset[Line]] = []
    for protocol in protocols:
        rivals = {
            str(index): line
            for index, line in enumerate(present)
            if line.protocol == protocol or line in untrained
        }
        ahead = (
            leaders({name: present[line] for name, line in rivals.items()})
            if len(rivals) > 1
            else set()
        )
        found.append(frozenset(rivals[name] for name in ahead))
    everywhere = frozenset.intersection(*found) if found else frozenset()
    return frozenset(
        line for ahead in found for line in ahead if line not in untrained or line in everywhere
    )


def _numbers(found: Mapping[str, Sequence[Record]], shots: int, datasets: Sequence[str]) -> Numbers:
    by_dataset = {dataset: per_shots(found.get(dataset, ())) for dataset in datasets}
    at = {
        dataset: by_shots.get(shots) or by_shots.get(0) for dataset, by_shots in by_dataset.items()
    }
    return {dataset: by_seed for dataset, by_seed in at.items() if by_seed}
