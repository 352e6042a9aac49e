"""Image files of 16 bits a sample: read and written with all of them, where Pillow has 8."""

from __future__ import annotations

import logging
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

import aecodec
from aecodec import pixels
from aecodec.container import EXIF, ICC, XMP, Limits, Metadata
from aecodec.errors import InputError, MissingDependencyError, OutputError, UnsupportedImageError
from aecodec.metadata import collect
from aecodec.samples import eight_bits


def png16(rows: np.ndarray, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG with 16 bits a sample, and chunks before the samples."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    height, width, channels = rows.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
        + b"".join(chunk(*c) for c in chunks)
        + chunk(b"IDAT", zlib.compress(raw))
        + chunk(b"IEND", b"")
    )


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 65536, (5, 7, 4), np.uint16)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_is_read_with_all_its_bits(tmp_path, noise, channels, caplog):
    path = tmp_path / "deep.png"
    path.write_bytes(png16(noise[:, :, :channels]))
    with caplog.at_level(logging.INFO, logger="aecodec"):
        back = pixels.read_image(path)
    np.testing.assert_array_equal(back, noise[:, :, :channels] if channels > 1 else noise[:, :, 0])
    assert caplog.text == ""


def test_transparent_colours_of_png_are_alpha(tmp_path, noise):
    colour = noise[2, 3, :3]
    (tmp_path / "rgb.png").write_bytes(
        png16(noise[:, :, :3], (b"tRNS", colour.astype(">u2").tobytes()))
    )
    back = pixels.read_image(tmp_path / "rgb.png")
    np.testing.assert_array_equal(back[:, :, :3], noise[:, :, :3])
    assert back[2, 3, 3] == 0
    assert (back[:, :, 3] == 65535).sum() == 34
    value = struct.pack(">H", noise[1, 1, 0])
    (tmp_path / "gray.png").write_bytes(png16(noise[:, :, :1], (b"tRNS", value)))
    back = pixels.read_image(tmp_path / "gray.png")
    assert back.shape == (5, 7, 2)
    assert back[1, 1, 1] == 0


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "lzw", "adobe_deflate"])
def test_tiff_is_read_with_all_its_bits(tmp_path, noise, planar, compression):
    path = tmp_path / "deep.tif"
    rgb = noise[:, :, :3] if planar == "contig" else np.moveaxis(noise[:, :, :3], 2, 0)
    tifffile.imwrite(
        path, rgb, photometric="rgb", planarconfig=planar, compression=compression, byteorder=">"
    )
    np.testing.assert_array_equal(pixels.read_image(path), noise[:, :, :3])


def test_alpha_of_tiff(tmp_path, noise):
    straight, multiplied = tmp_path / "straight.tif", tmp_path / "multiplied.tif"
    noise[:, :, 3] |= 0x8000
    noise[0, 0, 3] = 0
    tifffile.imwrite(straight, noise, photometric="rgb", extrasamples=["unassalpha"])
    np.testing.assert_array_equal(pixels.read_image(straight), noise)
    share = noise[:, :, 3:] / 65535
    product = np.dstack([np.rint(noise[:, :, :3] * share), noise[:, :, 3]]).astype(np.uint16)
    tifffile.imwrite(multiplied, product, photometric="rgb", extrasamples=["assocalpha"])
    back = pixels.read_image(multiplied)
    seen = noise[:, :, 3] > 0
    assert np.abs(back[seen].astype(int) - noise[seen]).max() <= 1


def test_white_is_zero(tmp_path, noise):
    path = tmp_path / "negative.tif"
    tifffile.imwrite(path, noise[:, :, 0], photometric="miniswhite")
    np.testing.assert_array_equal(pixels.read_image(path), 65535 - noise[:, :, 0])


@pytest.mark.parametrize("top", [65535, 1023])
def test_ppm_is_read_with_all_its_bits(tmp_path, noise, top):
    values = noise[:, :, :3].astype(int) % (top + 1)
    path = tmp_path / "deep.ppm"
    path.write_bytes(b"P6 7 5 %d\n" % top + values.astype(">u2").tobytes())
    back = pixels.read_image(path)
    assert np.abs(back.astype(float) - values * (65535 / top)).max() <= 0.5


def jpeg2000(values: np.ndarray, bits: int, kind: str = "jp2") -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(values, level=0, bitspersample=bits, codecformat=kind))


