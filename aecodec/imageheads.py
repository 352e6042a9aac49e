"""What the headers of image files say, and Pillow does not: bits a sample, colour spaces.

All functions take a binary file from which Pillow opened an image, and leave its position alone.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

from PIL import Image, TiffImagePlugin

_WIDTH, BITS_PER_SAMPLE, _COMPRESSION, SAMPLE_FORMAT = 256, 258, 259, 339  # TIFF
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_TIFF_NUMBERS = {1: "integers", 2: "signed integers", 3: "floats"}
_CODESTREAM = b"\xff\x4f\xff\x51"  # of JPEG 2000: the markers SOC and SIZ
_LARGEST_META = 1 << 20  # bytes of AVIF's box of properties that are looked at
_HIGH, _TWELVE = 0x40, 0x20  # bits of AVIF's av1C: more than 8 bits a sample, 12 of them
#: Code points of ITU-T H.273 that are sRGB's, close to them, or say nothing.
_SRGB_PRIMARIES, _SRGB_TRANSFERS = (1, 2), (1, 2, 6, 13, 14, 15)
_SRGB_GAMMA = 0.45455
_SRGB_CHROMATICITY = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
_NEAR = 0.005  # differences of gamma and chromaticity that do not count


class Component(NamedTuple):
    """Of a JPEG 2000 file: bits a sample, whether they are signed, and its steps in pixels."""

    bits: int
    signed: bool
    step_x: int
    step_y: int


@contextmanager
def _kept(fp: BinaryIO) -> Iterator[None]:
    """Put a file back to where it stands."""
    at = fp.tell()
    try:
        yield
    finally:
        fp.seek(at)


def bits(fp: BinaryIO, image: Image.Image) -> int:
    """Bits a sample in the file of an image that is not loaded; Pillow may read fewer."""
    found = 8
    tags = getattr(image, "tag_v2", None)
    if tags is not None:
        sizes = tags.get(BITS_PER_SAMPLE, 8)
        found = max(sizes) if isinstance(sizes, tuple) else sizes
    elif image.format == "JPEG2000" and image.mode != "P":
        found = max([8, *(part.bits for part in components(fp))])
    elif image.format == "AVIF":
        found = _avif_bits(_avif_properties(fp))
    for tile in getattr(image, "tile", ()):
        args = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        # ";16" of "I;16B" or "RGB;16L"; "BGR;16" has 16 bits for all three
        if any(isinstance(arg, str) and ";16" in arg and arg != "BGR;16" for arg in args):
            found = max(found, 16)
        if tile.codec_name.startswith("ppm") and isinstance(args[-1], int):
            found = max(found, args[-1].bit_length())
        if tile.codec_name.lower() == "sgi16":
            found = max(found, 16)
    return found


def components(fp: BinaryIO) -> tuple[Component, ...]:
    """What the header of a JPEG 2000 file says of its components; nothing if it is not found."""
    with _kept(fp):
        fp.seek(0)
        start: int | None = 0
        if fp.read(4) != _CODESTREAM:
            start = next((at for kind, at, _ in _boxes(fp) if kind == b"jp2c"), None)
        if start is None:
            return ()
        fp.seek(start)
        head = fp.read(42)
        if len(head) < 42 or head[:4] != _CODESTREAM:
            return ()
        (count,) = struct.unpack_from(">H", head, 40)
        sizes = fp.read(3 * count)
    fields = (sizes[at : at + 3] for at in range(0, len(sizes) - 2, 3))
    return tuple(Component((s & 0x7F) + 1, s > 0x7F, x, y) for s, x, y in fields)


def _boxes(fp: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Each box of an ISO file: its kind, where its content begins and ends, in bytes."""
    at = 0
    while True:
        fp.seek(at)
        head = fp.read(16)
        if len(head) < 16:
            return
        length, kind = struct.unpack_from(">I4s", head)
        start = 8
        if length == 1:
            (length,), start = struct.unpack_from(">Q", head, 8), 16
        if length < start or at + length >= 2**63:  # to the end of the file, or damaged
            yield kind, at + start, 2**63 - 1
            return
        yield kind, at + start, at + length
        at += length


