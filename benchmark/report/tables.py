"""Tables as plain data: what stands where. How it looks is the business of render.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmark.records.record import Record
from benchmark.report.lines import Group, Line, Setting, members, namer
from benchmark.report.scores import Score, Value, mean_over, per_shots, score

KINDS = ("dataset-shots", "method-shots", "method-dataset")
ByShots = dict[int, dict[int, float]]  # shots -> seed -> accuracy


@dataclass(frozen=True)
class Row:
    """One row; rows of the same group stand together under its name."""

    label: str
    values: tuple[Value | str, ...]
    group: str = ""
    mean: bool = False
    leads: frozenset[int] = (
        frozenset()
    )  # positions of values that cannot be told from the best of their column


@dataclass(frozen=True)
class Table:
    """Numbers under one setting, with everything a reader needs to know about them."""

    title: str
    heads: tuple[str, str]  # above groups ('' where there are none) and above labels
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


def tables(groups: Group, kind: str = KINDS[0], ranked: bool = False) -> list[Table]:
    """The tables of a kind, one or more per setting: suites, backbones and protocols are never
    averaged.

    With `ranked`, methods side by side are tested and the leading ones marked, which takes a
    moment.
    """
    if kind == "method-dataset":
        return [
            table
            for setting, lines in groups.items()
            for table in method_dataset(setting, lines, ranked)
        ]
    if kind == "method-shots":
        return [method_shots(setting, lines, ranked) for setting, lines in groups.items()]
    return [dataset_shots(setting, lines) for setting, lines in groups.items()]


Lines = Mapping[Line, Mapping[str, Sequence[Record]]]


def dataset_shots(setting: Setting, lines: Lines) -> Table:
    """Every method's datasets, and their mean, against shots."""
    names, present = namer(lines), _present(setting, lines)
    shots = _shots(lines)
    rows = []
    for line, by_dataset in lines.items():
        numbers = {
            dataset: per_shots(by_dataset.get(dataset, ())) for dataset in members(setting.suite)
        }
        for dataset in present:
            values = [_score(numbers[dataset].get(shot)) for shot in shots]
            rows.append(Row(dataset, (*values, _seeds(values)), names(line)))
        if len(numbers) > 1:
            rows.append(_mean_row(f"mean of {len(numbers)}", numbers.values(), shots, names(line)))
    return Table(
        f"Accuracy in %: {setting}",
        ("method", "dataset"),
        (*_shot_heads(shots), "seeds"),
        tuple(rows),
        _notes(setting, lines),
    )


def method_shots(setting: Setting, lines: Lines, ranked: bool = False) -> Table:
    """The mean over the suite of every method against shots."""
    names, shots = namer(lines), _shots(lines)
    whole = members(setting.suite)
    rows = [
        _mean_row(names(line), [per_shots(by_dataset.get(dataset, ())) for dataset in whole], shots)
        for line, by_dataset in lines.items()
    ]
    rows = _marked(rows, lines, [(shot, whole) for shot in shots]) if ranked else rows
    over = f", mean of {len(whole)} datasets" if len(whole) > 1 else ""
    return Table(
        f"Accuracy in %{over}: {setting}",
        ("", "method"),
        (*_shot_heads(shots), "seeds"),
        tuple(rows),
        _notes(setting, lines),
    )


def method_dataset(setting: Setting, lines: Lines, ranked: bool = False) -> list[Table]:
    """For each number of shots, methods against datasets; methods without shots stand in each of
    them.
    """
    present, names = _present(setting, lines), namer(lines)
    wanted = [shot for shot in _shots(lines) if shot] or [0]
    made = []
    for shot in wanted:
        across = {
            line: _across(names(line), found, setting, present, shot)
            for line, found in lines.items()
        }
        shown = {line: lines[line] for line, row in across.items() if row}
        rows = [row for row in across.values() if row]
        columns = [(shot, (name,)) for name in present] + [(shot, members(setting.suite))]
        rows = _marked(rows, shown, columns) if ranked else rows
        title = f"Accuracy in %, {shot}-shot: {setting}"
        made.append(
            Table(
                title,
                ("", "method"),
                (*present, "mean", "seeds"),
                tuple(rows),
                _notes(setting, lines),
            )
        )
    return made