@pytest.mark.parametrize("kind", ["jp2", "j2k"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_jpeg_2000_is_read_with_all_its_bits(tmp_path, noise, channels, bits, kind, caplog):
    """White is white: Pillow rounds it up to 256 and so to black."""
    top = 2**bits - 1
    values = np.tile(noise[:, :, :channels], (4, 4, 1)) & np.uint16(top)
    values[0, 0], values[1, 1] = top, 0
    values = values[:, :, 0] if channels == 1 else values
    path = tmp_path / "deep.jp2"
    path.write_bytes(jpeg2000(values if bits > 8 else values.astype(np.uint8), bits, kind))
    with caplog.at_level(logging.INFO, logger="aecodec"):
        back = pixels.read_image(path)
    assert back.dtype == (np.uint16 if bits > 8 else np.uint8)
    scale = 65535 / top if bits > 8 else 1
    assert np.abs(back - values * scale).max() <= 0.5
    assert ("12 bits a sample are coded as 16" in caplog.text) == (bits == 12)
    assert pixels.read_shape(path) == (*back.shape[1::-1], bits)


def test_other_jpeg_2000_is_refused_where_pillow_would_turn_white_black(tmp_path, noise):
    path = tmp_path / "mixed.jp2"
    data = bytearray(jpeg2000(np.tile(noise, (8, 8, 1)), 16))
    at = data.index(b"\xff\x51") + 40
    assert data[at] == 15
    data[at] = 11  # the first component has 12 bits, the others 16
    path.write_bytes(data)
    with pytest.raises(UnsupportedImageError, match=r"mixed\.jp2: .*convert it to 8 bits"):
        pixels.read_image(path)
    gray = bytearray(jpeg2000(np.tile(noise[:, :, 0], (8, 8)), 16))
    gray[gray.index(b"\xff\x51") + 40] = 19
    path.write_bytes(gray)
    with pytest.raises(InputError, match=r"mixed\.jp2"):
        pixels.read_image(path)


def test_avif_with_more_bits_is_read_with_eight_and_a_note(tmp_path, noise, caplog):
    path = tmp_path / "deep.avif"
    for bits, words in ((10, "10 bits a sample is read with 8"), (8, "")):
        values = np.tile(noise[:, :, :3], (8, 8, 1)) >> (16 - bits)
        values = values if bits > 8 else values.astype(np.uint8)
        path.write_bytes(imagecodecs.avif_encode(values, bitspersample=bits, level=90))
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="aecodec"):
            assert pixels.read_image(path).dtype == np.uint8
        assert words in caplog.text if words else caplog.text == ""


def test_the_rest_is_read_with_eight_bits_and_a_note(tmp_path, noise, caplog):
    path = tmp_path / "plain.ppm"
    path.write_bytes(b"P3 2 1 65535\n65535 0 32768 257 514 771\n")
    with caplog.at_level(logging.INFO, logger="aecodec"):
        back = pixels.read_image(path)
    np.testing.assert_array_equal(back, [[[255, 0, 128], [1, 2, 3]]])
    assert "with 16 bits a sample is read with 8" in caplog.text
    tifffile.imwrite(tmp_path / "cmyk.tif", noise, photometric="separated")
    with caplog.at_level(logging.INFO, logger="aecodec"):
        assert pixels.read_image(tmp_path / "cmyk.tif").dtype == np.uint8
    assert "mode CMYK with 16 bits" in caplog.text


def test_other_numbers_in_tiff_are_refused(tmp_path, noise):
    path = tmp_path / "long.tif"
    tifffile.imwrite(path, noise[:, :, :3].astype(np.uint32), photometric="rgb")
    with pytest.raises(InputError, match=r"long\.tif"):
        pixels.read_image(path)


def test_damaged_jpeg_2000_is_an_input_error(tmp_path, noise):
    path = tmp_path / "deep.jp2"
    whole = jpeg2000(np.tile(noise[:, :, :3], (9, 9, 1)), 16)
    for share in (0.02, 0.1, 0.3):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(InputError, match=r"deep\."):
            pixels.read_image(path)


@pytest.mark.parametrize("ending", ["png", "tif", "ppm"])
def test_damaged_deep_files_are_input_errors(tmp_path, noise, ending):
    path = tmp_path / f"deep.{ending}"
    pixels.write_image(path, np.tile(noise[:, :, :3], (9, 9, 1)))
    whole = path.read_bytes()
    for share in (0.2, 0.6, 0.95):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(InputError, match=r"deep\."):
            pixels.read_image(path)
    path.write_bytes(whole)
    with pytest.raises(InputError, match="limits"):
        pixels.read_image(path, limits=Limits(max_pixels=100))


def test_a_tiff_file_deeper_than_a_picture_is_refused_before_it_is_read(tmp_path, noise):
    """`ImageDepth`, of volumes, multiplies what reading allocates."""
    path, depth = tmp_path / "deep.tif", 10**9
    options = {"photometric": "rgb", "compression": "adobe_deflate", "metadata": None}
    tifffile.imwrite(path, noise[:, :, :3], extratags=[(65000, "I", 1, depth, True)], **options)
    entry = struct.pack("<HHI", 65000, 4, 1)
    assert entry in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(entry, struct.pack("<HHI", 32997, 4, 1)))
    with pytest.raises(InputError, match=r"deep\.tif"):
        pixels.read_image(path)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_metadata_of_deep_files(tmp_path, noise, channels, caplog):
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    items = (
        Metadata(EXIF, exif.tobytes().removeprefix(b"Exif\0\0")),
        Metadata(ICC, b"profile" * 40),
        Metadata(XMP, b"<x:xmpmeta>\xc3\xa9</x:xmpmeta>"),
    )
    image = noise[:, :, :channels]
    pixels.write_image(tmp_path / "a.png", image, metadata=items)
    found = pixels.read_image_file(tmp_path / "a.png")
    np.testing.assert_array_equal(found.pixels, image)
    assert found.metadata == items
    with Image.open(tmp_path / "a.png") as opened:
        opened.load()
        assert collect(opened) == items
    with caplog.at_level(logging.INFO, logger="aecodec"):
        pixels.write_image(tmp_path / "a.tif", image, metadata=items)
    assert "a.tif: EXIF cannot be kept" in caplog.text
    assert pixels.read_image_file(tmp_path / "a.tif").metadata == items[1:]


