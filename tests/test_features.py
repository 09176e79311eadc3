"""The feature store: what is stored is what would be computed, whoever computes it, in whatever
order.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from benchmark.api import Crop
from benchmark.backbones.precision import tower_dtype
from benchmark.conformance import toy
from benchmark.data import ImageTable
from benchmark.data.pictures import PictureFiles
from benchmark.data.rgb import Exif
from benchmark.errors import UserError
from benchmark.features import decoding
from benchmark.features.encoding import AHEAD, CPU_ROWS, GPU_ROWS, Encoder
from benchmark.features.feature_store import Stopwatch, open_store, space
from benchmark.features.image_sets import image_set
from benchmark.features.transforms import Pipeline


class Noise:
    """Pictures of noise by key; counts how often each was opened."""

    exif: ClassVar[Exif] = "ignore"

    def __init__(self) -> None:
        self.opened: dict[str, int] = {}

    def open(self, key: str) -> Image.Image:
        self.opened[key] = self.opened.get(key, 0) + 1
        rng = np.random.default_rng(int(key))
        return Image.fromarray(rng.integers(0, 255, (24, 20, 3), dtype=np.uint8))

    def digests(self, keys: Sequence[str]) -> list[str]:
        return [f"digest-{key}" for key in keys]


def table(count: int, pictures: Noise | None = None) -> ImageTable:
    return ImageTable(tuple(map(str, range(count))), tuple(range(count)), pictures or Noise())


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    backbone = toy.backbone()
    pipeline = Pipeline(backbone.preprocessing)
    return Encoder(backbone, pipeline, "e" * 64)


def features(
    rows: ImageTable, encoder: Encoder, root: Path, views: tuple[int, int, Crop] | None = None
) -> Tensor:
    return image_set(rows, encoder, open_store(root), Stopwatch()).encode(views)


def test_features_do_not_depend_on_who_else_is_encoded_nor_on_the_order(
    encoder: Encoder, tmp_path: Path
) -> None:
    whole = features(table(CPU_ROWS + 7), encoder, tmp_path / "a")
    few = features(table(CPU_ROWS + 7).take([70, 3, 11]), encoder, tmp_path / "b")
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
    assert set(again.opened) == {str(i) for i in range(2 * CPU_ROWS, 140)}
    assert torch.equal(whole, features(table(140), encoder, tmp_path / "at-once"))


def test_a_long_extraction_is_written_down_now_and_then(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmark.features.feature_store.FILE_ROWS", CPU_ROWS)
    whole = features(table(3 * CPU_ROWS), encoder, tmp_path)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 3
    assert torch.equal(features(table(3 * CPU_ROWS), encoder, tmp_path), whole)


@pytest.mark.parametrize("views", [None, (5, 0, Crop()), (CPU_ROWS + 1, 0, Crop())])
def test_features_do_not_depend_on_the_number_of_decoding_threads(
    encoder: Encoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    views: tuple[int, int, Crop] | None,
) -> None:
    encoded = []
    for threads in (1, 7):
        monkeypatch.setattr("benchmark.features.decoding.DECODERS", threads)
        encoded.append(features(table(30), encoder, tmp_path / str(threads), views))
    assert torch.equal(*encoded)


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
            encoded += CPU_ROWS
            assert len(pictures.opened) <= encoded + AHEAD
            return encoder.backbone.encode_pixels(pixels_NCHW)

    watched = Encoder(Counting(), encoder.pipeline, encoder.digest)  # type: ignore[arg-type]
    features(table(6 * CPU_ROWS, pictures), watched, tmp_path)
    assert encoded == 6 * CPU_ROWS


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


def test_a_crop_depends_on_its_image_and_seed_alone(encoder: Encoder, tmp_path: Path) -> None:
    images = image_set(table(6), encoder, open_store(tmp_path), Stopwatch())
    crops = images.crops(torch.tensor([3, 1, 4]), [7, 8, 9])
    assert torch.equal(images.crops(torch.tensor([1]), [8])[0], crops[1])
    assert not torch.equal(images.crops(torch.tensor([1]), [9])[0], crops[1])


def test_features_do_not_depend_on_the_number_of_encoding_threads(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for threads in (1, 3):
        monkeypatch.setattr("benchmark.features.encoding.THREADS", threads)
        results.append(features(table(5 * CPU_ROWS + 3), encoder, tmp_path / str(threads)))
    assert torch.equal(*results)
    assert torch.get_num_threads() == 1


@pytest.fixture(scope="module")
def device_encoder(encoder: Encoder) -> Encoder:
    """The pipeline of a GPU, on the CPU."""
    pipeline = replace(encoder.pipeline, cuts_on_device=True)
    return Encoder(encoder.backbone, pipeline, "d" * 64)


@pytest.mark.parametrize("count", [1, 40])
def test_both_pipelines_give_the_same_views(
    encoder: Encoder, device_encoder: Encoder, tmp_path: Path, count: int
) -> None:
    pictures, views = Noise(), (5, 0, Crop())
    on_device = features(table(count, pictures), device_encoder, tmp_path, views)
    assert torch.equal(on_device, features(table(count), encoder, tmp_path, views))
    assert set(pictures.opened.values()) == {1}  # one decode serves all views


def test_centre_features_of_both_pipelines_differ_by_rounding(
    encoder: Encoder, device_encoder: Encoder, tmp_path: Path
) -> None:
    on_device = features(table(70), device_encoder, tmp_path)
    on_host = features(table(70), encoder, tmp_path)
    assert float((1 - (on_device * on_host).sum(1)).max()) < 1e-4


def test_pixels_of_both_pipelines_differ_by_rounding(
    encoder: Encoder, device_encoder: Encoder, tmp_path: Path
) -> None:
    index_N, rng = torch.tensor([2, 0, 2]), torch.Generator()
    ours, hosts = (
        image_set(table(4), each, open_store(tmp_path), Stopwatch())
        for each in (device_encoder, encoder)
    )
    assert torch.equal(
        ours.augmented(index_N, rng.manual_seed(5)), hosts.augmented(index_N, rng.manual_seed(5))
    )
    step = 1 / 255 / min(encoder.pipeline.preprocessing.std)
    apart = (torch.cat(list(ours.pixels(3))) - torch.cat(list(hosts.pixels(3)))).abs()
    assert float(apart.max()) <= 2.01 * step


def test_a_picture_that_is_cut_several_times_is_decoded_once(
    device_encoder: Encoder, tmp_path: Path
) -> None:
    pictures, rng = Noise(), torch.Generator().manual_seed(1)
    images = image_set(table(3, pictures), device_encoder, open_store(tmp_path), Stopwatch())
    cut = images.augmented(torch.tensor([2, 0, 2, 2]), rng)
    assert pictures.opened == {"2": 1, "0": 1}
    alone = images.augmented(torch.tensor([2]), rng.manual_seed(1))
    assert torch.equal(cut[:1], alone)
    assert not torch.equal(cut[0], cut[2])


# How far features of a random tower move, 1 - cos at most.
@pytest.mark.parametrize(("precision", "apart"), [("float16", 1e-5), ("bfloat16", 1e-3)])
def test_half_precision_moves_features_a_little(
    encoder: Encoder, tmp_path: Path, precision: str, apart: float
) -> None:
    model = copy.deepcopy(encoder.backbone.model).to(tower_dtype(precision))
    backbone = replace(encoder.backbone, model=model)
    moved_ND = features(table(70), Encoder(backbone, encoder.pipeline, "p" * 64), tmp_path)
    exact_ND = features(table(70), encoder, tmp_path)
    assert moved_ND.dtype == torch.float32
    assert 0 < float((1 - torch.cosine_similarity(moved_ND, exact_ND)).max()) < apart


def test_features_of_a_double_encoder_are_stored_in_double(tmp_path: Path) -> None:
    where, rows_ND = space("f" * 64, None, double=True), torch.rand(3, 4, dtype=torch.float64)
    for store in (open_store(tmp_path), open_store(tmp_path)):
        read_ND = store.rows(where, ["a", "b", "c"], lambda _: iter([rows_ND]), Stopwatch())
        assert read_ND.dtype == torch.float64
        assert torch.equal(read_ND, rows_ND)


# --- decoding by processes


@pytest.fixture
def files(tmp_path: Path) -> ImageTable:
    """Forty pictures, the last one larger than the memory of a chunk."""
    for number in range(39):
        Noise().open(str(number)).save(tmp_path / f"{number}.png")
    Image.new("RGB", (3000, 3000), (1, 2, 3)).save(tmp_path / "39.png")
    keys = tuple(f"{number}.png" for number in range(40))
    return ImageTable(keys, (0,) * 40, PictureFiles(tmp_path))


@pytest.fixture
def few_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "FEWEST", 1)
    monkeypatch.setattr(decoding, "PROCESSES", 2)


def decoded(rows: ImageTable, positions: Sequence[int]) -> list[Tensor]:
    pictures = []
    for chunk in decoding.decoded(rows, positions, by_processes=True):
        pictures += [each.clone() for each in chunk.pictures]
        chunk.release()
    return pictures


@pytest.mark.usefixtures("few_processes")
def test_processes_decode_what_pillow_decodes(files: ImageTable) -> None:
    positions = [39, *range(39)] * 10  # more chunks than there is shared memory for
    for position, pixels in zip(positions, decoded(files, positions), strict=True):
        assert np.array_equal(pixels.numpy(), np.asarray(files.open(position)))


@pytest.mark.usefixtures("few_processes")
def test_an_error_of_a_process_is_that_of_the_picture(files: ImageTable) -> None:
    (files.pictures.folder / "7.png").write_bytes(b"nothing")  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"7\.png cannot be decoded"):
        decoded(files, range(40))
    assert len(decoded(files, range(8, 40))) == 32  # its memory has been given back


@pytest.mark.usefixtures("few_processes")
def test_a_process_that_died_is_replaced(files: ImageTable) -> None:
    pool = decoding.decoding_pool()
    dead = pool.idle.get()
    dead.close()
    pool.idle.put(dead)
    for _ in range(2):
        assert len(decoded(files, range(40))) == 40


@pytest.mark.gpu
@pytest.mark.parametrize("views", [None, (20, 0, Crop())])
def test_a_gpu_encodes_what_the_cpu_encodes(
    device_encoder: Encoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    views: tuple[int, int, Crop] | None,
) -> None:
    """Pictures decoded by processes, more of them than batches and chunks are large."""
    monkeypatch.setattr(decoding, "FEWEST", 1)
    rows = table(2 * GPU_ROWS + 5 if views is None else 40)
    model = copy.deepcopy(device_encoder.backbone.model).cuda()
    backbone = replace(device_encoder.backbone, model=model)
    on_gpu = features(rows, replace(device_encoder, backbone=backbone), tmp_path / "gpu", views)
    on_cpu = features(rows, device_encoder, tmp_path / "cpu", views)
    assert on_gpu.device.type == "cuda"
    apart = 1 - torch.cosine_similarity(on_gpu.cpu(), on_cpu, dim=-1)
    assert float(apart.max()) < 1e-5


def test_pictures_that_cannot_be_sent_are_decoded_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "FEWEST", 1)
    pictures = Noise()
    pictures.opened = defaultdict(lambda: 0)  # a lambda cannot be pickled
    assert len(decoded(table(20, pictures), range(20))) == 20
    assert len(pictures.opened) == 20
