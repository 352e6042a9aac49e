"""Files with several channels of 16 bits, which Pillow reads as 8 bits and cannot write.

PNG and JPEG 2000 go through imagecodecs, TIFF through tifffile: the extra `aecodec[deep]`.
"""

from __future__ import annotations

import importlib.util
import io
import logging
import struct
import zlib
from collections.abc import Iterable
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from aecodec.errors import MissingDependencyError, UnsupportedImageError
from aecodec.imageheads import Component, components
from aecodec.layout import EXIF, ICC, XMP, Metadata
from aecodec.metadata import first, is_gray, upright
from aecodec.samples import Samples, sixteen_bits

log = logging.getLogger("aecodec")

_PACKAGES = {
    "PNG": ("imagecodecs",),
    "JPEG2000": ("imagecodecs",),
    "TIFF": ("tifffile", "imagecodecs"),
    "PPM": (),
}
KINDS = ("PNG", "TIFF", "PPM")
"""Pillow's names of the formats that are read and written here; JPEG 2000 is read."""
_MODES = ("LA", "RGB", "RGBA")

_PNG_START = 33  # bytes of signature and IHDR
_ASSOCIATED = 1  # TIFF: colour is multiplied by alpha
_CHANNELS = 16  # of a TIFF at most; the first three or four are read


