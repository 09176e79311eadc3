"""A toy CLIP and few-shot episodes for it: two layers, 16-pixel images, nothing downloaded.

It is a genuine open_clip model with random weights from a seed, so its two towers do not agree on
anything. The toy problem ties them together: its classes are patterns of pixels, found by gradient
ascent, whose features lie near the text features of a hidden prompt. A method that learns the
prompt can solve it, a method that compares images can solve it, and zero-shot cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from benchmark.api import Crop, Episode, ImageSet, Labelled, State, unit
from benchmark.backbones.clip import OpenClip, from_model

IMAGE_PX = 16
NAMES = ("cat", "dog", "old car", "tree", "house_plant", "boat")
TEMPLATES = ("a photo of a {}.",)

PerClass = int | Sequence[int]  # images of every class, or of each


@cache
def backbone() -> OpenClip:
    """The toy CLIP, shared by all episodes of a process."""
    return build()


def build() -> OpenClip:
    """A fresh toy CLIP; its weights are always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = open_clip.CLIP(
            embed_dim=16,
            vision_cfg={
                "image_size": IMAGE_PX,
                "layers": 2,
                "width": 32,
                "patch_size": 8,
                "head_width": 16,
            },
            text_cfg={
                "context_length": 32,
                "vocab_size": 49408,
                "width": 32,
                "heads": 2,
                "layers": 2,
            },
        )
        _enlarge_weights(model)
    return from_model(model, "toy")


def _enlarge_weights(model: Any) -> None:
    """Larger weights and biases: with open_clip's initial ones a class name hardly changes the
    text feature, so a test on them would see nothing.
    """
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.normal_(std=0.1)
            elif name.startswith("transformer.") and weight.ndim == 2:
                weight.normal_(std=0.25)
            elif name == "token_embedding.weight":
                weight.normal_()
        model.logit_scale.fill_(3.0)


@cache
def patterns(classes: int) -> Tensor:
    """pixels_KCHW whose features lie near the classes' text features under a hidden prompt."""
    model, rng = backbone(), torch.Generator().manual_seed(3)
    hidden_PE = 0.3 * torch.randn(4, model.text.width, generator=rng)
    with torch.no_grad():
        text_KD = model.class_prompts(NAMES[:classes], 4).encode(hidden_PE)
    pixels_KCHW = torch.randn(classes, 3, IMAGE_PX, IMAGE_PX, generator=rng).requires_grad_()
    optimiser = torch.optim.Adam([pixels_KCHW], lr=0.1)
    for _ in range(60):
        logits_KK = 100 * model.encode_pixels(pixels_KCHW) @ text_KD.T
        optimiser.zero_grad()
        F.cross_entropy(logits_KK, torch.arange(classes)).backward()
        optimiser.step()
    return pixels_KCHW.detach()


def image_set(pixels_NCHW: Tensor) -> ImageSet:
    """Images with the given pixels and the toy CLIP's features of them."""

    def decode(index_N: Tensor, crop: Crop | None, seeds: Sequence[int] | None) -> Tensor:
        picked_NCHW = pixels_NCHW[index_N]
        if crop is None or seeds is None:
            return picked_NCHW
        rngs = [torch.Generator().manual_seed(seed) for seed in seeds]
        pairs = zip(picked_NCHW, rngs, strict=True)
        return torch.stack([_jitter(pixels_CHW, crop, rng) for pixels_CHW, rng in pairs])

    @torch.no_grad()
    def encode(
        views: tuple[int, int, Crop] | None,
        of: Callable[[OpenClip, Tensor], Tensor] = OpenClip.encode_pixels,
    ) -> Tensor:
        encoded = partial(of, backbone())
        if views is None:
            return encoded(pixels_NCHW)
        count, seed, crop = views
        rngs = [torch.Generator().manual_seed(1000 * seed + view) for view in range(count)]
        return torch.stack([encoded(_jitter(pixels_NCHW, crop, rng)) for rng in rngs])

    kinds = (OpenClip.encode_unprojected, OpenClip.encode_local)
    return ImageSet(len(pixels_NCHW), encode, decode, *(partial(encode, of=of) for of in kinds))


