"""Reading, checking and writing pixels."""

from __future__ import annotations

import io
import logging
import struct
import threading
import zlib

import numpy as np
import pytest
import tifffile
from conftest import only
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from PIL import Image

from aecodec import pixels
from aecodec.container import Limits
from aecodec.errors import InputError, LimitError, OutputError
from aecodec.samples import has_alpha

SIDES = st.integers(1, 40)
SHAPES = st.tuples(SIDES, SIDES) | st.tuples(SIDES, SIDES, st.integers(2, 4))
IMAGES = st.tuples(st.sampled_from([np.uint8, np.uint16]), SHAPES).flatmap(lambda a: nps.arrays(*a))
LOSSLESS = [ending for ending in pixels.WRITERS if not ending.startswith(".jp")]

UNDO = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


# ---- files ----


def as_the_format_has_it(image: np.ndarray, ending: str) -> np.ndarray:
    """WebP has 8 bits, no gray and no alpha that is all opaque, BMP 8 bits.

    No one reads a TIFF of 16-bit gray with alpha.
    """
    if image.dtype == np.uint16 and ending in {".webp", ".bmp"}:
        image = np.rint(image / 257).astype(np.uint8)
    gray, deep = image.ndim == 2 or image.shape[2] == 2, image.dtype == np.uint16
    if gray and (ending == ".webp" or (ending.startswith(".tif") and deep and image.ndim == 3)):
        channels = [0, 0, 0] if image.ndim == 2 else [0, 0, 0, 1]
        image = image.reshape(*image.shape[:2], -1)[:, :, channels]
    if ending == ".webp" and image.shape[2] == 4 and (image[:, :, 3] == 255).all():
        image = image[:, :, :3]
    return image


@given(image=IMAGES, ending=st.sampled_from(LOSSLESS))
def test_what_is_written_without_loss_is_read_back(tmp_path_factory, image, ending):
    path = tmp_path_factory.mktemp("round") / f"image{ending}"
    if has_alpha(image) and ending in {".bmp", ".ppm"}:
        with pytest.raises(OutputError, match=r"no alpha; use \.png"):
            pixels.write_image(path, image)
        assert only(path.parent) == set()
        return
    pixels.write_image(path, image)
    back, expected = pixels.read_image(path), as_the_format_has_it(image, ending)
    assert back.dtype == expected.dtype
    assert back.flags.c_contiguous
    np.testing.assert_array_equal(back, expected)
    assert only(path.parent) == {path.name}


def test_jpeg_is_close(tmp_path, photo):
    pixels.write_image(tmp_path / "a.JPG", photo)
    back = pixels.read_image(tmp_path / "a.JPG")
    assert np.abs(back.astype(int) - photo).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_orientation_is_applied(tmp_path, orientation, kind):
    upright = np.zeros((24, 40, 3), np.uint8)
    upright[:12, :20] = (250, 20, 20)
    upright[12:, :20] = (20, 250, 20)
    upright[:12, 20:] = (20, 20, 250)
    image = Image.fromarray(upright)
    if orientation > 1:  # turned back
        image = image.transpose(UNDO[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}
    path = tmp_path / "image"
    path.write_bytes(saved(image, kind, exif=exif, **options.get(kind, {})))
    back = pixels.read_image(path)
    assert back.shape == upright.shape
    assert np.abs(back.astype(int) - upright).max() <= 12


@pytest.mark.parametrize("mode", ["1", "P"])
def test_modes_without_loss_are_converted_with_a_note(tmp_path, mode, caplog):
    image = Image.effect_mandelbrot((40, 30), (-2, -1, 1, 1), 50).convert("RGB").convert(mode)
    path = tmp_path / "image.png"
    image.save(path)
    with caplog.at_level(logging.INFO, logger="aecodec"):
        back = pixels.read_image(path)
    np.testing.assert_array_equal(back, np.asarray(image.convert("L" if mode == "1" else "RGB")))
    assert "image.png" in caplog.text
    assert f"mode {mode}" in caplog.text


def test_the_first_frame_of_an_animation_is_read_with_a_note(tmp_path, caplog):
    frames = [Image.new("L", (8, 8), value) for value in (0, 128, 255)]
    path = tmp_path / "moving.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with caplog.at_level(logging.INFO, logger="aecodec"):
        back = pixels.read_image(path)
    assert back.max() == 0
    assert "first of 3 frames" in caplog.text


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_exif_does_not_stop_reading(tmp_path):
    path = tmp_path / "image.jpg"
    path.write_bytes(saved(Image.new("RGB", (8, 8)), "JPEG", exif=b"Exif\0\0MM\0*\0\0\xff\xffjunk"))
    assert pixels.read_image(path).shape == (8, 8, 3)


def test_files_that_are_no_image_are_named(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no picture here")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "done.aec").write_bytes(b"\x89AEC\r\n\x1a\n" + bytes(40))
    for name, cause in {
        "missing.png": "no such file",
        "empty.png": "empty",
        "text.png": "not an image",
        "folder.png": "is a directory",
        "done.aec": "already",
    }.items():
        with pytest.raises(InputError, match=rf"{name}: .*{cause}"):
            pixels.read_image(tmp_path / name)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "PPM", "WEBP", "GIF"])
