"""EXIF, ICC and XMP from image file to .aec file and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

import aecodec
from aecodec.container import parse

XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF/></x:xmpmeta>"
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
MAKE, ORIENTATION = 0x010F, 0x0112


@pytest.fixture
def tagged(cat: np.ndarray, tmp_path: Path) -> Path:
    """A JPEG that lies on its side, with everything in it."""
    exif = Image.Exif()
    exif[MAKE] = "a camera"
    exif[ORIENTATION] = 6
    path = tmp_path / "tagged.jpg"
    image = Image.fromarray(cat)
    image.save(path, quality=95, exif=exif, icc_profile=PROFILE, xmp=XMP)
    return path


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif"])
def test_metadata_come_back(tagged: Path, tmp_path: Path, ending: str) -> None:
    coded, back = tmp_path / "a.aec", tmp_path / f"back.{ending}"
    aecodec.compress(tagged, coded, quality=30)
    aecodec.decompress(coded, back)
    with Image.open(tagged) as before, Image.open(back) as after:
        upright = ImageOps.exif_transpose(before)
        assert after.size == upright.size
        assert after.info["icc_profile"] == PROFILE
        assert after.getexif()[MAKE] == "a camera"
        assert after.getexif().get(ORIENTATION, 1) == 1
        xmp = after.info.get("xmp") or after.info.get("XML:com.adobe.xmp")
        xmp = xmp.encode() if isinstance(xmp, str) else xmp
        assert bytes(xmp) == XMP
        difference = np.asarray(after.convert("RGB")).astype(int) - np.asarray(upright)
        assert np.abs(difference).mean() < 12


def test_the_picture_is_the_same_without_them(tagged: Path, tmp_path: Path) -> None:
    aecodec.compress(tagged, tmp_path / "with.aec", quality=30)
    aecodec.compress(tagged, tmp_path / "without.aec", quality=30, strip=True)
    kept, stripped = ((tmp_path / f"{n}.aec").read_bytes() for n in ("with", "without"))
    assert len(kept) > len(stripped) + len(PROFILE) + len(XMP)
    assert parse(stripped).metadata == ()
    np.testing.assert_array_equal(aecodec.decode(kept), aecodec.decode(stripped))


def test_strip_on_the_way_back(tagged: Path, tmp_path: Path, run: Run) -> None:
    aecodec.compress(tagged, tmp_path / "a.aec", quality=30)
    done = run("decompress", "--strip", tmp_path / "a.aec", tmp_path / "a.png")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "a.png") as image:
        assert not image.getexif()
        assert "icc_profile" not in image.info


def test_metadata_of_png_files(cat: np.ndarray, tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    Image.fromarray(cat).save(tmp_path / "a.png", pnginfo=text, icc_profile=PROFILE)
    aecodec.compress(tmp_path / "a.png", tmp_path / "a.aec", quality=30)
    found = {item.type: item.data for item in parse((tmp_path / "a.aec").read_bytes()).metadata}
    assert found == {b"iCCP": PROFILE, b"xMP ": XMP}


def test_formats_that_cannot_carry_them_say_so(
    tagged: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    aecodec.compress(tagged, tmp_path / "a.aec", quality=30)
    with caplog.at_level("INFO", "aecodec"):
        aecodec.decompress(tmp_path / "a.aec", tmp_path / "a.ppm")
    assert "cannot be kept" in caplog.text


def test_damaged_exif_does_not_stop_the_picture(cat: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(cat).save(path, exif=b"Exif\x00\x00not a TIFF structure")
    aecodec.compress(path, tmp_path / "a.aec", quality=30)
    aecodec.decompress(tmp_path / "a.aec", tmp_path / "a.png")
    assert (tmp_path / "a.png").exists()