def join(*sets: ImageSet) -> ImageSet:
    """The images of several sets, one after the other."""
    return image_set(torch.cat([pixels_NCHW for each in sets for pixels_NCHW in each.pixels(64)]))


def _jitter(pixels_NCHW: Tensor, crop: Crop, rng: Generator) -> Tensor:
    """In place of a random crop: noise on every pixel, the more the smaller a crop may be."""
    return pixels_NCHW + 0.2 * (1 - crop.min_scale) * torch.randn(pixels_NCHW.shape, generator=rng)


def labelled(per_class: PerClass, classes: int, seed: int, noise: float = 0.3) -> Labelled:
    """`per_class` noisy copies of each class's pattern, in label order."""
    rng = torch.Generator().manual_seed(seed)
    count_K = torch.tensor(per_class).expand(classes)
    labels_N = torch.arange(classes).repeat_interleave(count_K)
    pixels_NCHW = patterns(classes)[labels_N] + noise * torch.randn(
        len(labels_N), 3, IMAGE_PX, IMAGE_PX, generator=rng
    )
    return Labelled(image_set(pixels_NCHW), labels_N)


def held_out(classes: int = 3, per_class: int = 10) -> Labelled:
    """Images that are in no episode, with their labels."""
    return labelled(per_class, classes, 999)


def episode(
    shots: PerClass = 4,
    classes: int = 3,
    *,
    val: bool = True,
    seed: int = 1,
    prior: State | None = None,
    names: Sequence[str] = NAMES,
) -> Episode:
    """A few-shot problem of the toy CLIP, with pixels."""
    return Episode(
        dataset="toy",
        class_names=tuple(names[:classes]),
        templates=TEMPLATES,
        support=labelled(shots, classes, 10 * seed),
        val=labelled(_at_most_four(shots), classes, 10 * seed + 1) if val else None,
        backbone=backbone(),
        seed=seed,
        prior=prior,
    )


def _at_most_four(shots: PerClass) -> PerClass:
    return min(shots, 4) if isinstance(shots, int) else [min(count, 4) for count in shots]


def feature_episode(
    shots: int = 4,
    classes: int = 3,
    dim: int = 16,
    *,
    val: bool = True,
    seed: int = 1,
    spread: float = 0.1,
    text_error: float = 0.5,
) -> Episode:
    """An episode of plain features: one cluster per class, its members at a standard deviation of
    `spread`, and text features at `text_error` from the centres.
    """
    centre_KD = _centres(classes, dim)
    rng = torch.Generator().manual_seed(seed)

    def cluster(count: int) -> tuple[Tensor, Tensor]:
        labels_N = torch.arange(classes).repeat_interleave(count)
        return centre_KD[labels_N] + spread * torch.randn(
            len(labels_N), dim, generator=rng
        ), labels_N

    (support_ND, support_labels_N), (val_ND, val_labels_N) = cluster(shots), cluster(min(shots, 4))
    return Episode.from_features(
        class_names=[f"class {k}" for k in range(classes)],
        text_KD=centre_KD + text_error * torch.randn(classes, dim, generator=rng),
        support_ND=support_ND,
        support_labels_N=support_labels_N,
        val_ND=val_ND if val else None,
        val_labels_N=val_labels_N if val else None,
        seed=seed,
    )


def _centres(classes: int, dim: int) -> Tensor:
    return unit(torch.randn(classes, dim, generator=torch.Generator().manual_seed(5)))


def accuracy(logits_QK: Tensor, labels_Q: Tensor) -> float:
    """The share of images whose largest logit is that of their label."""
    return float((logits_QK.argmax(1) == labels_Q).float().mean())