def _marked(
    rows: Sequence[Row], lines: Lines, columns: Sequence[tuple[int, Sequence[str]]]
) -> list[Row]:
    """The rows of `lines`, with the leading values of every column (shots, datasets) marked."""
    from benchmark.report.ranking import leading

    ahead = [leading(lines, shot, datasets) for shot, datasets in columns]
    return [
        replace(
            row,
            leads=frozenset(
                at
                for at, leaders in enumerate(ahead)
                if line in leaders and isinstance(row.values[at], Score)
            ),
        )
        for row, line in zip(rows, lines, strict=True)
    ]


def _across(
    name: str,
    found: Mapping[str, Sequence[Record]],
    setting: Setting,
    present: Sequence[str],
    shot: int,
) -> Row | None:
    """A method's row at one number of shots, or at none where it never uses any; nothing where it
    was not run there.
    """
    numbers = {dataset: per_shots(found.get(dataset, ())) for dataset in members(setting.suite)}
    at = {dataset: by_shots.get(shot) or by_shots.get(0) for dataset, by_shots in numbers.items()}
    if not any(at.values()):
        return None
    values = [_score(at[dataset]) for dataset in present]
    return Row(name, (*values, mean_over(list(at.values())), _seeds(values)))


def _mean_row(label: str, numbers: Iterable[ByShots], shots: Sequence[int], group: str = "") -> Row:
    numbers = list(numbers)
    values = [mean_over([by_shots.get(shot) for by_shots in numbers]) for shot in shots]
    return Row(label, (*values, _seeds(values)), group, mean=bool(group))


def _score(by_seed: Mapping[int, float] | None) -> Score | None:
    return score(by_seed) if by_seed else None


def _seeds(values: Sequence[Value]) -> str:
    """How many seeds stand behind a row's numbers: '3', or '2-3' where they differ."""
    counts = [value.count for value in values if isinstance(value, Score)]
    if not counts:
        return "-"
    return str(max(counts)) if min(counts) == max(counts) else f"{min(counts)}-{max(counts)}"


def _present(setting: Setting, lines: Lines) -> list[str]:
    """The suite's datasets that any line has records of, in the suite's order."""
    seen = {dataset for by_dataset in lines.values() for dataset in by_dataset}
    return [dataset for dataset in members(setting.suite) if dataset in seen]


def _shots(lines: Lines) -> list[int]:
    return sorted(
        {
            record.identity.shots
            for found in lines.values()
            for records in found.values()
            for record in records
        }
    )


def _shot_heads(shots: Sequence[int]) -> list[str]:
    return [f"{shot}-shot" for shot in shots]


def _notes(setting: Setting, lines: Lines) -> tuple[str, ...]:
    """What applies to the numbers of a whole table, and which rows may not be ranked."""
    names = namer(lines)
    used = {(line.val, line.sampler) for line in lines if line.sampler != "none"}
    shared = (
        [f"validation images: {_policy(val)}; sampling: {sampler}" for val, sampler in sorted(used)]
        if len(used) == 1
        else []
    )
    priors = sorted(
        {f"{line.exposure}" for line in lines if line.exposure.pool and line.exposure.ranked}
    )
    barred = [f"{names(line)}: {line.exposure.bar}" for line in lines if not line.exposure.ranked]
    versions = f"image pipeline {setting.transform}, protocol {setting.protocol}"
    return ("; ".join([*shared, versions]), *priors, *barred)


def _policy(val: str) -> str:
    return {"min4": "min(shots, 4) per class", "none": "none"}.get(val, val)
