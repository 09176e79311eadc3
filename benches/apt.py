"""APT against the exact prompt tuning it approximates. `python -m benches.apt [--quick]`

Shapes of ViT-B/16 with random weights, float32, image tower only, nothing downloaded. A step is
what a method does with a batch once its inputs are there: forward, cross-entropy, backward, AdamW,
by the adapters' own training loop, in alternation. How far the approximation is from exact prompt
attention is measured on attention inputs of the tiny CLIP with its trained weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import open_clip
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from adapters import _blocks, _in_the_loop, _optimisers, _rows, apt
from adapters._settings import Adam, TowerTraining
from benches.timing import Timing, alternate, machine
from benchmark.api import Episode, ImageSet, Labelled, unit
from benchmark.backbones import clip
from benchmark.backbones.clip import OpenClip
from benchmark.compute import macs

CLASSES, RANK = 100, 4
TRAINING, ADAM = TowerTraining(epochs="1", batch_size=8), Adam(beta2=0.98)
LENGTHS = (1, 4, 16, 64, 200)


@cache
def true_shapes() -> OpenClip:
    return clip.from_model(
        open_clip.create_model("ViT-B-16-quickgelu", pretrained=None), "ViT-B/16 shapes"
    )


def noise_images(count: int, image_px: int) -> ImageSet:
    pixels_NCHW = torch.randn(
        count, 3, image_px, image_px, generator=torch.Generator().manual_seed(0)
    )
    return ImageSet(
        count, lambda views: torch.zeros(count, 1), lambda index_N, crop, rng: pixels_NCHW[index_N]
    )


def problem(backbone: OpenClip, images: int) -> Episode:
    rng = torch.Generator().manual_seed(1)
    support = Labelled(
        noise_images(images, backbone.preprocessing.height), torch.arange(images) % CLASSES
    )
    text_KD = unit(torch.randn(CLASSES, 512, generator=rng))
    return Episode(
        "noise",
        tuple(f"class {k}" for k in range(CLASSES)),
        ("{}",),
        support,
        None,
        backbone,
        1,
        text_KD=text_KD,
    )


def apt_changes(parts: Mapping[str, Tensor], first: int) -> _blocks.Changes:
    return _blocks.Changes(side=apt.side_term(parts, first))


def vpt_changes(parts: Mapping[str, Tensor], first: int) -> _blocks.Changes:
    return _rows.Rows(parts["prompt_JTE"], first).changes()


def started(method: str, touched: int, n_prompts: int) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(2)
    parts = apt.modules(true_shapes(), touched, n_prompts, 768, RANK, 0.02, gated=True, rng=rng)
    return parts if method == "apt" else {"prompt_JTE": parts["prompt_JTE"]}


def step(
    method: str, given: Episode, x_BLE: Tensor, first: int, n_prompts: int, *, frozen: int = 0
) -> Callable[[], object]:
    """One training step of `method` in the blocks from `first` on; the `frozen` ones below are run
    anew where they were not kept.
    """
    tower = given.backbone.vision
    changes_of = apt_changes if method == "apt" else vpt_changes
    rows_B = torch.arange(len(x_BLE))

    def read(rows_B: Tensor) -> Tensor:
        x = x_BLE
        with torch.no_grad():
            for block in tower.blocks[first - frozen : first]:
                x = block(x)
        return x

    def logits_of(parts: Mapping[str, Tensor], x: Tensor, step: Tensor) -> Tensor:
        return (
            100
            * _blocks.image_features(tower, first, x, changes_of(parts, first))
            @ given.text_features().T
        )

    start = started(method, len(tower.blocks) - first, n_prompts)
    rate_T = _in_the_loop.rates(TRAINING.lr, TRAINING.warmup, 1)
    schedule = _in_the_loop.Schedule(rows_B[None], rate_T)
    loss_of = _in_the_loop.cross_entropy(logits_of)
    run = _in_the_loop.Run(given, schedule, start, read, loss_of)
    optimiser = _optimisers.adamw(ADAM, TRAINING.weight_decay)
    return lambda: _in_the_loop.learn([run], tower, optimiser)


def step_times(batch: int, rounds: int) -> dict[str, Timing]:
    """Processor and clock seconds of a step, all variants in alternation."""
    given = problem(true_shapes(), batch)
    tower = given.backbone.vision
    pixels = given.support.images.decode(torch.arange(batch), None, None)
    bottom, middle = _blocks.below(tower, 0, pixels), _blocks.below(tower, 6, pixels)
    make = partial(step, given=given)
    variants = {
        f"{name} T={length}": make(name, x_BLE=bottom, first=0, n_prompts=length)
        for length in (16, 200)
        for name in ("apt", "vpt")
    }
    for name in ("apt", "vpt"):
        variants[f"{name} T=16, blocks 6-11, kept"] = make(
            name, x_BLE=middle, first=6, n_prompts=16
        )
        variants[f"{name} T=16, blocks 6-11, not kept"] = make(
            name, x_BLE=bottom, first=6, n_prompts=16, frozen=6
        )
    return alternate(variants, rounds)


def added(method: str, n_prompts: int) -> int:
    """Multiply-accumulates per image beyond the frozen tower, the class products left out."""
    backbone = true_shapes()
    given = problem(backbone, 2)
    changes = (apt_changes if method == "apt" else vpt_changes)(started(method, 12, n_prompts), 0)
    predict = _blocks.predictor(backbone.vision, 0, changes, given.text_features(), 100.0)
    counted = macs.added_macs(predict, given.support.images, backbone)
    assert counted is not None
    return counted - CLASSES * 512


# The approximation itself


@dataclass(frozen=True)
class Gap:
    """Errors relative to what exact prompts change; 1 is no better than no prompts."""

    n_prompts: int
    same_prompts: float  # the module on the exact prompts, its two scalars at their best
    fitted: float  # all its parameters fitted to the exact outputs, on images it is not judged by
    # spread of the factor that the module's one scalar stands for: standard deviation over mean
    shrinkage: float


def exact(block: Any, x_NLE: Tensor, prompt_TE: Tensor) -> Tensor:
    """Attention output of the tokens when they see the prompts as well."""
    h_NLE = block.ln_1(torch.cat([x_NLE, prompt_TE.expand(len(x_NLE), -1, -1)], dim=1))
    return block.attn(h_NLE[:, : x_NLE.shape[1]], h_NLE, h_NLE, need_weights=False)[0]


def share_of_tokens(block: Any, x_NLE: Tensor, prompt_TE: Tensor) -> Tensor:
    """lambda: the share of the softmax that stays with the tokens, per head and token."""
    h_NLE = block.ln_1(torch.cat([x_NLE, prompt_TE.expand(len(x_NLE), -1, -1)], dim=1))
    _, weights_NHLL = block.attn(
        h_NLE[:, : x_NLE.shape[1]], h_NLE, h_NLE, average_attn_weights=False
    )
    return weights_NHLL[..., : x_NLE.shape[1]].sum(-1)


def relative(error: Tensor, change: Tensor) -> float:
    return float(error.norm() / change.norm())


def best_scalars(target: Tensor, attn: Tensor, term: Tensor) -> Tensor:
    """What is left of `target` after a attn + b term with the best a and b."""
    both = torch.stack([attn.flatten(), term.flatten()], dim=1).double()
    solved = torch.linalg.lstsq(both, target.flatten().double()[:, None]).solution
    return target - (both @ solved).float().view(target.shape)


def gap_at(block: Any, x_NLE: Tensor, n_prompts: int, steps: int) -> Gap:
    """Prompts with the mean and spread per coordinate of this block's tokens."""
    rng = torch.Generator().manual_seed(n_prompts)
    tokens = x_NLE.flatten(0, 1)
    prompt_TE = tokens.mean(0) + tokens.std(0) * torch.randn(
        n_prompts, x_NLE.shape[2], generator=rng
    )
    with torch.no_grad():
        h_NLE = block.ln_1(x_NLE)
        attn, target = (
            block.attn(h_NLE, h_NLE, h_NLE, need_weights=False)[0],
            exact(block, x_NLE, prompt_TE),
        )
        share = share_of_tokens(block, x_NLE, prompt_TE)
        zero = {
            "scale_J": x_NLE.new_zeros(1),
            "down_JRE": x_NLE.new_zeros(1, 1, x_NLE.shape[2]),
            "up_JER": x_NLE.new_zeros(1, x_NLE.shape[2], 1),
        }
        term = apt.side_term(zero | {"prompt_JTE": block.ln_1(prompt_TE)[None]}, 0)(
            0, h_NLE, torch.zeros_like(attn)
        )
    same = relative(best_scalars(target, attn, term), target - attn)
    return Gap(
        n_prompts,
        same,
        _fitted(h_NLE, attn, target, n_prompts, steps),
        float(share.std() / share.mean()),
    )


