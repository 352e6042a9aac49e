"""16 bits a sample: coded as such."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

import aecodec
from aecodec import pixels
from aecodec.cli.main import run
from aecodec.codec import Codec
from aecodec.errors import UnsupportedImageError
from aecodec.samples import eight_bits


def psnr16(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal to noise ratio at a peak of 65535, in dB."""
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return float(10 * np.log10(65535**2 / error))


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(precision="float32")


@pytest.fixture(scope="module")
def gradient() -> np.ndarray:
    """A slow gradient in three colours, far finer than 8 bits; (192, 256, 3) uint16."""
    y, x = np.mgrid[:192, :256]
    ramps = [(x + 0.7 * y + 20 * k) / 450 for k in range(3)]
    return np.rint(65535 * np.stack(ramps, axis=2)).astype(np.uint16)


@pytest.fixture(scope="module")
def structured() -> np.ndarray:
    """Smooth waves with fine ones of a quarter of an 8-bit step on top."""
    y, x = np.mgrid[:192, :256]
    waves = [
        0.5 + 0.4 * np.sin(x / 97 + k) * np.cos(y / 71 - k) + 0.001 * np.sin(x / 3.1 + y / 4.7 + k)
        for k in range(3)
    ]
    return np.rint(65535 * np.stack(waves, axis=2)).astype(np.uint16)


@pytest.fixture(scope="module")
def deep_photo(photo: np.ndarray) -> np.ndarray:
    """A photograph with more than 8 bits: means of 2 x 2 pixels; (128, 192, 3) uint16."""
    means = photo.reshape(128, 2, 192, 2, 3).mean(axis=(1, 3))
    return np.rint(257 * means).astype(np.uint16)


# ---- the codec ----


def test_sixteen_bits_win_over_a_detour_through_eight(codec, gradient, structured, deep_photo):
    """Clearly where the codec is good; where its own error is far larger, it is a draw."""
    draw = -0.5  # dB: the two roads round a few integers differently
    for image, margins in (
        (gradient, {25: draw, 50: 0.1, 75: 0.5, 100: 1.0}),
        (structured, {25: draw, 50: 0, 75: 0.2, 100: 0.5}),
        (deep_photo, {75: draw, 100: draw}),
    ):
        reached = []
        for quality, margin in margins.items():
            back = codec.decode(codec.encode(image, quality=quality))
            assert back.dtype == np.uint16
            detour = codec.decode(codec.encode(eight_bits(image), quality=quality))
            assert psnr16(image, back) > psnr16(image, detour.astype(np.uint16) * 257) + margin
            reached.append(psnr16(image, back))
        assert reached == sorted(reached)


def test_a_gradient_comes_back_better_than_eight_bits_could_hold_it(codec, gradient):
    rounded = eight_bits(gradient).astype(np.uint16) * 257
    assert psnr16(gradient, rounded) < 59.1
    back = codec.decode(codec.encode(gradient, quality=100))
    assert psnr16(gradient, back) > psnr16(gradient, rounded)


@pytest.mark.parametrize("quality", [1, 20, 40, 60, 80, 100])
def test_decoding_to_sixteen_bits_is_better_than_to_eight_at_every_quality(
    codec, gradient, structured, quality
):
    """The same integers, decoded to 16 bits and rounded to 8."""
    for image in (gradient, structured):
        back = codec.decode(codec.encode(image, quality=quality))
        rounded = eight_bits(back).astype(np.uint16) * 257
        assert psnr16(image, back) > psnr16(image, rounded)


def test_every_shape_comes_back_in_its_own(codec, deep_photo):
    ramp = np.linspace(0, 65535, 128 * 192).astype(np.uint16).reshape(128, 192)
    gray = deep_photo[:, :, 1]
    sizes = []
    for image in (
        gray,
        np.dstack([gray, ramp]),
        deep_photo,
        np.dstack([deep_photo, ramp]),
    ):
        data = codec.encode(image, quality=70)
        found = aecodec.info(data)
        assert found.bit_depth == 16
        back = codec.decode(data)
        assert (back.shape, back.dtype) == (image.shape, image.dtype)
        if found.mode.endswith("A"):
            np.testing.assert_array_equal(back[:, :, -1], ramp)
            np.testing.assert_array_equal(
                codec.decode(data, region=(9, 8, 50, 40)), back[8:48, 9:59]
            )
        colour = back.reshape(128, 192, -1)[:, :, : 1 if found.mode[0] == "L" else 3]
        assert psnr16(colour[:, :, 0], image.reshape(128, 192, -1)[:, :, 0]) > 30
        sizes.append(len(data))
    assert sizes[0] < sizes[2] and sizes[1] < sizes[3]
    assert codec.decode(codec.encode(deep_photo[:1, :1])).shape == (1, 1, 3)


def test_a_target_counts_decibels_at_the_peak_of_sixteen_bits(codec, deep_photo):
    back = codec.decode(codec.encode(deep_photo, target_psnr=32))
    assert 31.99 < psnr16(deep_photo, back) < 32.1


def test_lost_chunks_are_gray(codec, deep_photo):
    data = bytearray(codec.encode(deep_photo, quality=30))
    data[-9] ^= 1
    image, lost = codec.recover(bytes(data))
    assert lost == [0]
    assert image.dtype == np.uint16
    assert (image == 32768).all()


def test_there_and_back_on_the_command_line(tmp_path: Path, deep_photo, capfd) -> None:
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(deep_photo))
    assert run(["compress", str(tmp_path / "a.png")]) == 0
    assert run(["info", str(tmp_path / "a.aec")]) == 0
    assert "RGB, 16 bits a sample" in capfd.readouterr().out
    for ending in ("png", "tif", "ppm"):
        assert run(["decompress", str(tmp_path / "a.aec"), str(tmp_path / f"b.{ending}")]) == 0
        back = pixels.read_image(tmp_path / f"b.{ending}")
        np.testing.assert_array_equal(back, aecodec.decode((tmp_path / "a.aec").read_bytes()))
    tag = imagecodecs.png_decode((tmp_path / "b.png").read_bytes())
    assert tag.dtype == np.uint16
    assert tifffile.imread(tmp_path / "b.tif").dtype == np.uint16


def test_values_of_another_type_are_refused():
    with pytest.raises(UnsupportedImageError, match="uint16"):
        Codec().encode(np.zeros((4, 4, 3), np.float32))
