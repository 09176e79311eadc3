"""Tables of pictures as `api.ImageSet`: features from the store, pixels cut when asked for."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from benchmark.api import Crop, ImageSet
from benchmark.data import ImageTable
from benchmark.errors import UserError
from benchmark.features.encoding import (
    Encoder,
    centre_cuts,
    features,
    fresh_cuts,
    pixels,
    stored_views,
)
from benchmark.features.feature_store import FeatureStore, Kind, Stopwatch, Views, space


def image_set(
    table: ImageTable,
    encoder: Encoder,
    store: FeatureStore,
    timer: Stopwatch,
    *,
    sealed: bool = False,
) -> ImageSet:
    """The pictures of `table` as images without labels.

    `sealed` is for what a method must not know: no closure then leads to the table, whose paths may
    name the class. The caller keeps the table alive for as long as the images are used.
    """
    digests = table.digests()
    table_now, wanted = _access(table, sealed), encoder.pipeline.preprocessing

    def encode(views: Views | None, kind: Kind = "pooled") -> Tensor:
        used = replace(encoder, kind=kind)

        def compute(chosen: list[int]) -> Iterator[Tensor]:
            encoded = features(used, stored_views(table_now(), chosen, views, wanted))
            unchanged = _unchanged(table_now, digests, chosen, encoded)
            return unchanged if views else (image_NVD[:, 0] for image_NVD in unchanged)

        double = encoder.backbone.dtype == torch.float64
        model = encoder.backbone.name
        where = space(encoder.digest, views, model, double=double, kind=kind)
        rows = store.rows(where, digests, compute, timer).to(encoder.device)
        return rows.transpose(0, 1) if views else rows

    def decode(index_N: Tensor, crop: Crop | None, seeds: Sequence[int] | None) -> Tensor:
        if crop is None or seeds is None:
            centres = centre_cuts(table_now(), index_N.tolist(), wanted)
            return encoder.normalise(torch.cat(list(pixels(encoder, centres))))
        rows: dict[int, list[int]] = {}  # of each picture, which is decoded once
        for row, position in enumerate(index_N.tolist()):
            rows.setdefault(position, []).append(row)
        own_seeds = [[seeds[row] for row in own] for own in rows.values()]
        cuts = fresh_cuts(table_now(), list(rows), crop, own_seeds, wanted)
        order_N = torch.tensor([row for own in rows.values() for row in own]).argsort()
        pixels_NHWC = torch.cat(list(pixels(encoder, cuts)))
        return encoder.normalise(pixels_NHWC[order_N.to(encoder.device)])

    others = partial(encode, kind="unprojected"), partial(encode, kind="local")
    return ImageSet(len(digests), encode, decode, *others)


def _unchanged(
    table_now: Callable[[], ImageTable],
    digests: Sequence[str],
    chosen: Sequence[int],
    encoded: Iterator[Tensor],
) -> Iterator[Tensor]:
    """`encoded` for as long as its pictures are still those of `digests`; UserError before the
    first rows of another picture, which would be stored under the wrong digest.
    """
    done = 0
    for image_NVD in encoded:
        rows = chosen[done : done + len(image_NVD)]
        if table_now().take(rows).digests() != [digests[row] for row in rows]:
            raise UserError("images changed while they were read; give the same command again")
        done += len(rows)
        yield image_NVD


def _access(table: ImageTable, sealed: bool) -> Callable[[], ImageTable]:
    if not sealed:
        return lambda: table
    reference = weakref.ref(table)

    def behind() -> ImageTable:
        alive = reference()
        assert alive is not None, "sealed images outlived the table behind them"
        return alive

    return behind
