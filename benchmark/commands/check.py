"""`check` from flags to exit code: which golden rows, run where, compared how."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmark import data, methods, reference
from benchmark.backbones import weights
from benchmark.commands import golden, live
from benchmark.commands.cell_selection import TINY, Flags, select
from benchmark.compute import runner
from benchmark.compute.runner import Outcome
from benchmark.grid import Cell
from benchmark.records.store import Store

OK, FAILED, REGRESSION = 0, 1, 3


@dataclass(frozen=True)
class Asked:
    """Which rows; empty means all of the golden table."""

    method: Sequence[str] = ()
    dataset: Sequence[str] = ()
    shots: Sequence[str] = ()
    seed: Sequence[str] = ()


def conduct(
    asked: Asked,
    table: Path | None,
    update: bool,
    results: Path | None,
    device: str,
    as_json: bool,
    out: Console,
    err: Console,
    plain: bool = False,
    tolerance: int | None = None,
) -> int:
    """Run the cells, then compare or rewrite; the exit code."""
    path = table or reference.GOLDEN
    rows = golden.read(path) if path.exists() or not update else []
    wanted = [] if update else golden.chosen(rows, **vars(asked))
    methods.require_trusted((row.method for row in (rows if update else wanted)), asked.method)
    cells = _new_cells(asked, rows) if update else [cell for row in wanted for cell in _cell(row)]
    with _store(results) as store:
        outcomes = list(_shown(cells, store, device, plain or as_json, err))
    if update:
        golden.write(path, golden.updated(rows, outcomes, tolerance))
        err.print(
            f"{path}: {len(outcomes)} rows written", markup=False, highlight=False, soft_wrap=True
        )
        return OK
    return _verdicts(list(golden.compare(wanted, outcomes)), as_json, out)


def _new_cells(asked: Asked, rows: Sequence[golden.Expected]) -> list[Cell]:
    """What `--update` runs: the flags, or the methods the table knows, or all of ours."""
    known = sorted({row.method for row in rows})
    flags = Flags(
        methods=asked.method or known or methods.names(),
        datasets=asked.dataset or data.suites()[TINY],
        shots=asked.shots or golden.SHOTS,
        seeds=asked.seed or golden.SEEDS,
        backbones=[weights.TINY],
    )
    return select(flags).cells


def _cell(row: golden.Expected) -> list[Cell]:
    """The cell of a golden row, made by the same rules as a user's."""
    shots = [str(row.shots)] if row.shots else ["1"]
    return select(
        Flags([row.method], [row.dataset], (), shots, [str(row.seed or 1)], [row.backbone])
    ).cells


@contextmanager
def _store(results: Path | None) -> Iterator[Store]:
    """A store of its own: records from before would hide a regression."""
    if results:
        yield Store(results)
        return
    with tempfile.TemporaryDirectory(prefix="fsbench-check-") as folder:
        yield Store(Path(folder))


def _shown(
    cells: Sequence[Cell], store: Store, device: str, plain: bool, err: Console
) -> Iterator[Outcome]:
    view = (
        live.lines(err, len(cells)) if live.wants_plain(err, plain) else live.bar(err, len(cells))
    )
    with view as show:
        for outcome in runner.run(cells, store, device=device, force=True, on_stage=show.stage):
            show.outcome(outcome)
            yield outcome


def _verdicts(verdicts: Sequence[golden.Verdict], as_json: bool, out: Console) -> int:
    """Print what differs and what failed; a difference weighs more than a failure."""
    bad = [verdict for verdict in verdicts if verdict.problem]
    if as_json:
        print(
            json.dumps(
                [
                    {**vars(verdict.expected), "now": verdict.correct, "problem": verdict.problem}
                    for verdict in verdicts
                ],
                indent=1,
            )
        )
    else:
        for verdict in bad:
            out.print(f"differs: {verdict}", markup=False, highlight=False, soft_wrap=True)
        summary = (
            f"{len(verdicts) - len(bad)} of {len(verdicts)} cells are as the golden table says"
        )
        out.print(summary, markup=False, highlight=False, soft_wrap=True)
    if any(verdict.correct is not None for verdict in bad):
        return REGRESSION
    return FAILED if bad else OK


def published(
    results: Path,
    methods: Sequence[str],
    datasets: Sequence[str],
    shots: Sequence[str],
    as_json: bool,
) -> int:
    """Records beside published numbers; exit code 3 where one differs that could be compared."""
    from benchmark.report import grouping, record_selection
    from benchmark.report import published as facts

    records = record_selection.select_records(Store(results), [], methods, datasets)
    wanted = [record for record in records if not shots or str(record.identity.shots) in shots]
    found = list(facts.compare_published(grouping.group_records(wanted), facts.read_published()))
    print(
        json.dumps(facts.published_dicts(found), indent=1)
        if as_json
        else facts.published_text(found)
    )
    return REGRESSION if any(one.verdict == "differs" for one in found) else OK