def test_orientation_of_deep_files(tmp_path, noise):
    exif = Image.Exif()
    exif[0x0112] = 6
    tiff = exif.tobytes().removeprefix(b"Exif\0\0")
    (tmp_path / "a.png").write_bytes(png16(noise[:, :, :3], (b"eXIf", tiff)))
    back = pixels.read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(back, np.rot90(noise[:, :, :3], -1))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("shape", [(5, 7), (6, 6)])
def test_orientation_of_deep_tiff_files(tmp_path, noise, orientation, channels, shape):
    """Pillow turns its own samples of a TIFF, and forgets the tag, when it loads them."""
    stored = np.resize(noise, (*shape, 4))[:, :, :channels]
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stored, photometric="rgb", extratags=[(274, 3, 1, orientation, True)])
    expected = np.dstack([pillow_turned(stored[:, :, c], orientation) for c in range(channels)])
    found = pixels.read_image_file(path)
    np.testing.assert_array_equal(found.pixels, expected)
    assert not found.metadata or 274 not in exif_of(found.metadata)


def pillow_turned(plane: np.ndarray, orientation: int) -> np.ndarray:
    """What Pillow makes of a plane of such an orientation."""
    image = Image.fromarray(plane.astype(np.int32))
    image.getexif()[274] = orientation
    return np.asarray(ImageOps.exif_transpose(image)).astype(np.uint16)


def exif_of(items: tuple[Metadata, ...]) -> Image.Exif:
    found = Image.Exif()
    for item in items:
        if item.type == EXIF:
            found.load(item.data)
    return found


@pytest.mark.parametrize("ending", ["webp", "jpg", "bmp"])
def test_formats_of_eight_bits_get_eight_with_a_note(tmp_path, noise, ending, caplog):
    path = tmp_path / f"a.{ending}"
    with caplog.at_level(logging.INFO, logger="aecodec"):
        pixels.write_image(path, noise[:, :, :3])
    assert "written with 8 bits a sample" in caplog.text
    if ending != "jpg":
        np.testing.assert_array_equal(pixels.read_image(path), eight_bits(noise[:, :, :3]))


def test_without_the_packages_the_extra_is_named(tmp_path, noise, monkeypatch):
    rgb, data = noise[:, :, :3], aecodec.encode(noise[:, :, :3])
    (tmp_path / "a.png").write_bytes(png16(rgb))
    (tmp_path / "a.aec").write_bytes(data)
    tifffile.imwrite(tmp_path / "a.tif", rgb, photometric="rgb")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name in ("a.png", "a.tif"):
        with pytest.raises(MissingDependencyError, match=rf"{name}: .*aecodec\[deep\]"):
            pixels.read_image(tmp_path / name)

    def never(*args: object, **options: object) -> None:
        raise AssertionError("decoded in vain")

    monkeypatch.setattr("aecodec.codec.Codec.decode", never)
    with pytest.raises(MissingDependencyError, match=r"b\.png.*imagecodecs"):
        aecodec.decompress(tmp_path / "a.aec", tmp_path / "b.png")
    pixels.write_image(tmp_path / "gray.png", noise[:, :, 0])  # Pillow can
    assert pixels.read_image(tmp_path / "gray.png").dtype == np.uint16


def test_a_size_the_format_does_not_allow_is_an_output_error(tmp_path):
    wide = np.zeros((1, 1_100_000, 3), np.uint16)  # over what libpng takes by default
    with pytest.raises(OutputError, match=r"wide\.png: cannot be written"):
        pixels.write_image(tmp_path / "wide.png", wide)
    assert not (tmp_path / "wide.png").exists()
