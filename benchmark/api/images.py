"""Images as a method sees them: counted, encoded and cut, never labelled with what is tested."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor

from benchmark.errors import UserError


@dataclass(frozen=True)
class Crop:
    """A random training view: a resized crop of `min_scale` to all of the area."""

    min_scale: float = 0.08
    flip: bool = True


def _no_projection(*_: object) -> Any:
    raise UserError(
        "this episode was built from features, so what its image tower's projection reads is not "
        "known; use a method that reads features only"
    )


def _no_places(*_: object) -> Any:
    raise UserError(
        "this episode was built from features, so those of single places of its images are not "
        "known; use a method that reads features only"
    )


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images without labels, decoded and encoded only when asked for.

    `encode(None)` gives features image_ND of the centre crop, `encode((count, seed, crop))`
    features image_VND of random views, `decode(index_N, crop, seeds)` pixels_NCHW (the centre crop
    where `crop` is None); `encode_unprojected` is as `encode`, for what the image tower's last
    projection reads, and `encode_local` for its places. The methods below are the interface.
    """

    size: int
    encode: Callable[[tuple[int, int, Crop] | None], Tensor] = field(repr=False)
    decode: Callable[[Tensor, Crop | None, Sequence[int] | None], Tensor] = field(repr=False)
    encode_unprojected: Callable[[tuple[int, int, Crop] | None], Tensor] = field(
        default=_no_projection, repr=False
    )
    encode_local: Callable[[tuple[int, int, Crop] | None], Tensor] = field(
        default=_no_places, repr=False
    )

    def __len__(self) -> int:
        return self.size

    def features(self) -> Tensor:
        """image_ND, unit length, of the centre crop; cached on disk."""
        return self.encode(None)

    def views(self, count: int, seed: int = 0, crop: Crop = Crop()) -> Tensor:
        """image_VND, unit length, of `count` random views each; a view depends on its image and
        `seed` alone; cached.
        """
        return self.encode((count, seed, crop))

    def unprojected(self) -> Tensor:
        """image_NW of the centre crop, of any length: what `Backbone.projection` reads; cached."""
        return self.encode_unprojected(None)

    def unprojected_views(self, count: int, seed: int = 0, crop: Crop = Crop()) -> Tensor:
        """image_VNW of the same random views as `views`; cached."""
        return self.encode_unprojected((count, seed, crop))

    def local(self) -> Tensor:
        """image_NPD, unit length, of the P places of the image tower's grid, of the centre crop;
        cached in float16 and handed out so, or in float64 where the backbone computes in that.

        49 places in RN50, 196 in ViT-B/16: so many times the memory of `features`. The test images
        of ImageNet take 5 GB (RN50) and 10 GB (ViT-B/16).
        """
        return self.encode_local(None)

    def local_views(self, count: int, seed: int = 0, crop: Crop = Crop()) -> Tensor:
        """image_VNPD of the same random views as `views`; cached, in the type of `local`."""
        return self.encode_local((count, seed, crop))

    def pixels(self, batch_size: int) -> Iterator[Tensor]:
        """pixels_NCHW of the centre crops, in order."""
        for index_N in torch.arange(self.size).split(batch_size):
            yield self.decode(index_N, None, None)

    def augmented(self, index_N: Tensor, rng: Generator, crop: Crop = Crop()) -> Tensor:
        """pixels_NCHW of fresh random views of the chosen images."""
        seeds = torch.randint(2**62, (len(index_N),), generator=rng).tolist()
        return self.decode(index_N, crop, seeds)

    def crops(self, index_N: Tensor, seeds: Sequence[int], crop: Crop = Crop()) -> Tensor:
        """pixels_NCHW of one random view of each chosen image, which depends on the image and its
        seed alone."""
        return self.decode(index_N, crop, seeds)

    @staticmethod
    def from_features(image_ND: Tensor) -> ImageSet:
        """Images known by their features alone: every view is the same and there are no pixels.

        Rows are brought to unit length.
        """
        image_ND = unit(image_ND.detach())

        def encode(views: tuple[int, int, Crop] | None) -> Tensor:
            return image_ND if views is None else image_ND.expand(views[0], -1, -1)

        return ImageSet(len(image_ND), encode, _no_pixels)


def unit(x_ND: Tensor) -> Tensor:
    """Rows brought to unit length, in float32 at least."""
    x_ND = x_ND.to(torch.promote_types(x_ND.dtype, torch.float32))
    return x_ND / x_ND.norm(dim=-1, keepdim=True).clamp_min(1e-12)


def _no_pixels(*_: object) -> Tensor:
    raise UserError(
        "this episode was built from features, so it has no pixels;"
        " use a method that reads features only"
    )


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images and their labels (labels_N, int64 in [0, K)): what a method may learn from."""

    images: ImageSet
    labels_N: Tensor

    def __len__(self) -> int:
        return len(self.labels_N)

    def epoch(self, batch_size: int, rng: Generator) -> Tensor:
        """index_TB: the positions in every batch of one epoch, in random order.

        A short last batch is dropped unless it is the only one, as by Dassl's train loader
        (KaiyangZhou/Dassl.pytorch, `drop_last`).
        """
        order_N = torch.randperm(len(self), generator=rng)
        size = min(batch_size, len(self))
        return order_N[: len(self) - len(self) % size].view(-1, size)

    def batches(self, batch_size: int, rng: Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch in random order as (positions, labels); see `epoch`."""
        for index_B in self.epoch(batch_size, rng):
            yield index_B, self.labels_N[index_B]
