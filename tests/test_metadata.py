"""EXIF, ICC and XMP from image file to .aec file and back."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps, PngImagePlugin, TiffImagePlugin

import aecodec
from aecodec import metadata, pixels
from aecodec.container import Metadata, parse

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


def wide_gamut() -> bytes:
    """An sRGB profile whose primaries are those of Display P3, D50-adapted."""
    profile = bytearray(PROFILE)
    p3 = {b"rXYZ": (0.51512, 0.2412, -0.00105), b"gXYZ": (0.29198, 0.69225, 0.04189)}
    p3[b"bXYZ"] = (0.1571, 0.06657, 0.78407)
    for tag, values in p3.items():
        at = int.from_bytes(profile[profile.index(tag) + 4 :][:4], "big")
        for i, value in enumerate(values):
            number = round(value * 65536) % 2**32
            profile[at + 8 + 4 * i : at + 12 + 4 * i] = number.to_bytes(4, "big")
    return bytes(profile)


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp"])
def test_a_resolution_is_kept_in_exif(cat: np.ndarray, tmp_path: Path, ending: str) -> None:
    """Unless it is one that programs write unasked."""
    path = tmp_path / f"a.{ending}"
    for dpi, kept in (((300, 150), True), ((72, 72), False), ((96, 96), False), ((0, 0), False)):
        Image.fromarray(cat).save(path, dpi=dpi)
        items = pixels.read_image_file(path).metadata
        assert len(items) == kept
        if kept:
            pixels.write_image(tmp_path / "b.png", cat, metadata=items)
            with Image.open(tmp_path / "b.png") as back:
                tags = back.getexif()
            assert [round(float(tags[tag])) for tag in (282, 283, 296)] == [*dpi, 2]
    exif = Image.Exif()
    exif[MAKE] = "a camera"
    if ending != "bmp":  # EXIF data pass byte for byte
        Image.fromarray(cat).save(path, dpi=(300, 300), exif=exif)
        assert pixels.read_image_file(path).metadata[0].data == exif.tobytes()[6:]


def png_with(image: np.ndarray, chunks: dict[bytes, bytes], **options: object) -> bytes:
    """A PNG with chunks in front of its pixels."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", **options)
    data, parts = buffer.getvalue(), []
    for kind, content in chunks.items():
        body = kind + content
        parts.append(struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body)))
    return data[:33] + b"".join(parts) + data[33:]


SRGB = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
P3 = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)


@pytest.mark.parametrize(
    "chunks, options, lost",
    [
        ({b"cICP": bytes([9, 16, 0, 1])}, {}, "cICP"),
        ({b"cICP": bytes([9, 16, 0, 1])}, {"icc_profile": PROFILE}, "cICP"),
        ({b"cICP": bytes([1, 13, 0, 1])}, {}, ""),
        ({b"gAMA": struct.pack(">I", 100000)}, {}, "gAMA"),
        ({b"gAMA": struct.pack(">I", 45455), b"cHRM": struct.pack(">8I", *SRGB)}, {}, ""),
        ({b"gAMA": struct.pack(">I", 45455), b"cHRM": struct.pack(">8I", *P3)}, {}, "cHRM"),
        ({b"gAMA": struct.pack(">I", 1), b"cHRM": struct.pack(">8I", *P3)}, {}, "gAMA, cHRM"),
        ({b"gAMA": struct.pack(">I", 100000)}, {"icc_profile": PROFILE}, ""),
        ({b"gAMA": struct.pack(">I", 100000), b"sRGB": b"\0"}, {}, ""),
    ],
)
def test_a_colour_space_that_is_lost_is_told_of(
    cat: np.ndarray,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    chunks: dict[bytes, bytes],
    options: dict[str, object],
    lost: str,
) -> None:
    (tmp_path / "a.png").write_bytes(png_with(cat, chunks, **options))
    with caplog.at_level("INFO", "aecodec"):
        np.testing.assert_array_equal(pixels.read_image(tmp_path / "a.png"), cat)
    assert caplog.messages == (
        [f"{tmp_path / 'a.png'}: the colour space in {lost} is not kept"] if lost else []
    )


