"""A training step of CoOp, alone and in batches of runs, beside the released style."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from benches.gpu.setting import Row, Size, backbone, class_names, episode, settled_s, towers
from benchmark import methods
from benchmark.api import Episode, unit
from benchmark.backbones import clip
from benchmark.backbones.clip import OpenClip
from testbed import naive_clip

BATCH, N_CTX = 32, 16
MOST_CLASSES_AT_ONCE = 6000  # classes times runs of one measurement


def text_steps(size: Size) -> Iterator[Row]:
    """ms per run and step of CoOp, batches of runs beside the released style, and the share of the
    measured matrix rate that the best of them reaches."""
    given, peak = backbone(size.device, size.precision), matrix_rate(size)
    for classes in size.classes:
        row: Row = {"classes": classes, "released style": released_step_ms(size, classes)}
        for runs in size.runs:
            fits = classes * runs <= MOST_CLASSES_AT_ONCE
            row[f"{runs} runs"] = run_step_ms(given, classes, runs, size.steps) if fits else ""
        best = best_ms(row)
        rate = step_flop(given, classes) / best / 1e9
        share = rate / peak if peak else ""
        yield row | {
            "ratio": row["released style"] / best,
            "TFLOP/s": rate,
            "share of matrix rate": share,
        }


def matrix_rate(size: Size) -> float | None:
    """TFLOP/s of large products in this precision, where that was measured before."""
    rows = size.figures.get("rates", [])
    return next((row["TFLOP/s"] for row in rows if row.get("product") == "float16"), None)


def best_ms(row: Row) -> float:
    return min(value for name, value in row.items() if name.endswith("runs") and value != "")


def step_flop(given: OpenClip, classes: int) -> float:
    """Floating-point operations of one run's step, forward and backward, as torch counts them: all
    but the logits lies in the text tower."""
    prompts = given.class_prompts(class_names(classes), N_CTX)
    ctx_PE = torch.zeros(N_CTX, given.text.width, device=given.device, requires_grad=True)
    prompts.encode(ctx_PE)  # so that its plan is there
    with FlopCounterMode(display=False) as counter:
        prompts.encode(ctx_PE).sum().backward()
    return float(counter.get_total_flops())


def run_step_ms(given: OpenClip, classes: int, runs: int, steps: int) -> float:
    """ms per run and step: two lengths of CoOp's training, so that what comes before cancels."""
    shots = -(-BATCH // classes)
    episodes = [episode(given, classes, shots, seed) for seed in range(runs)]
    per_epoch = max(1, classes * shots // BATCH)
    recorded = given.device.type == "cuda"  # its first steps are computed one by one
    short = -(-(30 if recorded else 1) // per_epoch)
    longer = short + -(-steps // per_epoch)
    fit_s(given, episodes, short)  # warm
    # the least of several: what disturbs a measurement makes it longer
    short_s, longer_s = (
        min(fit_s(given, episodes, epochs) for _ in range(2)) for epochs in (short, longer)
    )
    return 1e3 * (longer_s - short_s) / ((longer - short) * per_epoch * runs)


def fit_s(given: OpenClip, episodes: Sequence[Episode], epochs: int) -> float:
    parameters = {"epochs": str(epochs), "many_classes_epochs": epochs, "views": 1}
    adapter = methods.load("coop", parameters)
    return settled_s(partial(adapter.fit_batch, episodes), given.device.type)


def released_step_ms(size: Size, classes: int) -> float:
    """CoOp's step as released: one run, whole prompts of 77 tokens, half precision, eager."""
    dtype = torch.float16 if size.device == "cuda" else torch.float32
    model = clip.from_model(towers(size.device), "released").copy().model.to(dtype)
    step = released_step(model, classes, dtype)
    settled_s(lambda: [step() for _ in range(3)], size.device)
    count = 8 if size.device == "cuda" else 2
    return 1e3 * settled_s(lambda: [step() for _ in range(count)], size.device) / count


def released_step(model: Any, classes: int, dtype: torch.dtype) -> Callable[[], None]:
    rng, device = torch.Generator().manual_seed(0), model.logit_scale.device
    dim, width = model.text_projection.shape[1], model.token_embedding.weight.shape[1]
    image_BD = unit(torch.randn(BATCH, dim, generator=rng)).to(device, dtype)
    labels_B = torch.randint(classes, (BATCH,), generator=rng).to(device)
    ctx_PE = (0.02 * torch.randn(N_CTX, width, generator=rng)).to(device, dtype).requires_grad_()
    with torch.no_grad():
        prompts_KLE, ids_KL = naive_clip.prompt_tensor(model, class_names(classes), ctx_PE, "end")
    sgd = torch.optim.SGD([ctx_PE], lr=0.002, momentum=0.9, weight_decay=5e-4)

    def step() -> None:
        context_KPE = ctx_PE.expand(classes, -1, -1)
        whole_KLE = torch.cat([prompts_KLE[:, :1], context_KPE, prompts_KLE[:, 1 + N_CTX :]], 1)
        text_KD = unit(naive_clip.read_out(model, whole_KLE, ids_KL)).to(dtype)
        sgd.zero_grad()
        F.cross_entropy((100 * image_BD @ text_KD.T).float(), labels_B).backward()
        sgd.step()

    return step
