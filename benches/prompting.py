"""The text side of CoOp's step, naive against shared tokens.

    python -m benches.prompting [--quick]

One step: features of all class prompts (16 context vectors), cross-entropy against 32 given image
features, backward, SGD. True shapes of ViT-B/16's text tower (width 512, 12 layers, 8 heads, 77
positions) with random weights, real class names, nothing downloaded. Image encoding is left out on
purpose: the cost of views is the same on both sides.
- naive: K prompts of 77 tokens through open_clip's own blocks (testbed/naive_clip.py). Above 100
  classes a chunk at a time, with a given gradient of the features: whole it needs 27 MB per class.
- truncated: the same, cut to the longest prompt.
- ours: benchmark/backbones/prompting/class_prompts.py.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benches.timing import Timing, alternate, machine
from benchmark.api import unit
from benchmark.backbones.clip import from_model
from benchmark.backbones.prompting import OpenClipPrompts
from benchmark.data import read_spec
from testbed import naive_clip

N_CTX, BATCH, DIM, CHUNK = 16, 32, 512, 100
ROUNDS_OF_LARGE = 2  # measured rounds where a naive step takes a minute
Features = Callable[[nn.Module, Sequence[str], Tensor, str], Tensor]


@dataclass(frozen=True)
class Case:
    """A row of the table, and the ratio it is held to (None: reported only)."""

    dataset: str
    position: str = "end"
    class_specific: bool = False
    precision: str = "float32"
    runs: int = 1
    target: float | None = None

    def __str__(self) -> str:
        kind, runs = (
            ", class-specific" * self.class_specific,
            f", {self.runs} runs at once, per run" * (self.runs > 1),
        )
        return f"{self.position}{kind}, {self.precision}{runs}"


CASES = (
    Case("eurosat", target=6),
    Case("eurosat", runs=8),
    Case("dtd", target=13),
    Case("dtd", runs=8),
    Case("caltech101", target=18),
    Case("caltech101", "middle", target=5.5),
    Case("caltech101", "front", target=4),
    Case("caltech101", class_specific=True, target=3.5),
    Case("caltech101", precision="bfloat16", target=30),
    Case("caltech101", runs=8),
    Case("sun397", target=18),
    Case("sun397", precision="bfloat16"),
)


def true_shapes(device: str) -> nn.Module:
    return naive_clip.small_clip(dim=DIM, width=512, layers=12, heads=8).to(device)


def prompts_of(model: nn.Module, case: Case, budget_mb: float | None = None) -> OpenClipPrompts:
    return OpenClipPrompts.build(
        from_model(model, "ViT-B/16").text,
        read_spec(case.dataset).class_names,
        N_CTX,
        case.position,
        class_specific=case.class_specific,
        precision=case.precision,
        budget_mb=budget_mb,
    )


def start(prompts: OpenClipPrompts, runs: int = 1) -> Tensor:
    shape = prompts.ctx_shape if runs == 1 else (runs, *prompts.ctx_shape)
    return (0.02 * torch.randn(shape, generator=torch.Generator().manual_seed(1))).to(
        prompts.tower.position_LE.device
    )


def step_of(encode: Callable[[Tensor], Tensor], ctx: Tensor, classes: int) -> Callable[[], None]:
    """A training step of CoOp on given image features; batched runs see the same images."""
    rng = torch.Generator().manual_seed(2)
    image_BD = unit(torch.randn(BATCH, DIM, generator=rng)).to(ctx.device)
    labels_B = torch.randint(classes, (BATCH,), generator=rng).to(ctx.device)
    ctx = ctx.clone().requires_grad_()
    sgd = torch.optim.SGD([ctx], lr=0.002, momentum=0.9, weight_decay=5e-4)

    def step() -> None:
        logits = (100 * image_BD @ encode(ctx).transpose(-1, -2)).reshape(-1, classes)
        sgd.zero_grad()
        F.cross_entropy(logits, labels_B.repeat(len(logits) // BATCH)).backward()
        sgd.step()
        settle(ctx)

    return step


def settle(tensor: Tensor) -> None:
    """A GPU answers before it is done; wait for it."""
    if tensor.is_cuda:
        torch.cuda.synchronize()


def gradient(encode: Callable[[Tensor], Tensor], ctx: Tensor, slope_KD: Tensor) -> Tensor:
    """d sum(text * slope) / d ctx."""
    ctx = ctx.clone().requires_grad_()
    return torch.autograd.grad((encode(ctx) * slope_KD).sum(), ctx)[0]


def gradient_in_chunks(
    features: Features, model: nn.Module, case: Case, ctx: Tensor, slope_KD: Tensor
) -> Tensor:
    """The same by naive features, CHUNK classes at a time."""
    names, total = read_spec(case.dataset).class_names, torch.zeros_like(ctx)
    for first in range(0, len(names), CHUNK):
        chunk = slice(first, first + CHUNK)
        where = chunk if case.class_specific else slice(None)
        total[where] += gradient(
            lambda c, n=names[chunk]: features(model, n, c, case.position),
            ctx[where],
            slope_KD[chunk],
        )
    return total


def naive_step(
    features: Features, model: nn.Module, case: Case, ctx: Tensor, slope_KD: Tensor
) -> Callable[[], object]:
    names = read_spec(case.dataset).class_names
    if len(names) > CHUNK:
        return lambda: settle(gradient_in_chunks(features, model, case, ctx, slope_KD))
    return step_of(lambda c: features(model, names, c, case.position), ctx, len(names))


def measured(
    model: nn.Module, dataset: str, cases: Sequence[Case], rounds: int
) -> list[tuple[str, ...]]:
    """All cases of one dataset in alternation with naive and truncated (whose cost does not depend
    on the position).
    """
    classes, device = len(read_spec(dataset).class_names), model.positional_embedding.device
    slope_KD = torch.randn(classes, DIM, generator=torch.Generator().manual_seed(3)).to(device)
    plain = Case(dataset)
    ctx = start(prompts_of(model, plain))
    variants: dict[str, Callable[[], object]] = {
        "naive": naive_step(naive_clip.text_features, model, plain, ctx, slope_KD),
        "truncated": naive_step(naive_clip.truncated_features, model, plain, ctx, slope_KD),
    }
    truths: dict[tuple[str, bool], Tensor] = {}
    gaps = {}
    for case in cases:
        prompts, kind = prompts_of(model, case), (case.position, case.class_specific)
        ctx = start(prompts)
        variants[str(case)] = step_of(prompts.encode, start(prompts, case.runs), classes)
        if kind not in truths:
            truths[kind] = gradient_in_chunks(naive_clip.text_features, model, case, ctx, slope_KD)
        gaps[case] = float(
            (gradient(prompts.encode, ctx, slope_KD) - truths[kind]).abs().max()
            / truths[kind].abs().max()
        )
    times = alternate(variants, min(rounds, ROUNDS_OF_LARGE) if classes > CHUNK + 50 else rounds)
    return [
        line(case, classes, times, gaps[case], "wall_s" if device.type == "cuda" else "cpu_s")
        for case in cases
    ]


def line(
    case: Case, classes: int, times: dict[str, Timing], gap: float, clock: str
) -> tuple[str, ...]:
    naive, truncated, ours = (
        getattr(times[name], clock) for name in ("naive", "truncated", str(case))
    )
    ours /= case.runs
    target = (
        ""
        if case.target is None
        else f"{case.target:g}x {'yes' if naive / ours >= case.target else 'NO'}"
    )
    ratios = f"{naive / truncated:.1f}x", f"{truncated / ours:.1f}x", f"{naive / ours:.1f}x"
    return (
        str(classes),
        str(case),
        f"{naive:.2f}",
        f"{truncated:.2f}",
        f"{ours:.3f}",
        *ratios,
        target,
        f"{gap:.0e}",
    )


def saved_line(model: nn.Module, dataset: str) -> tuple[str, ...]:
    """What autograd keeps for the backward pass: counted, so it is the same on any machine."""
    names = read_spec(dataset).class_names
    prompts = prompts_of(model, Case(dataset))
    ctx = start(prompts).requires_grad_()

    def naive_mb(features: Features) -> float:
        parts = [names[i : i + CHUNK] for i in range(0, len(names), CHUNK)]
        return sum(
            naive_clip.saved_mb(lambda n=part: features(model, n, ctx, "end"), model)
            for part in parts
        )

    naive, truncated = naive_mb(naive_clip.text_features), naive_mb(naive_clip.truncated_features)
    ours = naive_clip.saved_mb(lambda: prompts.encode(ctx), model)
    mb = [f"{naive:.0f}", f"{truncated:.0f}", f"{ours:.0f}"]
    return (
        f"saved for backward, {len(names)} classes",
        *mb,
        f"1/{naive / ours:.1f} of naive (at most 1/15)",
    )


def peak_line(title: str, budget_mb: float | None, limit_gb: float) -> tuple[str, ...]:
    """Growth of a fresh process over one training step on ImageNet's 1000 classes."""
    command = [sys.executable, "-m", "benches.prompting", "--peak", str(budget_mb or 0)]
    figures = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]
    ).stdout.split()
    grown, whole, chunks = float(figures[-3]), float(figures[-2]), figures[-1]
    holds = "yes" if grown <= 1024 * limit_gb else "NO"
    return (
        title,
        "",
        "",
        f"{grown:.0f}",
        f"{chunks} chunk(s); process {whole:.0f}; at most {limit_gb:g} GB: {holds}",
    )


