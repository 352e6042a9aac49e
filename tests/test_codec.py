"""The codec with its landed weights, on real photographs."""

from __future__ import annotations

import dataclasses
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import WEIGHTS, psnr
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from safetensors import safe_open

import aecodec
from aecodec import container
from aecodec.codec import Codec
from aecodec.errors import (
    AecError,
    ChecksumError,
    InputError,
    ModelMismatchError,
    UnknownModelError,
    UnsupportedImageError,
)
from aecodec.model.weights import save_weights
from aecodec.tiles import cut_pixels, latents_within, positions, whole, windows


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(precision="float32")


# What the landed weights reach: bytes and dB on the fixture photograph (256 x 384).
# Better weights may raise the bar; nothing may lower it.
REACHED = {10: (1533, 25.80), 50: (8065, 31.67), 75: (17341, 34.75), 95: (26850, 36.06)}


@pytest.mark.parametrize("quality", [10, 50, 75, 95])
def test_rate_and_distortion_do_not_get_worse(
    codec: Codec, photo: np.ndarray, quality: int
) -> None:
    data = codec.encode(photo, quality=quality)
    size, quality_db = REACHED[quality]
    # 6 dB for a factor of 4 in bytes converts a size difference into dB at equal size
    equal_size = psnr(photo, codec.decode(data)) - 3 * np.log2(len(data) / size)
    assert equal_size > quality_db - 0.3


def test_beats_jpeg_and_webp_of_the_same_size(codec: Codec, photo: np.ndarray) -> None:
    data = codec.encode(photo, quality=50)
    ours = psnr(photo, codec.decode(data))
    for name, options in (("JPEG", {"optimize": True}), ("WEBP", {"method": 6})):
        best = 0.0
        for peer_quality in range(1, 100):
            buffer = io.BytesIO()
            Image.fromarray(photo).save(buffer, name, quality=peer_quality, **options)
            if buffer.tell() > len(data):
                break
            best = psnr(photo, np.asarray(Image.open(buffer)))
        assert ours > best + 0.3, f"{name} reaches {best:.2f} dB, aecodec {ours:.2f} dB"


def test_more_quality_means_more_bytes_and_more_decibels(codec: Codec, cat: np.ndarray) -> None:
    files = [codec.encode(cat, quality=q) for q in range(1, 101, 11)]
    decibels = [psnr(cat, codec.decode(f)) for f in files]
    assert sorted(map(len, files)) == [len(f) for f in files]
    assert sorted(decibels) == decibels
    assert decibels[-1] > 38


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 40), (15, 17), (16, 16), (63, 65), (64, 64), (130, 5)]
)
def test_any_size(codec: Codec, photo: np.ndarray, shape: tuple[int, int]) -> None:
    image = photo[: shape[0], : shape[1]]
    decoded = codec.decode(codec.encode(image, quality=80))
    assert decoded.shape == image.shape
    assert decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - image).mean() < 8


@settings(max_examples=8)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 2**32 - 1), st.floats(1, 100))
def test_noise_of_any_size_comes_back(
    codec: Codec, height: int, width: int, seed: int, quality: float
) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    data = codec.encode(image, quality=quality)
    codec.verify(data)
    assert codec.decode(data).shape == image.shape


def test_gray_stays_gray_and_costs_less(codec: Codec, photo: np.ndarray) -> None:
    gray = np.asarray(Image.fromarray(photo).convert("L"))
    data = codec.encode(gray, quality=75)
    decoded = codec.decode(data)
    assert decoded.shape == gray.shape
    assert psnr(gray, decoded) > 30
    assert len(data) < len(codec.encode(photo, quality=75))


def test_pillow_images_and_arrays_are_the_same(codec: Codec, cat: np.ndarray) -> None:
    assert codec.encode(Image.fromarray(cat)) == codec.encode(cat)


def test_overhead_is_at_most_48_bytes(codec: Codec, photo: np.ndarray) -> None:
    data = codec.encode(photo)
    payloads = sum(entry.length for entry in container.parse_header(data).entries)
    assert len(data) - payloads <= 48


def test_flat_colour_costs_next_to_nothing(codec: Codec) -> None:
    flat = np.full((256, 256, 3), (20, 120, 220), np.uint8)
    data = codec.encode(flat, quality=50)
    assert len(data) < 500
    error = np.abs(codec.decode(data).astype(int) - flat)
    assert error.mean() < 3
    assert error.max() <= 12


