"""Records, forged by one who knows how keys are made; results folders; tables of numbers."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from benchmark import methods
from benchmark.compute import rerun, runner
from benchmark.errors import UserError
from benchmark.records import combine
from benchmark.records.record import hash_of
from benchmark.records.store import Store
from benchmark.report import (
    calibration_tables,
    comparison,
    cost_tables,
    golden,
    grouping,
    leaderboard,
    page,
    published,
    published_table,
    record_selection,
    rendering,
    tables,
)
from benchmark.report.calibration import Calibrations
from benchmark.report.image_results import ImageResults
from testbed.mutation import PATHS, json_text, mutated, mutated_tree
from testbed.synthetic import identity, scored
from testbed.targets.arrays import npz_files
from testbed.targets.inputs import Random, nothing_beside, written


@cache
def record_trees() -> list[Any]:
    honest = [
        scored(identity(method, dataset, seed=seed), 0.5 + 0.1 * seed)
        for method, dataset, seed in RECORDS
    ]
    prior = scored(
        identity(
            "prompt_adapter",
            sources={"tiny_shapes": "0" * 64},
            source_shots=4,
            params={"n_ctx": 4, "lr": 0.1},
        ),
        0.7,
    )
    return [json.loads(each.model_dump_json()) for each in (*honest, prior)]


RECORDS = [
    ("coop", "tiny_digits", 1),
    ("coop", "tiny_digits", 2),
    ("zero_shot", "tiny_digits", 1),
    ("my_lab.mine", "pets", 1),
]


def rekeyed(tree: Any) -> Any:
    """A forged record: whatever its identity says now, its key fits."""
    try:
        return tree | {"key": hash_of(tree["identity"])}
    except (TypeError, KeyError, ValueError, RecursionError):
        return tree


def make_record(rng: Random) -> tuple[str, bytes]:
    tree = mutated_tree(rng, rng.choice(record_trees()))
    tree = rekeyed(tree) if rng.random() < 0.7 else tree
    text = json_text(tree)
    if rng.random() < 0.3:
        text = mutated(rng, text, [json_text(each) for each in record_trees()])
    return _file_name(tree), text


def _file_name(tree: Any) -> str:
    name = str(tree.get("key") or "x") if isinstance(tree, dict) else "x"
    return (name.replace("/", "_").replace("\0", "") or "x")[:100]


def read_record(folder: Path, parts: tuple[str, bytes]) -> None:
    """Passed over with a word about it, or trusted."""
    written(folder / "records" / f"{parts[0]}.json", parts[1])
    notes: list[str] = []
    records = list(Store(folder).records(notes))
    if not records:
        assert notes, "a record passed over without a word"
        raise UserError(notes[0])


def make_store(rng: Random) -> list[tuple[str, bytes]]:
    """Forged records beside honest ones; the forger knows how keys are made."""
    forged = [
        rekeyed(mutated_tree(rng, rng.choice(record_trees()))) for _ in range(rng.choice((1, 2)))
    ]
    return [(_file_name(tree), json_text(tree)) for tree in (*record_trees(), *forged)]


def forged(**fields: Any) -> list[tuple[str, bytes]]:
    """A store with one record whose identity says something unheard of."""
    tree = record_trees()[0]
    tree = rekeyed(tree | {"identity": tree["identity"] | fields})
    return [(_file_name(each), json_text(each)) for each in (*record_trees(), tree)]


def crafted_stores() -> list[list[tuple[str, bytes]]]:
    names = [
        forged(dataset=name)
        for name in (*PATHS, "/../../../../escaped", "<script>", "a.toml", "\0.toml")
    ]
    numbers = [
        forged(**{field: value})
        for field in ("shots", "seed", "source_shots", "protocol")
        for value in (-1, 2**70, -(10**400))
    ]
    params = [
        forged(params={"lr": value})
        for value in (float("nan"), float("inf"), 10**400, None, "x" * 100_000)
    ]
    counts = [
        rekeyed(record_trees()[0] | {"counts": {"correct": correct, "total": total}})
        for correct, total in (
            ([-1], [1]),
            ([2], [1]),
            ([10**400], [10**400]),
            ([], []),
            ([0], [0]),
            ([0], [55_300]),
            ([0], [2_000_000]),
        )
    ]
    return [*names, *numbers, *params, *([(_file_name(tree), json_text(tree))] for tree in counts)]


def read_store(folder: Path, files: list[tuple[str, bytes]]) -> None:
    """Everything that is made of records."""
    store = Store(folder / "results")
    for name, text in files:
        written(store.root / "records" / f"{name}.json", text)
    groups = grouping.group_records(record_selection.select_records(store, []))
    for kind in tables.KINDS:
        for form in rendering.FORMATS:
            rendering.render(tables.tables(groups, kind), form)
    rendering.render(cost_tables.cost_tables(groups), "text")
    found = Calibrations(store)
    rendering.render(calibration_tables.calibration_tables(groups, found), "text")
    leaderboard.with_decimals(leaderboard.leaderboard_frame(groups, found))
    list(published.compare_published(groups, _published()))
    images = ImageResults(store, folder / "root")
    page.write_page(folder / "page", groups, images)
    try:
        comparison.compare(groups, "coop", "zero_shot", images)
    finally:
        nothing_beside(folder, {"results", "page", "root"})


@cache
def _published() -> list[published_table.PublishedResult]:
    return published_table.read_published()


def read_replay(folder: Path, files: list[tuple[str, bytes]]) -> None:
    """What `replay` does before it computes; methods from elsewhere are the one place where foreign
    code runs, so not theirs.
    """
    store = Store(folder)
    for name, text in files:
        written(store.root / "records" / f"{name}.json", text)
    for record in store.records():
        if record.identity.method in methods.names() and record.identity.dataset.startswith("tiny"):
            cell = rerun.cell_of(record.identity)
            methods.load(cell.method, dict(cell.params))
            runner.plan([cell], root=folder)


def make_merge(rng: Random) -> list[tuple[str, bytes]]:
    name, text = make_store(rng)[-1] if rng.random() < 0.5 else make_record(rng)
    packed = (
        npz_files()[0] if rng.random() < 0.5 else mutated(rng, rng.choice(npz_files()), npz_files())
    )
    return [(f"{name}.json", text), (f"{name}.npz", packed)]


def honest_merge() -> list[tuple[str, bytes]]:
    (name, text), *_ = forged()
    return [(f"{name}.json", text), (f"{name}.npz", npz_files()[0])]


def read_merge(folder: Path, files: list[tuple[str, bytes]]) -> None:
    for name, content in files:
        written(folder / "theirs" / "records" / name, content)
    merged = combine.combine([Store(folder / "theirs")], Store(folder / "ours"))
    nothing_beside(folder, {"theirs", "ours"})
    if merged.passed_over:
        raise UserError(merged.passed_over[0])
    for record in Store(folder / "ours").records():
        if Store(folder / "ours").path(record.key).with_suffix(".npz").exists():
            Store(folder / "ours").predictions(record.key)


def rows_of(file: Path, count: int = 4) -> list[Any]:
    return [line.split(",") for line in file.read_text().splitlines()[:count]]


def read_golden(folder: Path, text: bytes) -> None:
    """Read, and made into cells."""
    from benchmark.commands.golden_check import cell_of

    for row in golden.read(written(folder / "golden.csv", text)):
        if "." not in row.method:
            cell_of(row)


def read_published(folder: Path, text: bytes) -> None:
    rows = published_table.read_published(written(folder / "published.csv", text))
    for row in rows:
        published.tolerance(row, published.MeanAccuracy(0.5, 0.01, (1, 2)))
    published.published_text(list(published.compare_published(_groups(), rows)))


@cache
def _groups() -> Any:
    from testbed.synthetic import grid

    return grouping.group_records(grid(["coop", "zero_shot"], ["tiny_digits"]))