def test_a_colour_space_of_avif_is_told_of(
    cat: np.ndarray, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for primaries, transfer, words in ((9, 16, "the colour space in nclx"), (1, 13, "")):
        Image.fromarray(cat).save(tmp_path / "a.avif")
        data = bytearray((tmp_path / "a.avif").read_bytes())
        struct.pack_into(">HH", data, data.index(b"nclx") + 4, primaries, transfer)
        (tmp_path / "a.avif").write_bytes(data)
        caplog.clear()
        with caplog.at_level("INFO", "aecodec"):
            pixels.read_image(tmp_path / "a.avif")
        assert words in caplog.text if words else caplog.text == ""


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif"])
def test_a_wide_gamut_stays_with_its_samples(cat: np.ndarray, tmp_path: Path, ending: str) -> None:
    """The profile comes back byte for byte, and the samples are not converted."""
    profile = wide_gamut()
    ImageCms.ImageCmsProfile(io.BytesIO(profile))  # a good one
    Image.fromarray(cat).save(tmp_path / "a.png", icc_profile=profile)
    aecodec.compress(tmp_path / "a.png", tmp_path / "a.aec", quality=30)
    aecodec.decompress(tmp_path / "a.aec", tmp_path / f"b.{ending}")
    with Image.open(tmp_path / f"b.{ending}") as back:
        assert back.info["icc_profile"] == profile
        decoded = aecodec.decode((tmp_path / "a.aec").read_bytes())
        difference = np.asarray(back).astype(int) - decoded
        assert np.abs(difference).mean() < (2 if ending == "jpg" else 1e-9)
    plain = aecodec.encode(cat, 30)
    np.testing.assert_array_equal(aecodec.decode(plain), decoded)


def test_a_gray_profile_is_not_put_on_rgb(
    cat: np.ndarray, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    profile = PROFILE[:16] + b"GRAY" + PROFILE[20:]
    Image.fromarray(cat).convert("L").save(tmp_path / "a.png", icc_profile=profile)
    aecodec.compress(tmp_path / "a.png", tmp_path / "a.aec", quality=30)
    aecodec.decompress(tmp_path / "a.aec", tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as back:
        assert (back.mode, back.info["icc_profile"]) == ("L", profile)
    with caplog.at_level("INFO", "aecodec"):
        aecodec.decompress(tmp_path / "a.aec", tmp_path / "b.webp")
    assert "gray ICC profile" in caplog.text
    with Image.open(tmp_path / "b.webp") as back:
        assert "icc_profile" not in back.info


def test_exif_passes_byte_for_byte_but_for_the_orientation(cat: np.ndarray, tmp_path: Path) -> None:
    """Maker notes point into the whole, so nothing may move."""
    exif = Image.Exif()
    exif[MAKE] = "a camera"
    exif[ORIENTATION] = 8
    exif.get_ifd(0x8769)[0x927C] = b"notes of the maker \x00\x01\x02"
    for endian in ("<", ">"):
        exif.endian = endian
        raw = exif.tobytes()
        Image.fromarray(cat).save(tmp_path / "a.jpg", exif=raw)
        aecodec.compress(tmp_path / "a.jpg", tmp_path / "a.aec", quality=30, overwrite=True)
        data = (tmp_path / "a.aec").read_bytes()
        assert aecodec.info(data).width == cat.shape[0]
        (item,) = parse(data).metadata
        assert len(item.data) == len(raw) - 6
        assert sum(a != b for a, b in zip(item.data, raw[6:], strict=True)) == 1
        kept = Image.Exif()
        kept.load(b"Exif\0\0" + item.data)
        assert kept[ORIENTATION] == 1
        assert kept.get_ifd(0x8769)[0x927C] == exif.get_ifd(0x8769)[0x927C]


@pytest.mark.parametrize(
    "form", ['tiff:Orientation="{}"', "<tiff:Orientation>{}</tiff:Orientation>"]
)
def test_an_orientation_in_xmp_is_applied_once(cat: np.ndarray, tmp_path: Path, form: str) -> None:
    """Pillow turns by it where EXIF says nothing; it must not turn what comes back."""
    xmp = b"<x:xmpmeta><rdf " + form.format(6).encode() + b"/></x:xmpmeta>"
    Image.fromarray(cat).save(tmp_path / "a.jpg", xmp=xmp)
    aecodec.compress(tmp_path / "a.jpg", tmp_path / "a.aec", quality=30)
    aecodec.decompress(tmp_path / "a.aec", tmp_path / "b.png")
    with Image.open(tmp_path / "a.jpg") as image, Image.open(tmp_path / "b.png") as back:
        upright = ImageOps.exif_transpose(image)
        assert back.size == upright.size == cat.shape[:2]
        assert ImageOps.exif_transpose(back).size == back.size
        text = back.info.get("xmp") or back.info["XML:com.adobe.xmp"].encode()
        assert text == xmp.replace(b"6", b"1")


def test_exif_in_a_file_never_turns_what_is_written(cat: np.ndarray, tmp_path: Path) -> None:
    """Files of other writers may hold an orientation; the format says it has no effect."""
    exif = Image.Exif()
    exif[ORIENTATION] = 3
    item = Metadata(b"eXIF", exif.tobytes()[6:])
    (tmp_path / "a.aec").write_bytes(aecodec.encode(cat, 30, metadata=(item,)))
    aecodec.decompress(tmp_path / "a.aec", tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as back:
        assert back.getexif().get(ORIENTATION, 1) == 1


def test_tiff_tags_that_tell_of_the_picture_are_kept(cat: np.ndarray, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[MAKE], exif[ORIENTATION], exif[0x8298] = "a camera", 3, "by me"
    exif.get_ifd(0x8769)[0x829A] = 0.004
    exif.get_ifd(0x8825)[1] = "N"
    Image.fromarray(cat).save(tmp_path / "a.tif", exif=exif.tobytes())
    aecodec.compress(tmp_path / "a.tif", tmp_path / "a.aec", quality=30)
    for ending in ("png", "jpg", "tif"):
        aecodec.decompress(tmp_path / "a.aec", tmp_path / f"b.{ending}")
        with Image.open(tmp_path / f"b.{ending}") as back:
            found = back.getexif()
            assert (found[MAKE], found[0x8298]) == ("a camera", "by me")
            assert found.get_ifd(0x8769)[0x829A] == pytest.approx(0.004)
            assert found.get_ifd(0x8825)[1] == "N"
            assert found.get(ORIENTATION, 1) == 1
            if ending == "png":
                assert 273 not in found  # where the strips of the file lay


@settings(max_examples=60)
@given(st.binary(max_size=80), st.sampled_from([b"", b"II*\0", b"MM\0*"]))
def test_any_bytes_as_exif_and_xmp(data: bytes, start: bytes) -> None:
    items = (Metadata(b"eXIF", start + data), Metadata(b"xMP ", data))
    turn, done = metadata.upright(items)
    assert 1 <= turn <= 8
    assert [len(item.data) for item in done if item.type == b"xMP "] == [len(data)]
    assert metadata.upright(done)[0] == 1


def test_damaged_exif_does_not_stop_the_picture(cat: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(cat).save(path, exif=b"Exif\x00\x00not a TIFF structure")
    aecodec.compress(path, tmp_path / "a.aec", quality=30)
    for ending in ("png", "jpg", "webp", "tif"):
        aecodec.decompress(tmp_path / "a.aec", tmp_path / f"b.{ending}")
        with Image.open(tmp_path / f"b.{ending}") as back:
            assert back.size == (243, 181)


def with_exif(cat: np.ndarray, tags: dict[int, object]) -> bytes:
    """A coded picture whose EXIF data have these tags beside a maker and a directory."""
    exif = Image.Exif()
    exif.update({MAKE: "a camera", 0x4746: 4, **tags})
    exif.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    exif[0x8769] = exif.get_ifd(0x8769)
    raw = exif.tobytes().removeprefix(b"Exif\0\0")
    return aecodec.encode(cat, 30, metadata=(Metadata(b"eXIF", raw),))


@pytest.mark.parametrize(
    "tags",
    [
        {0x100: 101, 0x101: 72},
        {0x106: 6, 0x103: 6, 0x102: (8, 8, 8)},
        {0x111: 8, 0x117: 3, 0x13D: 2, 0x152: 1, 0x153: 3},
        {0x010E: 7},
    ],
)
def test_tags_that_describe_a_file_do_not_describe_another(
    tags: dict[int, object], cat: np.ndarray, tmp_path: Path
) -> None:
    """Some cameras write the layout of a TIFF file into the EXIF data of a JPEG."""
    (tmp_path / "a.aec").write_bytes(data := with_exif(cat, tags))
    aecodec.decompress(tmp_path / "a.aec", tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as back:
        assert back.getexif()[MAKE] == "a camera"
        assert back.getexif()[0x4746] == 4  # the rating
        assert back.getexif().get_ifd(0x8769)[0x9003].startswith("2020")
        np.testing.assert_array_equal(np.asarray(back), aecodec.decode(data))


@pytest.mark.parametrize("tag", [700, 34675])  # XMP, ICC profile
@pytest.mark.parametrize(
    ("kind", "value"), [(4, 1_500_000_000), (3, 700), (3, (300, 400)), (12, 1.5)]
)
def test_numbers_in_place_of_metadata_are_no_metadata(
    tag: int, kind: int, value: object, cat: np.ndarray, tmp_path: Path
) -> None:
    """The number of a LONG is not the length of something."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags.tagtype[tag] = kind
    tags[tag] = value
    Image.fromarray(cat).save(tmp_path / "a.tif", tiffinfo=tags)
    found = pixels.read_image_file(tmp_path / "a.tif")
    assert found.metadata == ()
    np.testing.assert_array_equal(found.pixels, cat)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_damage_in_exif_costs_the_exif_at_most(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    exif = Image.Exif()
    exif.update({MAKE: "a camera", 0x011A: 72.0, 0x0128: 2, 0x9003: "2020:01:01 00:00:00"})
    raw = bytearray(exif.tobytes().removeprefix(b"Exif\0\0"))
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(8, len(raw) - 1))] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("exif")
    for ending in ("tif", "jpg", "png", "webp"):
        path = folder / f"a.{ending}"
        pixels.write_image(path, picture, metadata=(Metadata(b"eXIF", bytes(raw)),))
        with Image.open(path) as back:
            assert back.size == (8, 8)
            assert np.asarray(back).max() <= 1


def test_what_is_too_long_for_jpeg_is_left_out(
    cat: np.ndarray, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    items = (
        Metadata(b"eXIF", b"II*\0\x08\0\0\0\0\0\0\0\0\0" + bytes(65536)),
        Metadata(b"xMP ", b" " * 65536),
        Metadata(b"iCCP", bytes(range(256)) * 300),
    )
    with caplog.at_level("INFO", "aecodec"):
        pixels.write_image(tmp_path / "a.jpg", cat, metadata=items)
    assert "EXIF is too long" in caplog.text
    assert "XMP is too long" in caplog.text
    with Image.open(tmp_path / "a.jpg") as back:
        assert back.info["icc_profile"] == items[2].data


def test_more_metadata_than_readers_accept_is_refused(cat: np.ndarray, tmp_path: Path) -> None:
    for items in (
        (Metadata(b"xMP ", bytes((16 << 20) + 1)),),
        (Metadata(b"note", b""),) * 1025,
    ):
        with pytest.raises(aecodec.LimitError, match="items of metadata"):
            aecodec.encode(cat, 30, metadata=items)


def test_profiles_of_more_than_a_mebibyte(photo: np.ndarray, tmp_path: Path) -> None:
    """As those of printers may be; Pillow alone refuses such a PNG."""
    profile = np.random.default_rng(1).bytes(3 << 19)
    Image.fromarray(photo).save(tmp_path / "a.png", icc_profile=profile)
    items = pixels.read_image_file(tmp_path / "a.png").metadata
    assert metadata.first(items, metadata.ICC) == profile
