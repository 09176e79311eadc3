"""The cache model: alpha x beta search in one pass, and fine-tuning from stored views. `python -m
benches.cache [--quick]`

Naive search: Tip-Adapter's double loop as it stands in its description, affinity, exponential,
product with one-hot values and top-1 anew for every pair. Naive fine-tuning: the same steps, with
the images of every epoch sent through the encoder again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from adapters import _cache
from adapters._settings import CacheModel
from benches.timing import Timing, alternate, machine, once
from benchmark.api import Crop, Episode, ImageSet, Labelled, unit

CLASSES, SHOTS, VAL, DIM = 100, 16, 1649, 512  # Caltech101's validation split; ViT-B/16's width
ALPHAS = [0.1 + i * 4.9 / 20 for i in range(20)]
BETAS = [0.1 + i * 11.9 / 200 for i in range(200)]


def clustered(count: int, centre_KD: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Features around class centres, hard enough that the pairs of a grid differ."""
    labels_N = torch.arange(count) % len(centre_KD)
    return unit(
        centre_KD[labels_N] + 0.09 * torch.randn(count, centre_KD.shape[1], generator=rng)
    ), labels_N


def problem() -> tuple[_cache.Cache, Labelled]:
    rng = torch.Generator().manual_seed(0)
    centre_KD = unit(torch.randn(CLASSES, DIM, generator=rng))
    support_ND, labels_N = clustered(CLASSES * SHOTS, centre_KD, rng)
    val_ND, val_labels_N = clustered(VAL, centre_KD, rng)
    text_KD = unit(centre_KD + 0.1 * torch.randn(CLASSES, DIM, generator=rng))
    episode = Episode.from_features(
        class_names=[f"class {k}" for k in range(CLASSES)],
        text_KD=text_KD,
        support_ND=support_ND,
        support_labels_N=labels_N,
    )
    cache = _cache.build(episode, text_KD, CacheModel(key_views=1))
    return cache, Labelled(ImageSet.from_features(val_ND), val_labels_N)


def naive_counts(cache: _cache.Cache, val: Labelled, pairs: list[tuple[float, float]]) -> list[int]:
    """Correct images for every pair, each from scratch."""
    key_ND, value_NK = cache.key_KJD.flatten(0, 1), torch.eye(CLASSES).repeat_interleave(SHOTS, 0)
    image_ND = val.images.features()
    counts = []
    for alpha, beta in pairs:
        affinity_NN = image_ND @ key_ND.T
        cache_NK = torch.exp(-beta * (1 - affinity_NN)) @ value_NK
        logits_NK = cache.scale * image_ND @ cache.text_KD.T + alpha * cache_NK
        counts.append(int((logits_NK.topk(1, 1).indices[:, 0] == val.labels_N).sum()))
    return counts