def test_every_truncated_image_is_an_input_error(tmp_path, kind, photo):
    whole = saved(Image.fromarray(photo[:64, :64]), kind)
    path = tmp_path / "cut"
    for share in (0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(InputError, match="cut: "):
            pixels.read_image(path)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@given(data=st.data())
def test_a_damaged_image_is_read_or_refused(tmp_path_factory, data):
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "TIFF", "GIF", "BMP", "PPM"]))
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    damaged = bytearray(saved(Image.fromarray(noise), kind))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "image"
    path.write_bytes(damaged)
    try:
        image = pixels.read_image(path, limits=Limits(max_pixels=10_000))
    except InputError as error:
        assert str(path) in str(error)
    else:
        assert image.dtype == np.uint8


def test_too_many_pixels_are_refused_before_they_are_read(tmp_path):
    path = tmp_path / "bomb.ppm"
    path.write_bytes(b"P6 100000 100000 255\n")
    for read in (pixels.read_image, pixels.read_shape):
        with pytest.raises(LimitError, match=r"bomb\.ppm"):
            read(path)
    path.write_bytes(b"P6 12000 12000 255\n")  # where Pillow would only warn
    with pytest.raises(InputError, match="truncated"):
        pixels.read_image(path)
    with pytest.raises(LimitError, match=r"12000 x 12000.*1000000 pixels"):
        pixels.read_image(path, limits=Limits(max_pixels=1_000_000))


def test_higher_limits_than_pillows_are_possible_and_leave_pillows_alone(tmp_path, monkeypatch):
    path = tmp_path / "image.png"
    Image.new("L", (100, 100)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(LimitError):
        pixels.read_image(path, limits=Limits(max_pixels=150))
    assert pixels.read_image(path, limits=Limits(max_pixels=10_000)).shape == (100, 100)
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_transparent_gray_of_few_bits(tmp_path, bits):
    """Pillow scales samples to 8 bits, and leaves the transparent one as it was."""
    values = (np.arange(64).reshape(2, 32) % 2**bits).astype(np.uint8)
    rows = [np.packbits(np.unpackbits(row[:, None], axis=1)[:, -bits:]) for row in values]
    key = min(5, 2**bits - 1)
    path = tmp_path / "key.png"
    path.write_bytes(gray_png(32, bits, rows, struct.pack(">H", key)))
    back = pixels.read_image(path)
    np.testing.assert_array_equal(back[:, :, 1], np.where(values == key, 0, 255))
    np.testing.assert_array_equal(back[:, :, 0], values * (255 // (2**bits - 1)))


def gray_png(width: int, bits: int, rows: list[np.ndarray], key: bytes) -> bytes:
    """A PNG of packed rows with a transparent gray."""
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, len(rows), bits, 0, 0, 0, 0)
    chunks = (b"IHDR", header), (b"tRNS", key), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


@pytest.mark.parametrize(
    "values, options, words",
    [
        (np.zeros((4, 5, 2), np.uint16), {"extrasamples": ["unassalpha"]}, "2 channels of 16-bit"),
        (np.zeros((4, 5), np.float16), {}, "16-bit floats"),
        (np.zeros((4, 5), np.float64), {}, "64-bit floats"),
        (np.zeros((4, 5), np.uint64), {}, "64-bit integers"),
        (np.zeros((4, 5, 3), np.float32), {"photometric": "rgb"}, "3 channels of 32-bit floats"),
    ],
)
@pytest.mark.parametrize("big", [False, True])
def test_kinds_of_tiff_that_pillow_does_not_know(tmp_path, values, options, words, big):
    path = tmp_path / "odd.tif"
    tifffile.imwrite(path, values, bigtiff=big, **{"photometric": "minisblack", **options})
    cause = rf"odd\.tif: this kind of TIFF is not supported \(.*{words}"
    with pytest.raises(InputError, match=cause):
        pixels.read_image(path)
    path.write_bytes(path.read_bytes()[:14])
    with pytest.raises(InputError, match=r"odd\.tif: a damaged TIFF file"):
        pixels.read_image(path)


# ---- writing ----


@pytest.mark.parametrize("name, cause", [("a.xyz", r"'\.xyz'"), ("a", "no extension")])
def test_unknown_extensions_are_refused(tmp_path, name, cause):
    with pytest.raises(OutputError, match=rf"{cause}; use one of \.png"):
        pixels.write_image(tmp_path / name, np.zeros((4, 4), np.uint8))
    assert only(tmp_path) == set()


def test_existing_files_are_kept_unless_asked(tmp_path):
    path = tmp_path / "a.png"
    path.write_text("precious")
    with pytest.raises(OutputError, match="exists"):
        pixels.write_image(path, np.zeros((4, 4), np.uint8))
    assert path.read_text() == "precious"
    pixels.write_image(path, np.zeros((4, 4), np.uint8), overwrite=True)
    assert pixels.read_image(path).shape == (4, 4)
    assert only(tmp_path) == {"a.png"}


def test_a_size_the_format_does_not_allow_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match=r"wide\.webp: .*WEBP \(20000 x 1\)"):
        pixels.write_image(tmp_path / "wide.webp", np.zeros((1, 20000), np.uint8))
    assert only(tmp_path) == set()


def test_images_are_read_in_many_threads(tmp_path, photo):
    path = tmp_path / "a.png"
    Image.fromarray(photo).save(path)
    results: list[bool] = []

    def read() -> None:
        results.append(bool((pixels.read_image(path) == photo).all()))

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 8
