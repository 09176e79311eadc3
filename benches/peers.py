"""Methods that read features only: how long a fit takes. `python -m benches.peers [--quick]`

100 classes x 16 shots x 512 dimensions, features given, a validation set of 4 per class; TIMO with
20 sentences per class, ProLIP with a projection from 768 dimensions. ProKeR with ten views per
image solves for 16,000 samples. Memory is the process's at its largest during the fit, less what
was there before. The features of all views are equal here, which changes no time. Names of methods
measure those alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benches.cones import problem
from benches.timing import machine, once
from benchmark import methods
from benchmark.api import Crop, Episode, ImageSet, Labelled, unit
from benchmark.compute.peak_memory import peak_mb, reset

SHOTS, MOST_S, SENTENCES, WIDTH = 16, 2.0, 20, 768
QUICK = ("gda", "ss_text", "ape", "tip_adapter_vote")
# method -> seconds it may take where that is not MOST_S
METHODS = {
    **dict.fromkeys((*QUICK, "timo", "lp_plus_plus", "clip_adapter"), MOST_S),
    **dict.fromkeys(("linear_adapter", "prolip", "cross_modal_probe", "ape_t"), MOST_S),
    "proker": 10.0,
}


def with_sentences(episode: Episode) -> Episode:
    rng, text_KD = torch.Generator().manual_seed(3), episode.text_features()
    noise_KTD = 0.03 * torch.randn(len(text_KD), SENTENCES, text_KD.shape[1], generator=rng)
    return replace(episode, text_KTD=tuple(unit(text_KD[:, None] + noise_KTD)))


@dataclass(frozen=True)
class Projected:
    """The episode's backbone, with a projection."""

    whole: Any
    projection: tuple[Tensor, None]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)


def with_projection(episode: Episode) -> Episode:
    weight_WD = torch.randn(WIDTH, episode.backbone.dim, generator=torch.Generator().manual_seed(4))
    image_NW = episode.support.images.features() @ torch.linalg.pinv(weight_WD)

    def unprojected(views: tuple[int, int, Crop] | None) -> Tensor:
        return image_NW if views is None else image_NW.expand(views[0], -1, -1)

    images: ImageSet = replace(episode.support.images, encode_unprojected=unprojected)
    support = Labelled(images, episode.support.labels_N)
    backbone: Any = Projected(episode.backbone, (weight_WD, None))
    return replace(episode, support=support, backbone=backbone)


MADE: dict[str, Callable[[Episode], Episode]] = {"timo": with_sentences, "prolip": with_projection}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("methods", nargs="*", metavar="METHOD", help="[default: all]")
    parser.add_argument("--quick", action="store_true", help="the fastest methods only")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    table = Table("method", "clock s", "processor s", "wanted s", "further MB", title=machine())
    methods.load("gda").fit(problem(1, 1))  # libraries load
    for name in given.methods or (QUICK if given.quick else METHODS):
        adapter, wanted_s = methods.load(name), METHODS.get(name, MOST_S)
        episode = MADE.get(name, lambda episode: episode)(problem(SHOTS, 1))
        reset("cpu")
        before = peak_mb("cpu")
        timing = once(lambda adapter=adapter, episode=episode: adapter.fit(episode))
        seconds = f"{timing.wall_s:.2f}", f"{timing.cpu_s:.2f}", f"{wanted_s:.0f}"
        table.add_row(name, *seconds, f"{peak_mb('cpu') - before:,.0f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
