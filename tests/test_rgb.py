"""Pictures of every kind in RGB: what is kept of them, what is left out, and what is refused."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from benchmark.data import rgb
from benchmark.data.image_table import ImageTable
from benchmark.data.pictures import PictureFiles
from benchmark.errors import MISSING, UserError
from benchmark.features import decoding
from benchmark.features.decoder_process import pixels_of

RAMP_HW = np.arange(65536, dtype=np.uint16).reshape(256, 256)
COLOURS_HWC = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)


def stored(picture: Image.Image, kind: str, **options: Any) -> io.BytesIO:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    stream.seek(0)
    return stream


def pixels(stream: io.BytesIO, exif: rgb.Exif = "ignore") -> np.ndarray[Any, Any]:
    picture = rgb.decode(stream, "x", exif)
    assert picture.mode == "RGB"
    return np.asarray(picture)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_a_ramp_of_16_bits_keeps_256_levels(kind: str) -> None:
    decoded_HWC = pixels(stored(Image.fromarray(RAMP_HW), kind))
    for channel in range(3):
        np.testing.assert_array_equal(decoded_HWC[..., channel], RAMP_HW // 256)


def test_16_bits_in_grey_and_in_colour_are_read_alike() -> None:
    """Pillow itself drops the lower bits of colours; a PNG of 16 bits per channel by hand."""
    import struct
    import zlib

    row = struct.pack(">9H", 0, 0, 0, 257, 257, 257, 65535, 65535, 65535)
    header = struct.pack(">IIBBBBB", 3, 1, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
    colour = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )
    grey = stored(Image.fromarray(np.array([[0, 257, 65535]], np.uint16)), "PNG")
    np.testing.assert_array_equal(pixels(io.BytesIO(colour)), pixels(grey))


def test_big_endian_16_bits_are_the_same_numbers() -> None:
    picture = Image.frombytes("I;16B", (256, 256), RAMP_HW.astype(">u2").tobytes())
    np.testing.assert_array_equal(pixels(stored(picture, "TIFF"))[..., 0], RAMP_HW // 256)


def test_8_bits_stored_in_16_are_refused_instead_of_read_as_black() -> None:
    with pytest.raises(UserError, match="upper 8 are all zero, so it would be black; save it"):
        rgb.decode(stored(Image.fromarray(RAMP_HW[:1]), "PNG"), "x")
    with pytest.raises(UserError, match="upper 4 are all zero, so it would be nearly black; save"):
        rgb.decode(stored(Image.fromarray(RAMP_HW[:16]), "PNG"), "x")
    assert pixels(stored(Image.fromarray(RAMP_HW[:17]), "PNG")).max() == 16
    black_HW = np.zeros((4, 4), np.uint16)
    assert not pixels(stored(Image.fromarray(black_HW), "PNG")).any()


@pytest.mark.parametrize(("dtype", "kind"), [(np.int32, "whole"), (np.float32, "floating point")])
def test_pixels_without_a_stated_range_are_refused(dtype: type, kind: str) -> None:
    with pytest.raises(UserError, match=f"its pixels are {kind} numbers of 32 bits") as caught:
        rgb.decode(stored(Image.fromarray(RAMP_HW.astype(dtype)), "TIFF"), "cat.tif")
    assert caught.value.exit_code == MISSING
    assert str(caught.value).startswith("image cat.tif cannot be decoded")


def test_transparency_is_left_out_and_the_colours_below_it_appear() -> None:
    alpha_HW = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
    with_alpha = Image.fromarray(np.dstack([COLOURS_HWC, alpha_HW]))
    np.testing.assert_array_equal(pixels(stored(with_alpha, "PNG")), COLOURS_HWC)
    grey = Image.fromarray(np.dstack([COLOURS_HWC[..., 0], alpha_HW]), "LA")
    np.testing.assert_array_equal(pixels(stored(grey, "PNG"))[..., 2], COLOURS_HWC[..., 0])


def test_a_palette_with_transparency_shows_its_colours() -> None:
    picture = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    picture.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    decoded_HWC = pixels(stored(picture, "PNG", transparency=b"\0\x80\xff"))
    expected = [[[10, 20, 30], [40, 50, 60]], [[70, 80, 90], [40, 50, 60]]]
    np.testing.assert_array_equal(decoded_HWC, expected)


def test_black_and_white_becomes_black_and_white() -> None:
    picture = Image.fromarray(np.array([[True, False]]))
    np.testing.assert_array_equal(pixels(stored(picture, "PNG"))[..., 1], [[255, 0]])


def test_cmyk_is_converted_without_a_colour_profile() -> None:
    inks_HWC = np.array([[[255, 0, 0, 0], [0, 0, 0, 255], [0, 0, 0, 0]]], np.uint8)
    decoded_HWC = pixels(stored(Image.fromarray(inks_HWC, "CMYK"), "TIFF"))
    np.testing.assert_array_equal(decoded_HWC, [[[0, 255, 255], [0, 0, 0], [255, 255, 255]]])


def test_of_several_frames_the_first_is_taken() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    stream = stored(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (pixels(stream) == [255, 0, 0]).all()
    assert rgb.peculiarities(stream, "x") == {rgb.FRAMES}


def with_orientation(tag: int, kind: str) -> io.BytesIO:
    exif = Image.Exif()
    exif[rgb.ORIENTATION] = tag
    options = {"JPEG": {"quality": 100}, "WEBP": {"lossless": True}}.get(kind, {})
    return stored(Image.fromarray(COLOURS_HWC), kind, exif=exif, **options)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("tag", range(10))
def test_exif_orientation_is_ignored_or_applied_as_pillow_applies_it(tag: int, kind: str) -> None:
    stream = with_orientation(tag, kind)
    plain = Image.open(stream)
    np.testing.assert_array_equal(pixels(stream), np.asarray(plain))
    upright = ImageOps.exif_transpose(plain)
    np.testing.assert_array_equal(pixels(stream, "apply"), np.asarray(upright))
    assert (rgb.TURNED in rgb.peculiarities(stream, "x")) == (2 <= tag <= 8)


def test_tiff_files_are_turned_once_in_either_case() -> None:
    for exif in ("ignore", "apply"):
        np.testing.assert_array_equal(
            pixels(with_orientation(6, "TIFF"), exif), np.rot90(COLOURS_HWC, -1)
        )


@pytest.mark.parametrize("data", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b""])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_exif_data_that_cannot_be_read_leave_a_picture_as_it_is(data: bytes) -> None:
    stream = stored(Image.fromarray(COLOURS_HWC), "JPEG", exif=data)
    np.testing.assert_array_equal(pixels(stream, "apply"), pixels(stream))


def test_a_picture_of_one_pixel_is_a_picture() -> None:
    assert pixels(stored(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG")).tolist() == [[[1, 2, 3]]]


def test_a_picture_that_would_fill_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = stored(Image.new("L", (64, 64)), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UserError, match="cannot be decoded"):
        rgb.decode(stream, "x")


def test_a_large_picture_is_read_without_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = stored(Image.new("L", (64, 64)), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64 - 1)
    with warnings.catch_warnings(record=True) as warned:
        assert pixels(stream).shape == (64, 64, 3)
    assert not warned


def test_both_image_pipelines_decode_alike(tmp_path: Path) -> None:
    """Threads of this process, and the processes that decode for a GPU."""
    Image.fromarray(RAMP_HW).save(tmp_path / "deep.png")
    (tmp_path / "turned.jpg").write_bytes(with_orientation(6, "JPEG").getvalue())
    Image.fromarray(COLOURS_HWC).convert("CMYK").save(tmp_path / "inks.tif")
    keys = ("deep.png", "turned.jpg", "inks.tif")
    table = ImageTable(keys * 100, (0,) * 300, PictureFiles(tmp_path, "apply"))
    chunks = decoding.decoded(table, range(len(table)), by_processes=True)
    there = []
    for chunk in chunks:
        there += [picture.clone() for picture in chunk.pictures]
        chunk.release()
    for i in range(3):
        assert torch.equal(there[i], torch.from_numpy(pixels_of(table.open(i))))
    assert there[1].shape == (6, 4, 3)


def test_a_turned_picture_has_another_digest(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(with_orientation(6, "JPEG").getvalue())
    plain, turned = PictureFiles(tmp_path), PictureFiles(tmp_path, "apply")
    (as_stored,) = ImageTable(("a.jpg",), (0,), plain).digests()
    (upright,) = ImageTable(("a.jpg",), (0,), turned).digests()
    assert as_stored != upright
    assert as_stored == plain.fresh_digest("a.jpg") == turned.fresh_digest("a.jpg")