def test_chunks_decode_like_the_whole(photo: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small chunks change the bytes; the picture stays as good, without seams."""
    whole = Codec(precision="float32")
    data = whole.encode(photo, quality=70)
    plain = container.Header
    monkeypatch.setattr("aecodec.codec.Header", lambda **kw: plain(**kw, chunk_log2=7))
    parts = whole.encode(photo, quality=70)
    assert len(container.parse_header(parts).entries) == 6
    one, many = whole.decode(data), whole.decode(parts)
    assert abs(psnr(photo, one) - psnr(photo, many)) < 0.3
    columns = np.r_[124:132, 252:260]
    border = psnr(photo[:, columns], many[:, columns]) - psnr(photo[:, columns], one[:, columns])
    assert border > -0.6


def test_windows_reach_past_every_influence(codec: Codec, photo: np.ndarray) -> None:
    """y of a chunk from its window is y of the whole picture, cut."""
    header = container.Header(384, 256, bytes(8), 0)
    (window,) = windows(container.Rect(128, 128, 256, 256), header, codec.network.halo)
    assert window.outer != positions(whole(header))
    with torch.inference_mode():
        y = codec.network.analyse(photo)
        outer = codec.network.analyse(cut_pixels(photo, window.seen))
    cut = outer[latents_within(window.core, window.outer)]
    torch.testing.assert_close(cut, y[:, 8:16, 8:16], atol=1e-4, rtol=1e-4)


def test_damaged_payloads_are_named(codec: Codec, photo: np.ndarray) -> None:
    data = bytearray(codec.encode(photo, quality=30))
    entry = container.parse_header(bytes(data)).entries[0]
    data[entry.offset + entry.length // 2] ^= 4
    with pytest.raises(ChecksumError, match=r"x\.aec"):
        codec.decode(bytes(data), name="x.aec")


def test_damage_behind_a_good_checksum_is_noticed(codec: Codec, photo: np.ndarray) -> None:
    """The checksum of the integers stands alone where a payload was swapped whole."""
    file = container.parse(codec.encode(photo, quality=30))
    for seed in range(8):
        noise = np.random.default_rng(seed).bytes(len(file.chunks[0].payload))
        chunk = container.Chunk(noise, file.chunks[0].symbols_crc)
        forged = container.serialise(container.AecFile(file.header, (chunk,)))
        with pytest.raises(AecError):
            codec.decode(forged)


@pytest.fixture(scope="module")
def other_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The landed weights with one tensor changed: another model."""
    path = tmp_path_factory.mktemp("weights") / "other.safetensors"
    with safe_open(WEIGHTS, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        meta = dict(file.metadata())
    tensors["net.analysis.tail.bias"] = tensors["net.analysis.tail.bias"] + 1
    save_weights(path, tensors, meta)
    return path


def test_other_weights_refuse_and_name_both(
    codec: Codec, other_weights: Path, cat: np.ndarray
) -> None:
    other = Codec(other_weights)
    with pytest.raises(ModelMismatchError) as caught:
        other.decode(codec.encode(cat), name="cat.aec")
    for part in ("cat.aec", codec.model_id, other.model_id):
        assert part in str(caught.value)
    with pytest.raises(UnknownModelError, match=other.model_id):
        aecodec.decode(other.encode(cat))


def test_weights_describe_themselves(tmp_path: Path, cat: np.ndarray) -> None:
    copy = tmp_path / "renamed.safetensors"
    shutil.copy(WEIGHTS, copy)
    assert Codec(copy).model_id == Codec().model_id
    assert WEIGHTS.stat().st_size <= 25e6


@pytest.mark.parametrize("quality", [0, 100.5, -3, float("nan"), float("inf")])
def test_bad_qualities_are_refused(codec: Codec, cat: np.ndarray, quality: float) -> None:
    with pytest.raises(InputError, match="quality"):
        codec.encode(cat, quality=quality)


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4, 5), np.uint8), np.zeros((4, 4), np.float32), np.zeros((0, 4), np.uint8)],
)
def test_bad_arrays_are_refused(codec: Codec, image: np.ndarray) -> None:
    with pytest.raises(UnsupportedImageError):
        codec.encode(image)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(InputError, match="precision"):
        Codec(precision="float8")
    with pytest.raises(InputError, match="device"):
        Codec(device="abacus")
    with pytest.raises(InputError, match="threads"):
        Codec(threads=0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_in_the_header_is_applied(
    codec: Codec, cat: np.ndarray, orientation: int, tmp_path: Path
) -> None:
    """As Pillow turns a picture with that EXIF tag."""
    data = codec.encode(cat, quality=20)
    file = container.parse(data)
    header = dataclasses.replace(file.header, orientation=orientation)
    turned = codec.decode(container.serialise(dataclasses.replace(file, header=header)))
    tagged = Image.fromarray(codec.decode(data))
    exif = Image.Exif()
    exif[0x0112] = orientation
    tagged.save(tmp_path / "tagged.png", exif=exif)
    expected = ImageOps.exif_transpose(Image.open(tmp_path / "tagged.png"))
    np.testing.assert_array_equal(turned, np.asarray(expected))
