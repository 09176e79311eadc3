"""The toy problem on a device and in a precision, laid out as the harness lays out a cell's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import torch
from torch import Tensor

from benchmark.api import Crop, Episode, ImageSet, Labelled, Predictor
from benchmark.backbones import clip
from benchmark.backbones.clip import OpenClip
from benchmark.conformance import toy


@dataclass(frozen=True)
class Place:
    """Where a toy problem is computed."""

    device: str
    precision: str = "float64"

    def backbone(self) -> OpenClip:
        return _backbone(self.device, self.precision)

    def episode(self, seed: int = 1, shots: int = 4) -> Episode:
        given, model = toy.episode(shots, seed=seed), self.backbone()
        support, val = (
            Labelled(_moved(each.images, model), each.labels_N.to(model.device))
            for each in (given.support, given.val)
            if each is not None
        )
        return replace(given, support=support, val=val, backbone=model)

    def held_out(self) -> ImageSet:
        """Images that are in no episode."""
        return _moved(toy.held_out().images, self.backbone())

    def predicted(self, predict: Predictor) -> Tensor:
        """logits_QK of the held-out images, float64, on the host."""
        with torch.no_grad():
            return predict(self.held_out()).double().cpu()


@cache
def _backbone(device: str, precision: str) -> OpenClip:
    return clip.from_model(toy.build().model.to(device), "toy", precision=precision)


def _moved(images: ImageSet, model: OpenClip) -> ImageSet:
    """Pixels and features on the model's device and in its type."""
    whole_N = torch.arange(len(images))
    centre_NCHW = images.decode(whole_N, None, None).to(model.device, model.dtype)

    def decode(index_N: Tensor, crop: Crop | None, seeds: Sequence[int] | None) -> Tensor:
        if crop is None:
            return centre_NCHW[index_N.to(model.device)]
        return images.decode(index_N, crop, seeds).to(model.device, model.dtype)

    @torch.no_grad()
    def encode(
        views: tuple[int, int, Crop] | None,
        of: Callable[[OpenClip, Tensor], Tensor] = OpenClip.encode_pixels,
    ) -> Tensor:
        if views is None:
            return of(model, centre_NCHW)
        count, seed, crop = views
        seeds = [[1000 * seed + 10 * n + v for n in range(len(images))] for v in range(count)]
        return torch.stack([of(model, decode(whole_N, crop, each)) for each in seeds])

    kinds = (OpenClip.encode_unprojected, OpenClip.encode_local)
    return ImageSet(len(images), encode, decode, *(partial(encode, of=of) for of in kinds))


@dataclass(frozen=True, eq=False)
class Trace:
    """What the steps of some trainings left: loss_TR of each, in order."""

    losses: list[Tensor]

    def watch(self, train: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """`benchmark.training.loop.train`, its losses kept."""

        def watched(*given: object, **named: object) -> Tensor:
            loss_TR = train(*given, **named)
            self.losses.append(loss_TR.double().cpu())
            return loss_TR

        return watched


def first_difference(ours: Trace, theirs: Trace, tolerance: float) -> str:
    """Where the losses of two traces part, in words: training, step, run, and by how much."""
    for number, (a_TR, b_TR) in enumerate(zip(ours.losses, theirs.losses, strict=True)):
        apart_TR = (a_TR - b_TR).abs() / b_TR.abs().clamp_min(1e-30)
        for step, run in (apart_TR > tolerance).nonzero().tolist()[:1]:
            first, last = float(apart_TR[0].max()), float(apart_TR[-1].max())
            return (
                f"losses of training {number} part at step {step} of run {run}: "
                f"{float(a_TR[step, run])!r} and {float(b_TR[step, run])!r}; the first step is "
                f"apart by {first:.1e}, the last by {last:.1e}"
            )
    pairs = zip(ours.losses, theirs.losses, strict=True)
    worst = max((float((a - b).abs().max()) for a, b in pairs if len(a)), default=0.0)
    return f"losses of {len(ours.losses)} trainings agree within {worst:.1e}"