def _fitted(h_NLE: Tensor, attn: Tensor, target: Tensor, n_prompts: int, steps: int) -> float:
    """Adam on half of the images, judged on the other half."""
    rng, half = torch.Generator().manual_seed(0), len(h_NLE) // 2
    width = h_NLE.shape[2]
    parts = apt.modules(true_shapes(), 1, n_prompts, width, RANK, 0.02, gated=True, rng=rng)
    leaves = {name: part.to(h_NLE).requires_grad_() for name, part in parts.items()}
    adam = torch.optim.Adam(list(leaves.values()), lr=0.01)
    for _ in range(steps):
        adam.zero_grad()
        (
            apt.side_term(leaves, 0)(0, h_NLE[:half], attn[:half]) - target[:half]
        ).square().mean().backward()
        adam.step()
    with torch.no_grad():
        return relative(
            apt.side_term(leaves, 0)(0, h_NLE[half:], attn[half:]) - target[half:],
            target[half:] - attn[half:],
        )


def gaps(images: int, steps: int) -> list[Gap]:
    """Means over the blocks of the tiny CLIP, on its own test pictures."""
    from benchmark.compute.episode import problem
    from benchmark.compute.resources import Resources
    from benchmark.grid import Cell

    given = problem(
        Resources(), Cell(method="apt", dataset="tiny_textures", shots=1, seed=1, backbone="tiny")
    )
    tower = given.episode.backbone.vision
    pixels = given.query.decode(
        torch.arange(0, len(given.query), len(given.query) // images)[:images], None, None
    )
    inputs = [_blocks.below(tower, layer, pixels) for layer in range(len(tower.blocks))]
    gaps = []
    for length in LENGTHS:
        each = [
            gap_at(block, x_NLE, length, steps)
            for block, x_NLE in zip(tower.blocks, inputs, strict=True)
        ]
        mean = [
            sum(values) / len(each)
            for values in zip(*((g.same_prompts, g.fitted, g.shrinkage) for g in each), strict=True)
        ]
        gaps.append(Gap(length, *mean))
    return gaps


def step_table(batch: int, rounds: int) -> Table:
    times = step_times(batch, rounds)
    table = Table(
        *("step", "processor s", "clock s", "to deep VPT / to all blocks"),
        title=f"{batch} images, ViT-B/16 shapes; {machine()}",
    )
    for name, timing in times.items():
        other = name.replace("apt", "vpt") if ", blocks" not in name else name.split(",")[0]
        ratio = timing.cpu_s / times[other].cpu_s
        table.add_row(name, f"{timing.cpu_s:.2f}", f"{timing.wall_s:.2f}", f"{ratio:.2f}")
    return table


def mac_table() -> Table:
    table = Table(
        *("T", "APT, MMAC", "deep VPT, MMAC", "ratio"),
        title="Added computation per image at prediction, ViT-B/16",
    )
    for length in (4, 16, 50, 200):
        ours, exact = added("apt", length), added("vpt", length)
        table.add_row(str(length), f"{ours / 1e6:.1f}", f"{exact / 1e6:.1f}", f"{ours / exact:.3f}")
    return table


def gap_table(images: int, steps: int) -> Table:
    table = Table(
        *("T", "same prompts", "fitted", "spread of lambda"),
        title="Distance to exact prompt attention, share of what prompts change",
    )
    for gap in gaps(images, steps):
        figures = (gap.same_prompts, gap.fitted, gap.shrinkage)
        table.add_row(str(gap.n_prompts), *(f"{figure:.2f}" for figure in figures))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two images a step, two rounds")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    console = Console(width=150)
    console.print(step_table(2, 2) if given.quick else step_table(8, 5))
    console.print(mac_table())
    console.print(gap_table(16, 50) if given.quick else gap_table(64, 300))


if __name__ == "__main__":
    main()