def search_rows(every_pair: bool) -> list[tuple[str, ...]]:
    """Time of both, and in how many grid points their counts differ."""
    cache, val = problem()
    pairs = [(alpha, beta) for alpha in ALPHAS for beta in BETAS]
    timed = pairs[:: len(pairs) // 40][:40]
    times = alternate(
        {
            "naive": lambda: naive_counts(cache, val, timed),
            "ours": lambda: _cache.correct(cache, val, ALPHAS, BETAS),
        },
        3,
    )
    whole = Timing(
        times["naive"].wall_s * len(pairs) / len(timed),
        times["naive"].cpu_s * len(pairs) / len(timed),
    )
    ours_AB = _cache.correct(cache, val, ALPHAS, BETAS).flatten().tolist()
    compared = range(len(pairs)) if every_pair else range(0, len(pairs), len(pairs) // 200)
    naive = naive_counts(cache, val, [pairs[i] for i in compared])
    differ = [abs(ours_AB[i] - count) for i, count in zip(compared, naive, strict=True)]
    winner = "same" if max(naive) == max(ours_AB[i] for i in compared) else "another"
    agreement = (
        f"{sum(map(bool, differ))} of {len(differ)} points differ, by at most {max(differ)}; "
        f"best count {winner}"
    )
    scale = f"{len(timed)} timed, x{len(pairs) // len(timed)}"
    return [
        row(
            f"search, {len(BETAS)} x {len(ALPHAS)} pairs ({scale})",
            whole,
            times["ours"],
            agreement,
        )
    ]


def row(what: str, naive: Timing, ours: Timing, note: str) -> tuple[str, ...]:
    ratio = f"{naive.cpu_s / ours.cpu_s:.0f}x (clock {naive.wall_s / ours.wall_s:.0f}x)"
    return what, f"{naive.cpu_s:.2f} s", f"{ours.cpu_s:.3f} s", ratio, note


def tuned_keys(
    cache: _cache.Cache, view_of: Callable[[int], Tensor], labels_N: Tensor, steps: int
) -> Tensor:
    """Keys after `steps` of torch's own AdamW, one full batch a step; `view_of(step)` gives
    image_ND.
    """
    key_KJD = cache.key_KJD.clone().requires_grad_()
    optimiser = torch.optim.AdamW([key_KJD], lr=1e-3, eps=1e-4)
    for step in range(steps):
        model = _cache.Cache(key_KJD, cache.shift_KJ, cache.text_KD, cache.scale)
        loss = F.cross_entropy(_cache.logits(model, view_of(step), 1.17, 1.0), labels_N)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return key_KJD.detach()


def tuning_rows() -> list[tuple[str, ...]]:
    """30 steps with the tiny CLIP, views stored against views encoded at every step."""
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from benchmark.compute.resources import Resources
    from benchmark.features.feature_store import Stopwatch, open_store
    from benchmark.features.image_sets import image_set

    resources = Resources()
    table = resources.dataset("tiny_digits").train.take(range(160))
    crop, steps, views = Crop(0.5), 30, 10
    with TemporaryDirectory() as folder:
        images = image_set(table, resources.encoder("tiny"), open_store(Path(folder)), Stopwatch())
        once_s = once(lambda: images.views(views, 1, crop))
        view_VND, labels_N = images.views(views, 1, crop), torch.tensor(table.labels)
    text_KD, key_SD = torch.eye(10, view_VND.shape[2]), unit(view_VND.mean(0))
    episode = Episode.from_features(
        class_names=list("0123456789"),
        text_KD=text_KD,
        support_ND=key_SD,
        support_labels_N=labels_N,
    )
    cache = _cache.build(episode, text_KD, CacheModel(key_views=1))

    def encoded_again(step: int) -> Tensor:
        with TemporaryDirectory() as folder:
            fresh = image_set(
                table, resources.encoder("tiny"), open_store(Path(folder)), Stopwatch()
            )
            return fresh.views(views, 1, crop)[step % views]

    def stored() -> Tensor:
        return tuned_keys(cache, lambda step: view_VND[step % views], labels_N, steps)

    def again() -> Tensor:
        return tuned_keys(cache, encoded_again, labels_N, steps)

    apart = float((stored() - again()).abs().max())
    times = alternate({"naive": again, "ours": stored}, 1, warm=0)
    # the naive loop needs one view a step, not ten
    per_view = Timing(times["naive"].wall_s / views, times["naive"].cpu_s / views)
    note = (
        f"largest difference of a weight {apart:.1e}; "
        f"encoding all {views} views once: {once_s.cpu_s:.2f} s"
    )
    return [
        row(f"fine-tuning, {steps} steps, tiny CLIP, 160 images", per_view, times["ours"], note)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="compare 200 grid points instead of all 4000"
    )
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    table = Table(
        "what",
        "naive",
        "ours",
        "ratio",
        "agreement",
        title=f"Cache model, processor seconds; {machine()}",
    )
    for line in search_rows(not given.quick) + tuning_rows():
        table.add_row(*line)
    Console(width=180).print(table)


if __name__ == "__main__":
    main()