def _avif_properties(fp: BinaryIO) -> bytes:
    with _kept(fp):
        for kind, start, end in _boxes(fp):
            if kind == b"meta":
                fp.seek(start)
                return fp.read(min(end - start, _LARGEST_META))
    return b""


def _avif_bits(properties: bytes) -> int:
    found, at = 8, properties.find(b"av1C\x81")
    while 0 <= at < len(properties) - 6:
        flags = properties[at + 6]
        found = max(found, (12 if flags & _TWELVE else 10) if flags & _HIGH else 8)
        at = properties.find(b"av1C\x81", at + 1)
    return found


def colour_space(fp: BinaryIO, image: Image.Image) -> str:
    """What in a file says that colours are not sRGB's, its ICC profile aside; empty if nothing."""
    managed = "icc_profile" in image.info
    if image.format == "AVIF" and not managed:
        properties = _avif_properties(fp)
        at = properties.find(b"colrnclx")
        codes = properties[at + 8 : at + 12] if at >= 0 else b""
        return "nclx" if len(codes) == 4 and _is_foreign(*struct.unpack(">HH", codes)) else ""
    if image.format != "PNG":
        return ""
    codes = _png_chunk(fp, b"cICP")
    if len(codes) == 4:  # which goes before all others
        return "cICP" if _is_foreign(codes[0], codes[1]) else ""
    if managed or "srgb" in image.info:
        return ""
    gamma = image.info.get("gamma", _SRGB_GAMMA)
    chromaticity = image.info.get("chromaticity", _SRGB_CHROMATICITY)
    pairs = zip(chromaticity, _SRGB_CHROMATICITY, strict=False)
    found = ["gAMA"] if abs(gamma - _SRGB_GAMMA) > _NEAR else []
    found += ["cHRM"] if any(abs(a - b) > _NEAR for a, b in pairs) else []
    return ", ".join(found)


def _is_foreign(primaries: int, transfer: int) -> bool:
    return primaries not in _SRGB_PRIMARIES or transfer not in _SRGB_TRANSFERS


def _png_chunk(fp: BinaryIO, kind: bytes) -> bytes:
    """The first bytes, at most 16, of a chunk in front of a PNG's pixels; empty without one."""
    at = 8
    with _kept(fp):
        while True:
            fp.seek(at)
            head = fp.read(8)
            length, found = struct.unpack(">I4s", head) if len(head) == 8 else (0, b"IEND")
            if found in (b"IDAT", b"IEND"):
                return b""
            if found == kind:
                return fp.read(min(length, 16))
            at += length + 12


def tiff_cause(fp: BinaryIO) -> str:
    """Why Pillow cannot open a TIFF file; empty if it is none."""
    with _kept(fp):
        fp.seek(0)
        start = fp.read(16)
        if start[:4] not in _TIFF_STARTS:
            return ""
        try:
            tags = TiffImagePlugin.ImageFileDirectory_v2(start[: 16 if b"+" in start[:4] else 8])
            fp.seek(tags.next)
            tags.load(fp)
            sizes, formats = tags.get(BITS_PER_SAMPLE, 1), tags.get(SAMPLE_FORMAT, 1)
        except Exception:  # noqa: BLE001 - Pillow raises what it happens upon
            return "a damaged TIFF file"
    if _WIDTH not in tags:
        return "a damaged TIFF file"
    size = max(sizes) if isinstance(sizes, tuple) else sizes
    form = max(formats) if isinstance(formats, tuple) else formats
    count = tags.get(277, 1)
    numbers = _TIFF_NUMBERS.get(form, "other numbers")
    channels = "a channel" if count == 1 else f"{count} channels"
    kind = f"{channels} of {size}-bit {numbers}, compression {tags.get(_COMPRESSION, 1)}"
    return f"this kind of TIFF is not supported ({kind}); convert it to RGB of 8 or 16 bits"
