"""The feature store: what is stored is what would be computed, whoever computes it, in whatever
order.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from benchmark.api import Crop
from benchmark.conformance import toy
from benchmark.data import ImageTable
from benchmark.features.image_sets import (
    AHEAD,
    BATCH,
    Encoder,
    Stopwatch,
    image_set,
    open_store,
    space,
)
from benchmark.features.transforms import Pipeline


class Noise:
    """Pictures of noise by key; counts how often each was opened."""

    def __init__(self) -> None:
        self.opened: dict[str, int] = {}

    def open(self, key: str) -> Image.Image:
        self.opened[key] = self.opened.get(key, 0) + 1
        rng = np.random.default_rng(int(key))
        return Image.fromarray(rng.integers(0, 255, (24, 20, 3), dtype=np.uint8))

    def digest(self, key: str) -> str:
        return f"digest-{key}"


def table(count: int, pictures: Noise | None = None) -> ImageTable:
    return ImageTable(tuple(map(str, range(count))), tuple(range(count)), pictures or Noise())


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    backbone = toy.backbone()
    return Encoder(backbone, Pipeline(backbone.image_px, *backbone.normalisation), "e" * 64)


def features(
    rows: ImageTable, encoder: Encoder, root: Path, views: tuple[int, int, Crop] | None = None
) -> Tensor:
    return image_set(rows, encoder, open_store(root), Stopwatch()).encode(views)


def test_features_do_not_depend_on_who_else_is_encoded_nor_on_the_order(
    encoder: Encoder, tmp_path: Path
) -> None:
    whole = features(table(BATCH + 7), encoder, tmp_path / "a")
    few = features(table(BATCH + 7).take([70, 3, 11]), encoder, tmp_path / "b")
    assert torch.equal(few, whole[[70, 3, 11]])
    views = (3, 0, Crop())
    all_views = features(table(40), encoder, tmp_path / "a", views)
    assert all_views.shape == (3, 40, encoder.backbone.dim)
    assert torch.equal(
        features(table(40).take([39, 0]), encoder, tmp_path / "b", views), all_views[:, [39, 0]]
    )


def test_features_equal_the_plain_encoding_of_the_plain_transform(
    encoder: Encoder, tmp_path: Path
) -> None:
    rows = table(5)
    images = image_set(rows, encoder, open_store(tmp_path), Stopwatch())
    direct = encoder.backbone.encode_pixels(torch.cat(list(images.pixels(2))))
    assert torch.allclose(images.features(), direct, atol=1e-6)
    assert torch.allclose(images.features().norm(dim=1), torch.ones(5), atol=1e-6)


def test_a_picture_is_decoded_once_per_space_by_overlapping_sets(
    encoder: Encoder, tmp_path: Path
) -> None:
    pictures = Noise()
    for chosen in ([0, 1, 2], [1, 2, 3], [3, 0]):
        features(table(4, pictures).take(chosen), encoder, tmp_path)
    assert pictures.opened == {"0": 1, "1": 1, "2": 1, "3": 1}


def test_what_comes_from_disk_is_bit_identical(encoder: Encoder, tmp_path: Path) -> None:
    assert torch.equal(features(table(9), encoder, tmp_path), features(table(9), encoder, tmp_path))


def damage_flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        damage_flip,
        lambda path: path.write_bytes(path.read_bytes()[:50]),
        lambda path: path.write_bytes(b""),
    ],
)
def test_a_damaged_shard_is_dropped_and_computed_again(
    encoder: Encoder, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    whole = features(table(6), encoder, tmp_path)
    (shard,) = tmp_path.rglob("*.safetensors")
    damage(shard)
    assert torch.equal(features(table(6), encoder, tmp_path), whole)
    assert torch.equal(features(table(6), encoder, tmp_path), whole)


class Stopping(Noise):
    """Pictures of which one cannot be had."""

    def open(self, key: str) -> Image.Image:
        if key == "130":
            raise KeyboardInterrupt
        return super().open(key)


def test_an_interruption_loses_no_row_that_was_encoded(encoder: Encoder, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        features(table(140, Stopping()), encoder, tmp_path)
    again = Noise()
    whole = features(table(140, again), encoder, tmp_path)
    assert set(again.opened) == {str(i) for i in range(2 * BATCH, 140)}
    assert torch.equal(whole, features(table(140), encoder, tmp_path / "at-once"))


def test_a_long_extraction_is_written_down_now_and_then(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmark.features.feature_store.FILE_ROWS", BATCH)
    whole = features(table(3 * BATCH), encoder, tmp_path)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 3
    assert torch.equal(features(table(3 * BATCH), encoder, tmp_path), whole)


@pytest.mark.parametrize("views", [None, (5, 0, Crop()), (BATCH + 1, 0, Crop())])
def test_features_do_not_depend_on_the_number_of_decoding_threads(
    encoder: Encoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    views: tuple[int, int, Crop] | None,
) -> None:
    found = []
    for threads in (1, 7):
        monkeypatch.setattr("benchmark.features.image_sets.DECODERS", threads)
        found.append(features(table(30), encoder, tmp_path / str(threads), views))
    assert torch.equal(*found)


def test_what_was_just_encoded_is_rounded_as_what_was_stored(
    encoder: Encoder, tmp_path: Path
) -> None:
    for views in (None, (3, 0, Crop())):
        fresh = features(table(9), encoder, tmp_path, views)
        assert fresh.dtype == torch.float32
        assert torch.equal(features(table(9), encoder, tmp_path, views), fresh)
    assert torch.equal(fresh, fresh.half().float())


def test_few_pictures_are_decoded_before_they_are_needed(encoder: Encoder, tmp_path: Path) -> None:
    pictures, encoded = Noise(), 0

    class Counting:
        def __getattr__(self, name: str) -> object:
            return getattr(encoder.backbone, name)

        def encode_pixels(self, pixels_NCHW: Tensor) -> Tensor:
            nonlocal encoded
            encoded += BATCH
            assert len(pictures.opened) <= encoded + AHEAD
            return encoder.backbone.encode_pixels(pixels_NCHW)

    watched = Encoder(Counting(), encoder.pipeline, encoder.digest)  # type: ignore[arg-type]
    features(table(6 * BATCH, pictures), watched, tmp_path)
    assert encoded == 6 * BATCH


def test_everything_that_changes_a_feature_is_in_its_space() -> None:
    spaces = {
        space("a" * 64, None),
        space("b" * 64, None),
        space("a" * 64, (16, 0, Crop())),
        space("a" * 64, (8, 0, Crop())),
        space("a" * 64, (16, 1, Crop())),
        space("a" * 64, (16, 0, Crop(0.5))),
        space("a" * 64, (16, 0, Crop(flip=False))),
    }
    assert len(spaces) == 7


def test_stored_rows_cost_only_whoever_encoded_them(encoder: Encoder, tmp_path: Path) -> None:
    first, second = Stopwatch(), Stopwatch()
    image_set(table(8), encoder, open_store(tmp_path), first).features()
    image_set(table(8), encoder, open_store(tmp_path), second).features()
    assert first.encoding_s > 0
    assert second.spent_s == 0
    assert second.worth_s == pytest.approx(first.worth_s)


def test_rows_that_are_asked_for_again_are_counted_once(encoder: Encoder, tmp_path: Path) -> None:
    store, timer = open_store(tmp_path), Stopwatch()
    images = image_set(table(8), encoder, store, timer)
    images.features()
    encoding_s, worth_s = timer.encoding_s, timer.worth_s
    images.features()
    image_set(table(8).take([5, 2]), encoder, store, timer).features()
    assert (timer.encoding_s, timer.worth_s) == (encoding_s, worth_s)
    assert 0 < worth_s <= encoding_s * 1.001


def test_fresh_crops_follow_the_generator(encoder: Encoder, tmp_path: Path) -> None:
    images = image_set(table(4), encoder, open_store(tmp_path), Stopwatch())
    index_N = torch.tensor([2, 0])
    once = images.augmented(index_N, torch.Generator().manual_seed(5))
    assert torch.equal(once, images.augmented(index_N, torch.Generator().manual_seed(5)))
    assert not torch.equal(once, images.augmented(index_N, torch.Generator().manual_seed(6)))
