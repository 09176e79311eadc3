"""One cell, computed: episode, prior, fit, predict, score, and what it cost. The harness's only reader of test labels."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from benchmark import methods
from benchmark.api import Adapter, Episode, ImageSet, Predictor, UserError
from benchmark.clip import Loaded
from benchmark.costs import added_macs
from benchmark.episodes import Problem, Workshop, problem
from benchmark.grid import Cell
from benchmark.metrics import score
from benchmark.priors import prior_of
from benchmark.provenance import provenance
from benchmark.record import Costs, Identity, Record, Scalar, key
from benchmark.store import Store

Watch = Callable[[Cell, str], None]


SMALL_BACKBONE = 10_000_000  # parameters below which threads cost more in hand-overs than they bring (20x on a busy machine)


def compute_record(shop: Workshop, store: Store, watch: Watch, cell: Cell, identity: Identity) -> Record:
    """Compute a cell and put its record in the store. Raises what the method raises; nothing is kept of a failure."""
    with _threads_for(shop.backbone(cell.backbone)):
        return _compute(shop, store, watch, cell, identity)


@contextmanager
def _threads_for(backbone: Loaded) -> Iterator[None]:
    """One thread for a small model, torch's and the linear algebra libraries' own choice for others."""
    usual = torch.get_num_threads()
    small = sum(weight.numel() for weight in backbone.model.visual.parameters()) < SMALL_BACKBONE
    torch.set_num_threads(1 if small else usual)
    try:
        with threadpool_limits(1 if small else None):
            yield
    finally:
        torch.set_num_threads(usual)


def _compute(shop: Workshop, store: Store, watch: Watch, cell: Cell, identity: Identity) -> Record:
    adapter = methods.load(cell.method, dict(cell.params))
    watch(cell, "load")
    _reset_peak(shop.device)
    prior, pretrain_s = prior_of(shop, store, watch, cell, identity, adapter)
    made = problem(shop, cell, prior)
    logits_QK, costs = _fit_and_predict(adapter, made, cell, watch)
    counts, predicted_Q = score(logits_QK, made.answers.labels)
    record = Record(
        key=key(identity),
        identity=identity,
        counts=counts,
        costs=Costs(
            **costs,
            pretrain_s=pretrain_s,
            trainable_params=int(made.episode.notes.get("trainable_params", 0)),
        ),
        notes=_plain(made.episode.notes),
        provenance=provenance(cell, shop.device) | {"support_digest": made.support_digest, "changed_data": made.changed_data},
    )
    store.put(record, predicted_Q.numpy())
    return record


def _fit_and_predict(adapter: Adapter, made: Problem, cell: Cell, watch: Watch) -> tuple[Tensor, dict[str, Any]]:
    """logits_QK and the costs of both stages; seconds spent on encoding images are counted as `encode_s` and left out elsewhere."""
    device = made.episode.backbone.device.type
    torch.manual_seed(cell.seed)  # for plug-ins that forget episode.rng()
    watch(cell, "fit")
    predict, fit_s = _timed(lambda: adapter.fit(made.episode), made)
    watch(cell, "predict")
    fitted_s = made.watch.worth_s
    logits_QK, predict_s = _timed(lambda: _logits(predict, made.query, made.episode), made)
    encode_s, peak_mb = made.watch.worth_s, _peak_mb(device)  # before the count below asks for features again
    return logits_QK, {
        "encode_s": encode_s,
        "fit_s": fit_s,
        "predict_s": predict_s,
        "peak_mb": peak_mb,
        "images_per_s": len(made.query) / max(predict_s + encode_s - fitted_s, 1e-9),
        "added_macs": added_macs(predict, made.query, made.episode.backbone),
    }


def _timed(work: Callable[[], Any], made: Problem) -> tuple[Any, float]:
    encoding_s, start = made.watch.spent_s, time.perf_counter()
    result = work()
    if made.episode.backbone.device.type == "cuda":
        torch.cuda.synchronize()
    return result, time.perf_counter() - start - (made.watch.spent_s - encoding_s)


def _logits(predict: Predictor, query: ImageSet, episode: Episode) -> Tensor:
    with torch.no_grad():
        logits_QK = predict(query)
    expected = (len(query), len(episode.class_names))
    if tuple(logits_QK.shape) != expected:
        raise UserError(f"the predictor returned logits of shape {tuple(logits_QK.shape)} instead of {expected}; mend the method")
    if not bool(torch.isfinite(logits_QK).all()):
        raise UserError("the predictor returned logits that are not finite, which is no result; lower the learning rate or mend the method")
    return logits_QK.float().cpu()


def _plain(notes: dict[str, Any]) -> dict[str, Scalar]:
    """Notes as JSON scalars; a number that is not finite becomes text, since JSON has none."""
    plain = {name: value.item() if isinstance(value, Tensor) else value for name, value in notes.items()}
    return {name: str(value) if isinstance(value, float) and not math.isfinite(value) else value for name, value in plain.items()}


def _reset_peak(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == "linux":
        with suppress(OSError, IndexError):  # a container may deny a look at /proc
            Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM (proc(5))


def _peak_mb(device: str) -> float:
    """Peak memory in MiB since the last reset: of the device on a GPU, of the whole process elsewhere."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**20
    with suppress(OSError, IndexError):  # a container may deny a look at /proc
        status = Path("/proc/self/status").read_text()
        return round(int(status.split("VmHWM:")[1].split()[0]) / 2**10, 1)
    import resource

    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10, 1)