def require(kind: str, where: str) -> None:
    """Raise `MissingDependencyError`, which names the extra, unless the packages are there."""
    missing = [name for name in _PACKAGES[kind] if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependencyError(
            f"{where}colour with 16 bits a sample in a {kind} file needs "
            f"{' and '.join(missing)}: pip install 'aecodec[deep]'"
        )


def read(fp: BinaryIO, image: Image.Image, tiles: list[Any], where: str) -> Samples | None:
    """16-bit samples of a file that Pillow opened, not upright; None if there is no way.

    Args:
        fp: the file.
        image: what Pillow made of it, with its size and its channels.
        tiles: where Pillow found the samples.
        where: begins messages.

    Raises:
        MissingDependencyError: the packages are not installed.
        UnsupportedImageError: a TIFF or JPEG 2000 with another type of samples.
        Exception: whatever the packages raise for damaged files.
    """
    kind = str(image.format)
    if kind == "PPM":
        samples = _read_ppm(fp, image, tiles)
    elif kind == "JPEG2000":
        samples = _read_jpeg2000(fp, image, where)
    elif kind not in KINDS or image.mode not in _MODES:
        return None
    else:
        require(kind, where)
        if kind == "PNG":
            import imagecodecs

            fp.seek(0)
            samples = imagecodecs.png_decode(fp.read())
        else:
            samples = _read_tiff(fp, image, where)
    if samples is not None and sorted(samples.shape[:2]) != sorted(image.size):
        raise ValueError("its size is stored twice, differently")
    return samples


def _read_ppm(fp: BinaryIO, image: Image.Image, tiles: list[Any]) -> Samples | None:
    tile = tiles[0]
    if tile.codec_name != "ppm" or image.mode != "RGB":  # in decimal
        return None
    fp.seek(tile.offset)
    shape = (image.height, image.width, 3)
    values = np.frombuffer(fp.read(6 * image.width * image.height), ">u2").reshape(shape)
    return sixteen_bits(values, int(tile.args[-1]))


def _read_jpeg2000(fp: BinaryIO, image: Image.Image, where: str) -> Samples:
    """Never None: Pillow rounds white up to 256, which is black in 8 bits."""
    found = set(components(fp))
    bits = max(part.bits for part in found)
    if found != {Component(bits, False, 1, 1)} or bits > 16 or image.mode not in _MODES:
        raise UnsupportedImageError(
            f"{where}a JPEG 2000 file of mode {image.mode} with {bits} bits a sample, or with "
            "components that differ, is not coded; convert it to 8 bits"
        )
    require("JPEG2000", where)
    import imagecodecs

    fp.seek(0)
    samples = np.asarray(imagecodecs.jpeg2k_decode(fp.read()))
    if bits < 16:
        log.info("%s%d bits a sample are coded as 16", where, bits)
    return sixteen_bits(samples, 2**bits - 1)


def _read_tiff(fp: BinaryIO, image: Image.Image, where: str) -> Samples:
    import tifffile

    fp.seek(0)
    with tifffile.TiffFile(fp) as file:
        page: Any = file.pages[0]
        if page.dtype != np.uint16 or page.bitspersample != 16:
            kind = f"a TIFF of {page.bitspersample} bits a sample, {page.dtype},"
            raise UnsupportedImageError(f"{where}{kind} is not coded; convert it to 16 bits")
        size = (page.imagewidth, page.imagelength)  # which Pillow turns by the orientation
        deeper = page.samplesperpixel > _CHANNELS or page.imagedepth != 1
        if sorted(size) != sorted(image.size) or deeper:
            raise ValueError("its size is not what Pillow found, or it has too many channels")
        samples = np.asarray(page.asarray())
        associated = _ASSOCIATED in [int(extra) for extra in page.extrasamples]
    if page.axes == "SYX":
        samples = np.moveaxis(samples, 0, 2)
    samples = samples[:, :, : len(image.getbands())]
    if associated and samples.shape[2] == 4:
        alpha = np.maximum(samples[:, :, 3:], 1).astype(np.uint32)
        straight = (samples[:, :, :3].astype(np.uint32) * 65535 + alpha // 2) // alpha
        samples = np.dstack([np.minimum(straight, 65535).astype(np.uint16), samples[:, :, 3]])
    return samples


def encode(kind: str, samples: Samples, metadata: Iterable[Metadata], where: str) -> bytes:
    """Bytes of an image file, one of `KINDS`.

    Args:
        kind: the format.
        samples: `uint16` of shape (H, W, 2), (H, W, 3) or (H, W, 4).
        metadata: what of it the format can carry is written, too; the rest is logged.
        where: begins messages.

    Raises:
        MissingDependencyError: the packages are not installed.
    """
    items = list(upright(metadata)[1])
    require(kind, where)
    if kind == "PPM":
        if items:
            log.info("%smetadata cannot be kept in a PPM file", where)
        height, width = samples.shape[:2]
        return b"P6\n%d %d\n65535\n" % (width, height) + samples.astype(">u2").tobytes()
    return _encode_png(samples, items) if kind == "PNG" else _encode_tiff(samples, items, where)


def _encode_png(samples: Samples, items: list[Metadata]) -> bytes:
    import imagecodecs

    data = bytes(imagecodecs.png_encode(samples))
    chunks = []
    if profile := first(items, ICC):
        chunks.append(_png_chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(profile)))
    if exif := first(items, EXIF):
        chunks.append(_png_chunk(b"eXIf", exif))
    if xmp := first(items, XMP):
        chunks.append(_png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp))
    return data[:_PNG_START] + b"".join(chunks) + data[_PNG_START:]


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def _encode_tiff(samples: Samples, items: list[Metadata], where: str) -> bytes:
    import tifffile

    if first(items, EXIF):
        log.info("%sEXIF cannot be kept in a TIFF file of 16-bit colour", where)
    if samples.shape[2] == 2:  # gray with alpha, which Pillow does not read
        log.info("%swritten as RGBA: few programs read TIFF files of gray with alpha", where)
        samples = samples[:, :, [0, 0, 0, 1]]
    xmp, icc = first(items, XMP), first(items, ICC)
    if icc is not None and is_gray(icc):
        log.info("%sa gray ICC profile cannot be kept in a TIFF file of 16-bit colour", where)
        icc = None
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        samples,
        photometric="rgb",
        extrasamples=["unassalpha"] if samples.shape[2] == 4 else None,
        compression="adobe_deflate",
        predictor=True,
        iccprofile=icc,
        extratags=[(700, "B", len(xmp), xmp, True)] if xmp else (),
        software=False,
        metadata=None,
    )
    return buffer.getvalue()
