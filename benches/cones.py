"""Concept search: a run, all runs of a dataset at once, and what CoOp would have taken. `python -m
benches.cones [--quick]`

100 classes x 16 shots x 512 dimensions, features given, 200 epochs on the whole support set, the
regularisation weight chosen among four on a validation set of 4 per class. CoOp is timed by the
step at the shapes of ViT-B/16's text tower (random weights, Caltech101's names) and multiplied by
its 10,000 steps: ours over shared tokens, and the reference's 77 tokens per class
(testbed/naive_clip.py), both with the image features given; the reference encodes its batch of
images at every step on top, which is stated apart.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benches import apt
from benches.timing import Timing, alternate, machine, once
from benchmark import data, methods
from benchmark.api import Episode, unit
from testbed import naive_clip

CLASSES, DIM, VAL = 100, 512, 4
SHOTS, SEEDS, COOP_STEPS, BATCH = (1, 2, 4, 8, 16), (1, 2, 3), 200 * 50, 32


def problem(shots: int, seed: int) -> Episode:
    """Features around class centres, a text classifier that knows a part of the truth."""
    rng = torch.Generator().manual_seed(seed)
    centre_KD = unit(torch.randn(CLASSES, DIM, generator=torch.Generator().manual_seed(0)))

    def images(count: int) -> tuple[Tensor, Tensor]:
        labels_N = torch.arange(CLASSES).repeat_interleave(count)
        return centre_KD[labels_N] + 0.08 * torch.randn(len(labels_N), DIM, generator=rng), labels_N

    (support_ND, support_labels_N), (val_ND, val_labels_N) = images(shots), images(min(shots, VAL))
    return Episode.from_features(
        class_names=[f"class {k}" for k in range(CLASSES)],
        text_KD=centre_KD + 0.06 * torch.randn(CLASSES, DIM, generator=rng),
        support_ND=support_ND,
        support_labels_N=support_labels_N,
        val_ND=val_ND,
        val_labels_N=val_labels_N,
        seed=seed,
    )


def run_times(rounds: int, *, fixed: bool) -> dict[str, Timing]:
    """One run of 16 shots, and all fifteen, together and one by one; `fixed`: one
    regularisation weight, none chosen.
    """
    adapter = methods.load("cones", {"regularisation_grid": "10"} if fixed else {})
    everything = [problem(shots, seed) for shots in SHOTS for seed in SEEDS]
    return alternate(
        {
            "one run, 16 shots": lambda: adapter.fit(everything[-1]),
            "15 runs together": lambda: adapter.fit_batch(everything),
            "15 runs one by one": lambda: [adapter.fit(each) for each in everything],
        },
        rounds,
    )


def coop_step_times(rounds: int) -> dict[str, Timing]:
    """Seconds of CoOp's step on given features, and of encoding the batch of images the reference
    encodes at every step.
    """
    backbone, names = apt.true_shapes(), data.read_spec("caltech101").class_names
    prompts = backbone.class_prompts(names, 16)
    ctx_PE = (
        0.02 * torch.randn(prompts.ctx_shape, generator=torch.Generator().manual_seed(1))
    ).requires_grad_()
    image_ND = unit(torch.randn(BATCH, DIM, generator=torch.Generator().manual_seed(2)))
    pixels_NCHW = torch.randn(BATCH, 3, 224, 224)

    def step(encode: Callable[[Tensor], Tensor]) -> None:
        loss = F.cross_entropy(100 * image_ND @ encode(ctx_PE).T, torch.arange(BATCH))
        torch.autograd.grad(loss, ctx_PE)

    def images() -> None:
        with torch.no_grad():
            backbone.encode_pixels(pixels_NCHW)

    reference = once(lambda: step(lambda ctx: naive_clip.text_features(backbone.model, names, ctx)))
    times = alternate({"ours": lambda: step(prompts.encode), "images": images}, rounds)
    return times | {"reference": reference}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one round, no CoOp")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    console, rounds = Console(width=150), 1 if given.quick else 3
    for fixed in (False, True):
        times = run_times(rounds, fixed=fixed)
        table = Table(
            "what",
            "clock s",
            "processor s",
            "to one run",
            title=f"{'one weight' if fixed else 'four weights'}; {machine()}",
        )
        for name, timing in times.items():
            ratio = timing.cpu_s / times["one run, 16 shots"].cpu_s
            table.add_row(name, f"{timing.wall_s:.2f}", f"{timing.cpu_s:.2f}", f"{ratio:.2f}")
        console.print(table)
        if not fixed and not given.quick:
            console.print(against_coop(times["one run, 16 shots"], coop_step_times(rounds)))


def against_coop(ours: Timing, steps: dict[str, Timing]) -> Table:
    table = Table(
        "CoOp, 10,000 steps",
        "processor s",
        "to ConES",
        title="ConES against CoOp, 100 classes, 16 shots, features given",
    )
    cells = {
        "ours, shared tokens": steps["ours"].cpu_s,
        "reference, 77 tokens": steps["reference"].cpu_s,
    }
    cells["reference, with its images"] = steps["reference"].cpu_s + steps["images"].cpu_s
    for name, step_s in cells.items():
        table.add_row(
            name, f"{COOP_STEPS * step_s:,.0f}", f"{COOP_STEPS * step_s / ours.cpu_s:,.0f}x"
        )
    return table


if __name__ == "__main__":
    main()
