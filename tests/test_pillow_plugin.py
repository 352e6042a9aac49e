"""`.aec` files through Pillow."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import psnr
from PIL import Image, ImageCms, ImageFile, ImageOps, UnidentifiedImageError

import aecodec
import aecodec.plugins.pillow
from aecodec.container import Metadata, parse, parse_header

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


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
        assert abs(image.info["aec_quality"] - 40) < 0.1
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


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
def test_modes_come_back(photo: np.ndarray, mode: str) -> None:
    image = Image.fromarray(photo)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    else:
        image = image.convert(mode)
        if mode.endswith("A"):
            image.putalpha(Image.linear_gradient("L").resize(image.size))
    buffer = io.BytesIO()
    image.save(buffer, "AEC", quality=60)
    with Image.open(buffer) as back:
        assert (back.mode, back.size) == (mode, image.size)
        scale = 257 if mode == "I;16" else 1
        taken, given = np.asarray(back) / scale, np.asarray(image) / scale
        assert psnr(taken, given) > 30
        if mode.endswith("A"):
            np.testing.assert_array_equal(taken[:, :, -1], given[:, :, -1])
        assert back.crop((10, 10, 20, 30)).size == (10, 20)


def test_sixteen_bits_of_colour_become_eight(photo: np.ndarray) -> None:
    data = aecodec.encode(photo.astype(np.uint16) * 257, 60)
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "RGB"
        expected = np.rint(aecodec.decode(data) / 257)
        np.testing.assert_array_equal(np.asarray(image), expected)


def test_the_orientation_is_applied_to_what_is_saved(photo: np.ndarray) -> None:
    """As in every .aec file: upright, so that turning it by its EXIF changes nothing."""
    image = Image.fromarray(photo)
    exif = image.getexif()
    exif[0x0112] = 6
    exif[0x010F] = "a camera"
    for given in (exif, exif.tobytes()):
        buffer = io.BytesIO()
        image.save(buffer, "AEC", quality=30, exif=given)
        with Image.open(buffer) as back:
            back.load()
            assert back.size == image.size[::-1]
            assert back.getexif()[0x010F] == "a camera"
            turned = ImageOps.exif_transpose(back)
            np.testing.assert_array_equal(np.asarray(turned), np.asarray(back))
            upright = np.asarray(image.transpose(Image.Transpose.ROTATE_270))
            assert psnr(np.asarray(back), upright) > 25


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


@pytest.fixture(scope="module")
def tagged(photo: np.ndarray) -> bytes:
    """Two chunks of payload, and metadata behind them."""
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    items = (
        Metadata(b"eXIF", exif.tobytes().removeprefix(b"Exif\0\0")),
        Metadata(b"iCCP", PROFILE),
        Metadata(b"xMP ", b"<x/>"),
    )
    return aecodec.encode(np.tile(photo, (1, 3, 1)), 60, metadata=items)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_metadata_are_there_before_the_pixels(tagged: bytes, tmp_path: Path, ending: str) -> None:
    """What is saved keeps them in the way that works with other formats."""
    image = Image.open(io.BytesIO(tagged))
    assert image.info["xmp"] == b"<x/>"
    back = tmp_path / f"back.{ending}"
    image.save(back, exif=image.getexif(), icc_profile=image.info.get("icc_profile"))
    with Image.open(back) as saved:
        assert saved.getexif()[0x010F] == "a camera"
        assert saved.info["icc_profile"] == PROFILE
    assert image.getexif()[0x010F] == "a camera"  # and after the pixels, too


def test_opening_does_not_read_the_payloads(tagged: bytes) -> None:
    class Counted(io.BytesIO):
        taken = 0

        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            self.taken += len(data)
            return data

    chunks = parse(tagged).chunks
    payloads = sum(len(chunk.payload) for chunk in chunks)
    assert len(chunks) == 2 and payloads > 10000
    file = Counted(tagged)
    image = Image.open(file)
    assert image.info["icc_profile"] == PROFILE
    assert file.taken < len(tagged) - payloads + 2 * 4096


def test_opening_loads_no_torch(tagged: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.aec").write_bytes(tagged)
    code = (
        "import sys, aecodec.plugins.pillow; from PIL import Image; "
        "image = Image.open(sys.argv[1]); image.getexif(); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a.aec"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_damaged_metadata_are_told_of_when_pixels_are_asked_for(tagged: bytes) -> None:
    damaged = bytearray(tagged)
    damaged[tagged.index(b"<x/>")] ^= 1
    for data, cause in (
        (tagged[: tagged.index(PROFILE) + 20], "ends"),
        (bytes(damaged), "checksum"),
        (tagged[: len(tagged) // 2], "ends"),
    ):
        image = Image.open(io.BytesIO(data))
        assert "xmp" not in image.info
        with pytest.raises(OSError, match=cause):
            image.load()


def test_a_closed_image_says_so(coded: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.aec").write_bytes(coded)
    for method in ("load", "verify"):
        for source in (tmp_path / "a.aec", io.BytesIO(coded)):
            image = Image.open(source)
            image.close()
            with pytest.raises(ValueError, match="closed"):
                getattr(image, method)()


def test_other_and_damaged_files(coded: bytes) -> None:
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(b"not an image at all"))
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(coded[:15]))
    cut = Image.open(io.BytesIO(coded[:-50]))
    with pytest.raises(OSError, match="ends"):
        cut.load()


def test_bytes_after_the_file_are_nobodys_business(coded: bytes) -> None:
    for data in (coded + b"\0", coded + coded):
        Image.open(io.BytesIO(data)).verify()
        with Image.open(io.BytesIO(data)) as image:
            np.testing.assert_array_equal(np.asarray(image), aecodec.decode(coded))


def test_pillow_can_be_told_to_show_what_is_left(
    tagged: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = bytearray(tagged)
    damaged[parse_header(tagged).entries[1].offset + 9] ^= 1
    image = Image.open(io.BytesIO(damaged))
    with pytest.raises(OSError, match="checksum"):
        image.load()
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    shown, lost = aecodec.recover(bytes(damaged))
    assert lost == [1]
    with Image.open(io.BytesIO(damaged)) as image:
        image.thumbnail((100, 100))  # no preview, in which damage might leave nothing
        assert image.size[0] == 100
    for data in (bytes(damaged), bytes(damaged[:-20])):
        with Image.open(io.BytesIO(data)) as image:
            np.testing.assert_array_equal(np.asarray(image), shown)


def test_what_was_opened_can_be_saved_as_other_formats_with_its_info(coded: bytes) -> None:
    for kind in ("JPEG", "WEBP", "AVIF", "AEC"):
        with Image.open(io.BytesIO(coded)) as image:
            buffer = io.BytesIO()
            image.save(buffer, kind, **image.info)
        assert Image.open(buffer).size == image.size


def test_verify_compares_checksums(coded: bytes) -> None:
    Image.open(io.BytesIO(coded)).verify()
    damaged = bytearray(coded)
    damaged[len(coded) // 2] ^= 1
    with pytest.raises(OSError, match="checksum"):
        Image.open(io.BytesIO(damaged)).verify()


def test_what_cannot_be_coded_is_an_oserror() -> None:
    with pytest.raises(OSError, match="finite"):
        Image.new("F", (8, 8), float("nan")).save(io.BytesIO(), "AEC")
    with pytest.raises(OSError, match="alpha quality"):
        Image.new("RGBA", (8, 8)).save(io.BytesIO(), "AEC", alpha_quality=0)
    image = Image.new("RGB", (8, 8))
    for key, value in (
        ("quality", 500),
        ("quality", "75"),
        ("effort", 1.5),
        ("effort", "3"),
        ("target_size", "1k"),
        ("alpha_quality", "x"),
        ("exif", 5),
        ("icc_profile", 7),
        ("xmp", [300]),
    ):
        with pytest.raises(OSError, match=key.replace("_", "[_ ]")):
            image.save(io.BytesIO(), "AEC", **{key: value})
    image.save(io.BytesIO(), "AEC", model=None)


@pytest.mark.parametrize("mode", ["L", "RGBA", "I;16"])
def test_files_larger_than_their_samples(mode: str, photo: np.ndarray, tmp_path: Path) -> None:
    """Pillow maps files of raw samples into memory by their names; these are none."""
    image = Image.fromarray(photo).convert("RGBA" if mode == "RGBA" else "L")
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    image.save(tmp_path / "large.aec", xmp=b" " * 2 * photo.nbytes)
    with Image.open(tmp_path / "large.aec") as back:
        scale = 257 if mode == "I;16" else 1
        assert psnr(np.asarray(back) / scale, np.asarray(image) / scale) > 30
    image.save(tmp_path / "full.aec", quality=95)
    shown = []
    for source in (tmp_path / "full.aec", io.BytesIO((tmp_path / "full.aec").read_bytes())):
        with Image.open(source) as back:
            assert back.draft(None, (40, 30)) is not None
            shown.append(np.asarray(back))
    np.testing.assert_array_equal(*shown)


def test_the_bomb_check_works(coded: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(coded))
