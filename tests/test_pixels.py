"""Reading, checking and writing pixels."""

from __future__ import annotations

import io
import logging
import os
import stat
import struct
import threading
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from PIL import Image

from aecodec import pixels
from aecodec.container import Limits
from aecodec.errors import InputError, LimitError, OutputError, UnsupportedImageError

SIDES = st.integers(1, 40)
IMAGES = st.one_of(
    st.tuples(SIDES, SIDES, st.just(3)).flatmap(lambda shape: nps.arrays(np.uint8, shape)),
    st.tuples(SIDES, SIDES).flatmap(lambda shape: nps.arrays(np.uint8, shape)),
)
LOSSLESS = [ending for ending in pixels.WRITERS if not ending.startswith(".jp")]


def png16(channels: int) -> bytes:
    """A PNG of 2 x 2 pixels with 16 bits a sample."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = (b"\0" + b"\x12\x34" * channels * 2) * 2
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, colour, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def only(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


# ---- files ----


@given(image=IMAGES, ending=st.sampled_from(LOSSLESS))
def test_what_is_written_without_loss_is_read_back(tmp_path_factory, image, ending):
    path = tmp_path_factory.mktemp("round") / f"image{ending}"
    pixels.write_image(path, image)
    back = pixels.read_image(path)
    if ending == ".webp" and image.ndim == 2:  # WebP knows no gray
        image = np.repeat(image[:, :, None], 3, axis=2)
    assert back.dtype == np.uint8
    assert back.flags.c_contiguous
    np.testing.assert_array_equal(back, image)
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
    undo = {5: 5, 6: 8, 7: 7, 8: 6}.get(orientation, orientation)
    image = Image.fromarray(upright)
    if orientation > 1:
        image = image.transpose(pixels._TURNS[undo])
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


@pytest.mark.parametrize("mode", ["RGBA", "LA", "CMYK", "I;16", "I", "F", "YCbCr", "LAB", "HSV"])
def test_modes_that_are_not_coded_are_named(tmp_path, mode):
    path = tmp_path / "image.tif"
    image = Image.new(mode, (8, 8))
    if mode == "HSV":  # no file format has it
        with pytest.raises(UnsupportedImageError, match="mode HSV"):
            pixels.as_array(image)
        return
    image.save(path)
    with pytest.raises(UnsupportedImageError, match=r"image\.tif: mode \S+.*; (convert|remove)"):
        pixels.read_image(path)


@pytest.mark.parametrize("mode, value", [("P", 0), ("RGB", (0, 0, 0)), ("L", 0)])
def test_transparent_colours_are_alpha(tmp_path, mode, value):
    path = tmp_path / "image.png"
    Image.new(mode, (8, 8)).save(path, transparency=value)
    with pytest.raises(UnsupportedImageError, match="transparency"):
        pixels.read_image(path)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bits_are_not_cut_to_eight(tmp_path, channels):
    path = tmp_path / "deep.png"
    path.write_bytes(png16(channels))
    with pytest.raises(UnsupportedImageError, match=r"deep\.png.*16 bits a sample"):
        pixels.read_image(path)


def test_sixteen_bit_ppm_and_tiff_are_not_cut_to_eight(tmp_path):
    import tifffile

    ppm, tiff, planar = (tmp_path / name for name in ("deep.ppm", "deep.tif", "planar.tif"))
    ppm.write_bytes(b"P6 2 2 65535\n" + b"\1\2" * 12)
    tifffile.imwrite(tiff, np.zeros((8, 8, 3), np.uint16), photometric="rgb")
    tifffile.imwrite(
        planar, np.zeros((3, 8, 8), np.uint16), photometric="rgb", planarconfig="separate"
    )
    for path in (ppm, tiff, planar):
        with pytest.raises(UnsupportedImageError, match="16 bits a sample"):
            pixels.read_image(path)


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
    with pytest.raises(LimitError, match=r"bomb\.ppm"):
        pixels.read_image(path)
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


# ---- arrays ----


@given(image=IMAGES)
def test_arrays_pass_unchanged_whatever_their_strides(image):
    np.testing.assert_array_equal(pixels.as_array(image), image)
    turned = pixels.as_array(image[::-1, ::-1])
    assert turned.flags.c_contiguous
    np.testing.assert_array_equal(turned, image[::-1, ::-1])
    pillow = pixels.as_array(Image.fromarray(image))
    np.testing.assert_array_equal(pillow, image)


def test_a_single_channel_is_gray():
    assert pixels.as_array(np.ones((5, 4, 1), np.uint8)).shape == (5, 4)


@pytest.mark.parametrize(
    "dtype", [bool, np.int8, np.uint16, np.int64, np.float32, np.float64, object]
)
def test_other_types_are_refused(dtype):
    with pytest.raises(UnsupportedImageError, match="uint8"):
        pixels.as_array(np.zeros((4, 4, 3), dtype))


@pytest.mark.parametrize(
    "shape", [(), (4,), (4, 4, 2), (4, 4, 4), (1, 4, 4, 3), (3, 4, 5), (0, 4), (4, 0, 3), (0, 0)]
)
def test_other_shapes_are_refused(shape):
    with pytest.raises(UnsupportedImageError, match=r"shape \("):
        pixels.as_array(np.zeros(shape, np.uint8))


def test_the_name_is_said():
    with pytest.raises(UnsupportedImageError, match=r"^a\.png: "):
        pixels.as_array(np.zeros((4, 4), bool), name="a.png")


def test_an_empty_pillow_image_is_refused():
    with pytest.raises(UnsupportedImageError, match="no pixels"):
        pixels.as_array(Image.new("RGB", (0, 4)))


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


def test_nothing_is_left_after_a_failure(tmp_path):
    path = tmp_path / "a.bin"
    for failure in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(failure), pixels.atomic_output(path) as fp:
            fp.write(b"half")
            raise failure
        assert only(tmp_path) == set()


def test_a_failing_disk_is_an_output_error_and_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"a\.bin: no space left"):
        pixels.write_bytes(path, b"new", overwrite=True)
    assert path.read_bytes() == b"old"
    assert only(tmp_path) == {"a.bin"}


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path):
    path = tmp_path / "a.bin"
    with pytest.raises(OutputError, match="exists"), pixels.atomic_output(path) as fp:
        fp.write(b"ours")
        path.write_bytes(b"theirs")
    assert path.read_bytes() == b"theirs"
    assert only(tmp_path) == {"a.bin"}


def test_without_hard_links_it_still_works(tmp_path, monkeypatch):
    def no_links(source: object, target: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / "a.bin"
    pixels.write_bytes(path, b"one")
    with pytest.raises(OutputError, match="exists"), pixels.atomic_output(tmp_path / "b") as fp:
        fp.write(b"ours")
        (tmp_path / "b").write_bytes(b"theirs")
    assert path.read_bytes() == b"one"
    assert only(tmp_path) == {"a.bin", "b"}


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_permission_bits_are_those_of_any_new_file(tmp_path, umask):
    before = os.umask(umask)
    try:
        pixels.write_bytes(tmp_path / "a.bin", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.bin").stat().st_mode) == 0o666 & ~umask


def test_links_are_followed_and_special_files_refused(tmp_path):
    real, link = tmp_path / "real.bin", tmp_path / "link.bin"
    real.write_bytes(b"old")
    link.symlink_to(real)
    pixels.write_bytes(link, b"new", overwrite=True)
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="not an ordinary file"):
        pixels.write_bytes(tmp_path / "pipe", b"x", overwrite=True)
    with pytest.raises(OutputError, match="folder"):
        pixels.write_bytes(tmp_path, b"x", overwrite=True)
    with pytest.raises(OutputError, match="no folder"):
        pixels.write_bytes(tmp_path / "no" / "a.bin", b"x")


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
