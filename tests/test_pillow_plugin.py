"""`.aec` files through Pillow."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from conftest import psnr
from PIL import Image, UnidentifiedImageError

import aecodec
import aecodec.plugins.pillow


@pytest.fixture(scope="module")
def coded(photo: np.ndarray) -> bytes:
    return aecodec.encode(photo, 40)


def test_open_reads_the_header_alone(coded: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: object, **options: object) -> None:
        raise AssertionError("decoded too early")

    with monkeypatch.context() as patch:
        patch.setattr("aecodec.api.decode", never)
        image = Image.open(io.BytesIO(coded))
        assert (image.format, image.size, image.mode) == ("AEC", (384, 256), "RGB")
        assert abs(image.info["quality"] - 40) < 0.1
        assert image.get_format_mimetype() == "image/x-aec"
    np.testing.assert_array_equal(np.asarray(image), aecodec.decode(coded))
    image.load()  # a second time is free
    assert image.resize((10, 10)).size == (10, 10)


def test_files_and_file_objects(photo: np.ndarray, tmp_path: Path) -> None:
    image = Image.fromarray(photo)
    path = tmp_path / "photo.aec"
    image.save(path, quality=60)
    buffer = io.BytesIO()
    image.save(buffer, "AEC", quality=60)
    assert buffer.getvalue() == path.read_bytes() == aecodec.encode(photo, 60)
    with Image.open(path) as back:
        assert psnr(photo, np.asarray(back)) > 28
    buffer.seek(0)
    with Image.open(buffer) as back:
        assert back.size == image.size


def test_gray_stays_gray(photo: np.ndarray) -> None:
    buffer = io.BytesIO()
    Image.fromarray(photo).convert("L").save(buffer, "AEC")
    assert Image.open(buffer).mode == "L"


def test_options_of_save(photo: np.ndarray) -> None:
    image = Image.fromarray(photo)
    buffer = io.BytesIO()
    image.save(buffer, "AEC", target_size=8000)
    assert 7920 <= buffer.tell() <= 8000
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    buffer = io.BytesIO()
    image.save(buffer, "AEC", quality=20, exif=exif, icc_profile=b"profile", xmp=b"<x/>")
    back = Image.open(buffer)
    back.load()
    assert back.info["icc_profile"] == b"profile"
    assert back.info["xmp"] == b"<x/>"
    assert back.getexif()[0x010F] == "a camera"


def test_other_and_damaged_files(coded: bytes) -> None:
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(b"not an image at all"))
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(coded[:15]))
    cut = Image.open(io.BytesIO(coded[:-50]))
    with pytest.raises(OSError, match="ends"):
        cut.load()


def test_what_cannot_be_coded_is_an_oserror() -> None:
    with pytest.raises(OSError, match="alpha"):
        Image.new("RGBA", (8, 8)).save(io.BytesIO(), "AEC")
    with pytest.raises(OSError, match="quality"):
        Image.new("RGB", (8, 8)).save(io.BytesIO(), "AEC", quality=500)


def test_the_bomb_check_works(coded: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(coded))
