"""Arrays and Pillow images as samples."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import numpy as np
import pytest
import tifffile
from conftest import cmyk_profile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from PIL import Image, ImageOps

import aecodec
from aecodec import pixels, samples
from aecodec.container import parse
from aecodec.errors import UnsupportedImageError

SIDES = st.integers(1, 40)
SHAPES = st.tuples(SIDES, SIDES) | st.tuples(SIDES, SIDES, st.integers(2, 4))
IMAGES = st.tuples(st.sampled_from([np.uint8, np.uint16]), SHAPES).flatmap(lambda a: nps.arrays(*a))


# ---- arrays ----


@given(image=IMAGES)
def test_arrays_pass_unchanged_whatever_their_memory(image):
    np.testing.assert_array_equal(samples.as_array(image), image)
    read_only = image.copy()
    read_only.flags.writeable = False
    for other in (
        image[::-1, ::-1],
        np.asfortranarray(image),
        np.repeat(image, 2, axis=1)[:, ::2],
        read_only,
        image.astype(image.dtype.newbyteorder(">")),
    ):
        taken = samples.as_array(other)
        assert taken.flags.c_contiguous
        assert taken.dtype == image.dtype
        assert taken.dtype.isnative
        np.testing.assert_array_equal(taken, other)


@given(image=IMAGES)
def test_pillow_images_are_their_samples(image):
    if image.dtype == np.uint16 and image.ndim == 3:  # Pillow has no such mode
        image = image[:, :, 0]
    np.testing.assert_array_equal(samples.as_array(Image.fromarray(image)), image)


def test_a_single_channel_is_gray():
    assert samples.as_array(np.ones((5, 4, 1), np.uint8)).shape == (5, 4)


@pytest.mark.parametrize(
    ("dtype", "hint"),
    [
        (bool, "multiply by 255"),
        (np.float32, r"scale to 0\.\.255 and round to uint8"),
        (np.float64, r"0\.\.65535 and uint16"),
        (np.int8, "give uint8"),
        (np.int64, "give uint8"),
        (np.uint32, "give uint8"),
        (object, "give uint8"),
        (np.complex64, "give uint8"),
    ],
)
def test_other_types_are_refused_with_a_hint(dtype, hint):
    with pytest.raises(UnsupportedImageError, match=hint):
        samples.as_array(np.zeros((4, 4, 3), dtype))


def test_what_is_no_array_is_refused():
    with pytest.raises(UnsupportedImageError, match="codes files"):
        samples.as_array("photo.png")
    with pytest.raises(UnsupportedImageError, match="not an array"):
        samples.as_array([[1, 2], [3]])
    with pytest.raises(UnsupportedImageError, match="object"):
        samples.as_array(None)


@pytest.mark.parametrize(
    "shape", [(), (4,), (1, 4, 4, 3), (3, 4, 5), (4, 4, 0), (0, 4), (4, 0, 3), (0, 0)]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_other_shapes_are_refused(shape, dtype):
    with pytest.raises(UnsupportedImageError, match=r"shape \("):
        samples.as_array(np.zeros(shape, dtype))


def test_the_name_is_said():
    with pytest.raises(UnsupportedImageError, match=r"^a\.png: "):
        samples.as_array(np.zeros((4, 4), bool), name="a.png")


def test_an_empty_pillow_image_is_refused():
    with pytest.raises(UnsupportedImageError, match="no pixels"):
        samples.as_array(Image.new("RGB", (0, 4)))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 2), (5, 7, 3), (5, 7, 4)])
def test_turning_is_what_pillow_does(orientation, shape):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    tagged = Image.fromarray(image)
    tagged.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(tagged))
    np.testing.assert_array_equal(samples.upright(image, orientation), expected)
    deep = samples.upright(image.astype(np.uint16) * 257, orientation)
    np.testing.assert_array_equal(deep, expected.astype(np.uint16) * 257)
    assert deep.flags.c_contiguous


def test_eight_bits_are_the_nearest():
    deep = np.arange(65536, dtype=np.uint16)[None]
    expected = np.floor(deep / 257 + 0.5)
    np.testing.assert_array_equal(samples.eight_bits(deep), expected)


# ---- modes of Pillow, from files ----

OWN = {"L": 2, "LA": 3, "RGB": 3, "RGBA": 3, "I;16": 2}
CONVERTED = {"1": "gray", "P": "RGB", "CMYK": "RGB", "LAB": "RGB"}
CONVERTED |= {"I": "16-bit gray", "F": "16-bit gray"}


@pytest.fixture
def pictures(cat: np.ndarray, tmp_path: Path) -> dict[str, Path]:
    """The same picture in every mode, as a file."""
    rgb = Image.fromarray(cat)
    ramp = Image.linear_gradient("L").resize(rgb.size)
    made = {mode: rgb.convert(mode) for mode in ("1", "L", "P", "RGB", "CMYK", "LAB")}
    made["LA"] = Image.merge("LA", (rgb.convert("L"), ramp))
    made["RGBA"] = Image.merge("RGBA", (*rgb.split(), ramp))
    gray = np.asarray(rgb.convert("L"))
    made["I;16"] = Image.fromarray(gray.astype(np.uint16) * 257)
    made["I"] = Image.fromarray(gray.astype(np.int32) * 257)
    made["F"] = Image.fromarray(gray.astype(np.float32) / 255)
    paths = {}
    for mode, image in made.items():
        assert image.mode == mode
        paths[mode] = tmp_path / f"{mode.replace(';', '')}.tif"
        image.save(paths[mode])
    return paths


def test_modes_with_a_form_of_their_own_keep_it(pictures, caplog):
    with caplog.at_level(logging.INFO, logger="aecodec"):
        for mode in OWN:
            back = pixels.read_image(pictures[mode])
            with Image.open(pictures[mode]) as image:
                np.testing.assert_array_equal(back, np.asarray(image))
    assert caplog.text == ""


@pytest.mark.parametrize("mode", list(CONVERTED))
def test_other_modes_are_converted_with_a_note(pictures, mode, cat, caplog):
    with caplog.at_level(logging.INFO, logger="aecodec"):
        back = pixels.read_image(pictures[mode])
    note = caplog.messages[0]
    assert f"{mode}.tif: mode {mode}" in note
    assert f"is coded as {CONVERTED[mode]}" in note
    gray = np.asarray(Image.fromarray(cat).convert("L"))
    if mode in ("I", "F"):
        np.testing.assert_allclose(back, gray.astype(float) * 257, atol=0.5)
    elif mode == "1":
        assert set(np.unique(back)) == {0, 255}
    else:
        limit = {"P": 30, "LAB": 4}.get(mode, 1.5)
        assert np.abs(back.astype(int) - cat).mean() < limit


@pytest.mark.parametrize("mode", ["HSV", "YCbCr", "RGBX", "RGBa", "La", "PA", "I;16B", "I;16L"])
def test_modes_that_only_memory_knows(mode, cat, caplog):
    """And YCbCr, as Pillow before 13 cannot read back the TIFF files that it writes of it."""
    rgb = Image.fromarray(cat)
    via = {"RGBa": "RGBA", "La": "LA", "PA": "P", "I;16B": "I", "I;16L": "I"}
    image = rgb.convert(via[mode]).convert(mode) if mode in via else rgb.convert(mode)
    with caplog.at_level(logging.INFO, logger="aecodec"):
        taken = samples.as_array(image)
    shapes = {"HSV": 3, "YCbCr": 3, "RGBX": 3, "RGBa": 4, "La": 2, "PA": 4}
    if mode.startswith("I"):
        assert (taken.ndim, taken.dtype, caplog.text) == (2, np.uint16, "")
        np.testing.assert_array_equal(taken, np.asarray(rgb.convert("I")))
        return
    assert taken.shape[2] == shapes[mode]
    assert f"mode {mode}" in caplog.text
    if mode == "YCbCr":
        assert np.abs(taken.astype(int) - cat).mean() < 1.5


def test_numbers_beyond_sixteen_bits_are_stretched(caplog):
    heights = np.linspace(-100, 3000, 64 * 64).reshape(64, 64)
    for values in (heights.astype(np.float32), heights.astype(np.int32)):
        with caplog.at_level(logging.INFO, logger="aecodec"):
            taken = samples.as_array(Image.fromarray(values))
        assert "-100 to 3000" in caplog.text
        assert (taken.min(), taken.max()) == (0, 65535)
        assert (np.diff(taken.ravel().astype(int)) >= 0).all()
    assert samples.as_array(Image.new("F", (4, 4), 7.5)).max() == 0


def test_tiff_integers_keep_their_order(tmp_path, caplog):
    """Pillow takes unsigned ones of 32 bits for signed, and signed ones of 8 for unsigned."""
    path = tmp_path / "a.tif"
    wide = np.linspace(0, 2**32 - 1, 20).astype(np.uint32).reshape(4, 5)
    tifffile.imwrite(path, wide, photometric="minisblack")
    with caplog.at_level(logging.INFO, logger="aecodec"):
        back = pixels.read_image(path)
    np.testing.assert_array_equal(back, np.rint(wide / (2**32 - 1) * 65535))
    assert "mode I, 0 to 4.29497e+09, is coded as 16-bit gray" in caplog.text
    small = np.linspace(-128, 127, 20).astype(np.int8).reshape(4, 5)
    tifffile.imwrite(path, small, photometric="minisblack")
    with caplog.at_level(logging.INFO, logger="aecodec"):
        back = pixels.read_image(path)
    np.testing.assert_array_equal(back, small.astype(int) + 128)
    assert back.dtype == np.uint8
    assert "a.tif: signed samples, -128 to 127, are coded as 0 to 255" in caplog.text


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(bad):
    values = np.zeros((4, 4), np.float32)
    values[1, 2] = bad
    with pytest.raises(UnsupportedImageError, match="not finite"):
        samples.as_array(Image.fromarray(values))


@pytest.mark.parametrize(
    ("mode", "transparency", "channels"),
    [("P", 0, 4), ("P", b"\x00\x80\xff", 4), ("RGB", (0, 0, 0), 4), ("L", 0, 2), ("1", 0, 2)],
)
def test_transparent_colours_are_alpha(tmp_path, mode, transparency, channels, caplog):
    image = Image.new(mode, (8, 8))
    if mode == "P":
        image.putpalette([0, 0, 0, 255, 255, 255, 0, 0, 255])
    image.paste({"P": 1, "RGB": (255, 255, 255)}.get(mode, 255), (4, 0, 8, 8))
    path = tmp_path / "image.png"
    image.save(path, transparency=transparency)
    with caplog.at_level(logging.INFO, logger="aecodec"):
        back = pixels.read_image(path)
    assert back.shape == (8, 8, channels)
    assert (back[:, :4, -1] == 0).all()
    expected = 128 if isinstance(transparency, bytes) else 255
    assert (back[:, 4:, -1] == expected).all()
    assert "with transparency is coded as" in caplog.text


def test_a_transparent_gray_of_sixteen_bits(tmp_path):
    values = np.array([[1000, 2000], [1000, 65535]], np.uint16)
    image = Image.fromarray(values)
    image.info["transparency"] = 1000
    taken = samples.as_array(image)
    np.testing.assert_array_equal(taken[:, :, 0], values)
    np.testing.assert_array_equal(taken[:, :, 1], [[0, 65535], [0, 65535]])


# ---- CMYK ----


@pytest.mark.parametrize("ending", ["tif", "jpg"])
def test_cmyk_goes_through_its_profile(tmp_path, ending, caplog):
    """The profile says that full cyan is a certain orange; without it, cyan is guessed."""
    profile = cmyk_profile(cyan=(60, 40, 60))
    image = Image.new("CMYK", (32, 32), (255, 0, 0, 0))
    with_profile, without = tmp_path / f"with.{ending}", tmp_path / f"without.{ending}"
    image.save(with_profile, icc_profile=profile)
    image.save(without)
    found = pixels.read_image_file(with_profile)
    assert found.metadata == ()  # samples are sRGB now
    red, green, blue = found.pixels.reshape(-1, 3).mean(axis=0)
    assert red > 200 > 150 > green > blue + 40
    with caplog.at_level(logging.INFO, logger="aecodec"):
        red, green, blue = pixels.read_image(without).reshape(-1, 3).mean(axis=0)
    assert red < 5
    assert green > 250 < blue
    assert "without an ICC profile" in caplog.text


@pytest.mark.parametrize("profile", [b"junk", cmyk_profile((50, 0, 0))[:-300], "rgb"])
def test_a_profile_that_cannot_be_used_is_left_out_with_a_note(profile, caplog):
    if profile == "rgb":
        from PIL import ImageCms

        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    image.info["icc_profile"] = profile
    with caplog.at_level(logging.INFO, logger="aecodec"):
        taken = samples.as_array(image)
    np.testing.assert_array_equal(taken, np.asarray(image.convert("RGB")))
    assert "cannot be used" in caplog.text


def test_a_cmyk_profile_never_reaches_an_aec_file(tmp_path):
    image = Image.new("CMYK", (32, 32), (255, 0, 0, 0))
    image.save(tmp_path / "a.jpg", icc_profile=cmyk_profile(cyan=(60, 40, 60)))
    aecodec.compress(tmp_path / "a.jpg", tmp_path / "a.aec")
    assert parse((tmp_path / "a.aec").read_bytes()).metadata == ()
    aecodec.register_pillow()
    buffer = io.BytesIO()
    with Image.open(tmp_path / "a.jpg") as cmyk:
        cmyk.save(buffer, "AEC")
    with Image.open(buffer) as back:
        red, green, blue = np.asarray(back).reshape(-1, 3).mean(axis=0)
        assert "icc_profile" not in back.info
    assert red > 190 > 150 > green > blue + 30
