"""Whole cells, reference-style against ours. `python -m benches.cells [--quick]`

Reference style is what the field's code does: every step draws fresh crops, sends them through the
image encoder and pushes 77 tokens per class through the text tower (testbed/naive_clip.py), one run
at a time; alpha and beta are searched by a double loop. Ours is what `run` does: views encoded
once, prompts over shared tokens. On the tiny CLIP our cell is run whole and the reference from
timed steps; at the shapes of ViT-B/16 (random weights) both are measured units times the same
counts, with what encoding the views costs beside them, since that is where the rest of the time is.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benches.timing import alternate, machine, once
from benchmark import data, methods
from benchmark.api import Crop, Episode
from benchmark.backbones import clip
from benchmark.compute.episode import problem, source_episode
from benchmark.compute.resources import Resources
from benchmark.features.feature_store import open_store
from benchmark.grid import Cell
from testbed import naive_clip

M, BATCH, VIEWS = 16, 32, 16


@dataclass(frozen=True)
class Line:
    """One row of the table; seconds of one core."""

    what: str
    reference_s: float
    ours_s: float
    of_which_views_s: float

    def texts(self) -> list[str]:
        without = self.reference_s / max(self.ours_s - self.of_which_views_s, 1e-9)
        ratio = f"{self.reference_s / self.ours_s:.1f}x ({without:.0f}x with the views given)"
        return [
            self.what,
            f"{self.reference_s:,.1f} s",
            f"{self.ours_s:,.1f} s",
            f"{self.of_which_views_s:,.1f} s",
            ratio,
        ]


def reference_step(episode: Episode, position: str) -> Callable[[], Tensor]:
    """One step of the released code: crops, image encoder, whole prompts, backward, SGD."""
    backbone, rng = episode.backbone, episode.rng()
    ctx_PE = (0.02 * torch.randn(M, backbone.text.width, generator=rng)).requires_grad_()
    optimiser = torch.optim.SGD([ctx_PE], lr=2e-3, momentum=0.9, weight_decay=5e-4)

    def step() -> Tensor:
        index_N, labels_N = next(episode.support.batches(BATCH, rng))
        with torch.no_grad():
            image_ND = backbone.encode_pixels(
                episode.support.images.augmented(index_N, rng, Crop())
            )
        text_KD = naive_clip.text_features(backbone.model, episode.class_names, ctx_PE, position)
        loss = F.cross_entropy(backbone.logit_scale * image_ND @ text_KD.T, labels_N)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.detach()

    return step


def steps_of(episode: Episode, epochs: int) -> int:
    return epochs * max(1, len(episode.support) // BATCH)


def timed_steps(step: Callable[[], Tensor], count: int) -> float:
    """Seconds of one step: the median over `count`."""
    return alternate({"step": step}, count, warm=2)["step"].cpu_s


def tiny_lines(shots: int, timed: int) -> list[Line]:
    """CoOp and Prompt-Adapter on tiny_textures with the tiny CLIP."""
    return [coop_line(shots, timed), prompt_adapter_line(shots, timed)]


def whole(cell: Cell, work: Callable[[Resources], None]) -> tuple[float, float]:
    """Seconds of our cell from nothing, test images included, and what of them a second time saves:
    decoding and encoding.
    """
    with tempfile.TemporaryDirectory() as folder:
        resources = Resources(features=open_store(Path(folder)))
        resources.backbone(cell.backbone)
        first, second = once(lambda: work(resources)), once(lambda: work(resources))
    return first.cpu_s, first.cpu_s - second.cpu_s


def coop_line(shots: int, timed: int) -> Line:
    cell = Cell(method="coop", dataset="tiny_textures", shots=shots, seed=1, backbone="tiny")
    adapter = methods.load("coop")

    def ours(resources: Resources) -> None:
        given = problem(resources, cell)
        adapter.fit(given.episode)(given.query)

    ours_s, views_s = whole(cell, ours)
    episode = problem(Resources(), cell).episode
    steps = steps_of(episode, {1: 50, 4: 100, 16: 200}[shots])
    reference_s = steps * timed_steps(reference_step(episode, "end"), timed)
    return Line(
        f"CoOp, tiny CLIP, 16 classes, {shots} shots, {steps} steps", reference_s, ours_s, views_s
    )


def prompt_adapter_line(shots: int, timed: int) -> Line:
    """Pretraining on two sources, transfer, cache, search; the reference pays the naive step in
    both stages and 10 + 16 passes.
    """
    cell = Cell(
        method="prompt_adapter",
        dataset="tiny_textures",
        shots=shots,
        seed=1,
        backbone="tiny",
        sources=("tiny_digits", "tiny_shapes"),
    )
    adapter = methods.load("prompt_adapter")

    def ours(resources: Resources) -> None:
        prior = adapter.pretrain(
            [source_episode(resources, cell, name, shots) for name in cell.sources]
        )
        given = problem(resources, cell, prior)
        adapter.fit(given.episode)(given.query)

    ours_s, views_s = whole(cell, ours)
    target = problem(Resources(), cell).episode
    sources = [source_episode(Resources(), cell, name, shots) for name in cell.sources]
    source_step_s = sum(
        timed_steps(reference_step(each, "middle"), timed) for each in sources
    ) / len(sources)
    transfer = steps_of(target, {1: 50, 4: 100, 16: 200}[shots])
    pretrain_steps = adapter.source_training.pretrain_steps
    reference_s = pretrain_steps * source_step_s + transfer * timed_steps(
        reference_step(target, "middle"), timed
    )
    return Line(
        f"Prompt-Adapter, tiny CLIP, {shots} shots, {pretrain_steps} + {transfer} steps",
        reference_s,
        ours_s,
        views_s,
    )


def full_size_line(rounds: int) -> Line:
    """CoOp on Caltech101 at 16 shots with ViT-B/16: 200 epochs of 50 batches, 1600 images x 16
    views, from unit costs.
    """
    model = open_clip.create_model("ViT-B-16-quickgelu", pretrained=None)
    backbone = clip.from_model(model, "ViT-B-16 shapes")
    names = data.read_spec("caltech101").class_names
    prompts = backbone.class_prompts(names, M)
    ctx_PE = (0.02 * torch.randn(prompts.ctx_shape)).requires_grad_()
    pixels_NCHW, labels_N = torch.randn(BATCH, 3, 224, 224), torch.arange(BATCH)
    with torch.no_grad():
        image_ND = backbone.encode_pixels(pixels_NCHW)

    def text_step(text_KD: Tensor) -> None:
        loss = F.cross_entropy(100 * image_ND @ text_KD.T, labels_N)
        torch.autograd.grad(loss, ctx_PE)

    def encode() -> None:
        with torch.no_grad():
            backbone.encode_pixels(pixels_NCHW)

    times = alternate(
        {
            "encode": encode,
            "naive": lambda: text_step(naive_clip.text_features(model, names, ctx_PE)),
            "ours": lambda: text_step(prompts.encode(ctx_PE)),
        },
        rounds,
    )
    steps, views = 200 * 50, 1600 * VIEWS
    reference_s = steps * (times["encode"].cpu_s + times["naive"].cpu_s)
    views_s = views / BATCH * times["encode"].cpu_s
    return Line(
        "CoOp, ViT-B/16 shapes, 100 classes, 16 shots, 10,000 steps",
        reference_s,
        steps * times["ours"].cpu_s + views_s,
        views_s,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the tiny CLIP at 1 shot only")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    lines = (
        tiny_lines(1, 10)
        if given.quick
        else [*tiny_lines(1, 20), *tiny_lines(16, 20), full_size_line(given.rounds)]
    )
    table = Table(
        "cell",
        "reference style",
        "ours",
        "of which views",
        "ratio",
        title=f"Whole cells, processor seconds; {machine()}",
    )
    for line in lines:
        table.add_row(*line.texts())
    Console(width=180).print(table)


if __name__ == "__main__":
    main()
