"""Cells, computed: episode, prior, fit, predict, score, and what it cost. The harness's only reader
of test labels.

Usually one cell at a time. Cells of one method, dataset and backbone may be trained in one batch by
methods that can (api.Batchable); the time is shared out by steps, and records say with how many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from benchmark import methods
from benchmark.api import (
    Adapter,
    ImageSet,
    Predictor,
    State,
    Target,
    UserError,
)
from benchmark.compute import kept_adapters, peak_memory, power
from benchmark.compute.episode import Problem, problem
from benchmark.compute.fitting import CellRun, fitted, shares
from benchmark.compute.macs import added_macs
from benchmark.compute.metrics import score
from benchmark.compute.priors import prior_of
from benchmark.compute.provenance import provenance
from benchmark.compute.resources import Resources, changed
from benchmark.compute.stages import OnStage
from benchmark.compute.threads import as_computed
from benchmark.compute.timing import timed
from benchmark.grid import Cell
from benchmark.records.kept_adapters import NOTED
from benchmark.records.predictions import Confidences
from benchmark.records.record import MOST_TITLE, Costs, Identity, Record, Scalar, key
from benchmark.records.store import Store


def compute_records(
    resources: Resources,
    store: Store,
    on_stage: OnStage,
    cells: Sequence[tuple[Cell, Identity]],
    *,
    memory_share: float = 1.0,
    grid_file: str = "",
    keep: bool = False,
) -> list[Record]:
    """Compute cells of one method, backbone and dataset, then put their records in the store.

    Raises what the method raises; nothing is kept of a failure. `memory_share` below 1 has the text
    side work in smaller chunks; `grid_file` is what records say of the file the cells are from;
    `keep` stores what was learnt beside the record.
    """
    first = cells[0][0]
    backbone = resources.backbone(first.backbone, first.precision)
    with as_computed(backbone, first.precision):
        return _compute(resources, store, on_stage, cells, memory_share, grid_file, keep)


def _compute(
    resources: Resources,
    store: Store,
    on_stage: OnStage,
    cells: Sequence[tuple[Cell, Identity]],
    memory_share: float,
    grid_file: str,
    keep: bool,
) -> list[Record]:
    first = cells[0][0]
    _require_planned_code(cells[0][1])
    adapter = methods.load(first.method, dict(first.params))
    on_stage(first, "load")
    digest_of = cache(resources.dataset_digest)  # a batch looks at each dataset's files once
    for cell, identity in cells:
        _require_planned_data(resources, digest_of, cell, identity)
    device = resources.device_of(first.backbone)
    peak_memory.reset(device)
    runs = [
        _run(resources, store, on_stage, cell, identity, adapter, memory_share)
        for cell, identity in cells
    ]
    with power.metered(device) as energy:
        fits = fitted(store, adapter, runs, on_stage, keep)
        finished = [
            _finished(resources, run, predict, fit_s, fits.together, on_stage)
            for run, predict, fit_s in zip(runs, fits.predictors, fits.fit_s, strict=True)
        ]
    records = [
        _completed(record, energy().share(share), grid_file)
        for (record, *_), share in zip(finished, shares(runs), strict=True)
    ]
    if keep:
        kept = zip(records, runs, fits.states, strict=True)
        records = [_with_adapter(record, run, state, store) for record, run, state in kept]
    for record, (_, predicted_Q, confidences) in zip(records, finished, strict=True):
        store.put(record, predicted_Q.numpy(), confidences)
    return records


def _with_adapter(record: Record, run: CellRun, state: State, store: Store) -> Record:
    """The record that says that what was learnt lies beside it, after that was written."""
    made = run.problem
    digest = kept_adapters.keep(
        store, record.identity, made.target, state, made.answers.pictures.exif
    )
    told = record.provenance | {NOTED: digest}
    return record.model_copy(update={"provenance": told})


def _require_planned_code(identity: Identity) -> None:
    """UserError where this process has imported other code than the cell was named by."""
    if methods.card(identity.method).code != identity.code:
        raise changed(f"the code of {identity.method}")


def _require_planned_data(
    resources: Resources, digest_of: Callable[[str], str], cell: Cell, identity: Identity
) -> None:
    """UserError where the images or the weights are not those that the cell was named by."""
    read = {digest_of(name) for name in cell.datasets}
    named = {**identity.sources, **identity.learned_on}
    for name, digest in [(identity.dataset, identity.dataset_digest), *named.items()]:
        if digest not in read:
            raise changed(f"the images of {name}")
    if cell.texts and resources.texts(cell.texts).digest != identity.texts_digest:
        raise changed(f"the texts {identity.texts}")
    if resources.weights_digest(cell.backbone, cell.precision) != identity.weights_digest:
        raise changed(f"the weights of {identity.backbone}")


def _completed(record: Record, energy: power.EnergyUse, grid_file: str) -> Record:
    """The record with its share of the energy, and with the file that its cell is from."""
    costs = record.costs.model_copy(update={"energy_j": energy.energy_j, "gpu_use": energy.gpu_use})
    origin = {"grid_file": grid_file} if grid_file else {}
    update = {"costs": costs, "provenance": record.provenance | origin}
    return record.model_copy(update=update)


def _run(
    resources: Resources,
    store: Store,
    on_stage: OnStage,
    cell: Cell,
    identity: Identity,
    adapter: Adapter,
    memory_share: float,
) -> CellRun:
    prior, pretrain_s = prior_of(resources, store, on_stage, cell, identity, adapter)
    return CellRun(cell, identity, problem(resources, cell, prior, memory_share), pretrain_s)


def _finished(
    resources: Resources,
    run: CellRun,
    predict: Predictor,
    fit_s: float,
    together: int,
    on_stage: OnStage,
) -> tuple[Record, Tensor, Confidences]:
    """The record of a fitted run, predicted_Q, and how sure the predictions are."""
    made, device = run.problem, resources.device_of(run.cell.backbone)
    logits_QK, costs = _predicted(predict, run, on_stage)
    counts, predicted_Q, confidences = score(logits_QK, made.answers.labels)
    notes = made.episode.notes
    circumstances = {
        "support_digest": made.support_digest,
        "changed_data": made.changed_data,
    } | _memory(device, made)
    if methods.card(run.cell.method).transductive:
        circumstances["transductive"] = True
    if made.data_remarks:
        circumstances["data_remarks"] = list(made.data_remarks)
    record = Record(
        key=key(run.identity),
        title=methods.card(run.cell.method).title[:MOST_TITLE],
        identity=run.identity,
        counts=counts,
        costs=Costs(
            **costs,
            fit_s=fit_s,
            batched_runs=together,
            pretrain_s=run.pretrain_s,
            trainable_params=int(notes.get("trainable_params", 0)),
        ),
        notes=_plain(notes),
        provenance=provenance(run.cell, device) | circumstances,
    )
    return record, predicted_Q, confidences


def _memory(device: str, made: Problem) -> dict[str, Any]:
    """How much memory the device has, and the share that the text side had to do with after it ran
    out.
    """
    share = getattr(made.episode.backbone, "memory_share", 1.0)
    room = (
        {"gpu_mb": torch.cuda.get_device_properties(device).total_memory // 2**20}
        if device.startswith("cuda")
        else {}
    )
    return room | (
        {"after_out_of_memory": f"text side in chunks of {share:g} of the usual memory"}
        if share < 1
        else {}
    )


def _predicted(
    predict: Predictor, run: CellRun, on_stage: OnStage
) -> tuple[Tensor, dict[str, Any]]:
    """logits_QK and what they cost."""
    made, device = run.problem, run.problem.episode.backbone.device.type
    on_stage(run.cell, "predict")
    fitted_s = made.timer.worth_s
    logits_QK, predict_s = timed(lambda: _logits(predict, made.query, made.target), [made])
    query_s = predict_s + made.timer.worth_s - fitted_s
    peak_mb = peak_memory.peak_mb(device)  # before the count below asks for features again
    return logits_QK, {
        "encode_s": made.timer.encoding_s,
        "predict_s": predict_s,
        "peak_mb": peak_mb,
        "images_per_s": len(made.query) / max(query_s, 1e-9),
        "added_macs": None
        if methods.card(run.cell.method).transductive  # it has no cost of one image
        else _added_macs(predict, made),
    }


def _added_macs(predict: Predictor, made: Problem) -> int | None:
    """Of the first two test images, so that features of no others are read."""
    table = made.answers.take(range(min(2, len(made.answers))))  # is there while its images are
    return added_macs(predict, made.images_of(table, sealed=True), made.episode.backbone)


def _logits(predict: Predictor, query: ImageSet, target: Target) -> Tensor:
    with torch.no_grad():
        logits_QK = predict(query)
    expected = (len(query), len(target.class_names))
    if tuple(logits_QK.shape) != expected:
        raise UserError(
            f"the predictor returned logits of shape {tuple(logits_QK.shape)} instead of "
            f"{expected}; correct the method"
        )
    if not bool(torch.isfinite(logits_QK).all()):
        raise UserError(
            "the predictor returned logits that are not finite, which is no result; "
            "lower the learning rate or correct the method"
        )
    return logits_QK.cpu()


def _plain(notes: dict[str, Any]) -> dict[str, Scalar]:
    """Notes as JSON scalars; a number that is not finite becomes text, since JSON has none."""
    plain = {
        name: value.item() if isinstance(value, Tensor) else value for name, value in notes.items()
    }
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in plain.items()
    }