def report_peak(budget_mb: float | None) -> None:
    """Runs in the fresh process: MiB grown over the step, MiB of the whole process, number of
    chunks.
    """
    prompts = prompts_of(true_shapes("cpu"), Case("imagenet"), budget_mb)
    step = step_of(prompts.encode, start(prompts), len(read_spec("imagenet").class_names))
    # building the model may have taken more: forget that peak
    Path("/proc/self/clear_refs").write_text("5")
    before_mb = resident_mb("VmRSS")
    step()
    peak_mb = resident_mb("VmHWM")
    print(peak_mb - before_mb, peak_mb, len(prompts.encoder.plan(1, keep_fixed=True).chunks))


def resident_mb(field: str) -> float:
    """VmRSS: what the process holds now; VmHWM: the most it held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def native_bfloat16() -> str:
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    instructions = [flag for flag in ("amx_bf16", "avx512_bf16") if flag in flags]
    return f"native bfloat16: {', '.join(instructions) or 'none'}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="eurosat and dtd only, under two minutes"
    )
    parser.add_argument(
        "--sets", help="datasets to time, comma-separated (default: all in the table)"
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=5,
        help=f"measured rounds; {ROUNDS_OF_LARGE} beyond 150 classes",
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--device", default="cpu", help="cpu (processor seconds) or cuda (seconds on the clock)"
    )
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--peak", type=float, help=argparse.SUPPRESS)
    return parser.parse_args()


def time_table(given: argparse.Namespace, model: nn.Module) -> Table:
    heads = (
        *("classes", "prompts", "naive s", "trunc. s", "ours s", "trunc. gains"),
        *("ours over trunc.", "ours over naive", "target", "grad. gap"),
    )
    table = Table(*heads, title=f"CoOp step, text side; {machine()}, {native_bfloat16()}")
    sets = list(dict.fromkeys(case.dataset for case in CASES))
    if given.sets or given.quick:
        sets = given.sets.split(",") if given.sets else ["eurosat", "dtd"]
    for dataset in sets:
        cases = [case for case in CASES if case.dataset == dataset]
        for row in measured(model, dataset, cases, 3 if given.quick else given.rounds):
            table.add_row(*row)
    return table


def memory_table(model: nn.Module, dataset: str) -> Table:
    table = Table("memory, MiB", "naive", "truncated", "ours", "", title="Memory of one step")
    table.add_row(*saved_line(model, dataset))
    table.add_row(*peak_line("peak of a step, 1000 classes", None, 2.5))
    table.add_row(*peak_line("peak of a step, 1000 classes, budget_mb=500", 500, 1.0))
    return table


def main() -> None:
    given = arguments()
    torch.set_num_threads(given.threads)
    if given.peak is not None:
        report_peak(given.peak or None)
        return
    console, model = Console(width=170), true_shapes(given.device)
    console.print(time_table(given, model))
    if not given.no_memory:
        console.print(memory_table(model, "dtd" if given.quick else "sun397"))


if __name__ == "__main__":
    main()
