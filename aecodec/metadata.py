"""EXIF, ICC and XMP on their way between image files and `.aec` files.

Pixels are stored upright, so the EXIF orientation is taken out; everything else passes
byte for byte.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from PIL import Image, PngImagePlugin

from aecodec.layout import EXIF, ICC, PREVIEW, XMP, Metadata

log = logging.getLogger("aecodec")

_ORIENTATION = 0x0112  # EXIF
_EXIF_HEADER = b"Exif\x00\x00"  # of JPEG's APP1 segment; not stored
_XMP_TAG = 700  # TIFF
_PNG_XMP = "XML:com.adobe.xmp"

#: What Pillow writes into which format.
_CARRIERS = {
    EXIF: {"PNG", "JPEG", "WEBP", "TIFF"},
    ICC: {"PNG", "JPEG", "WEBP", "TIFF"},
    XMP: {"PNG", "JPEG", "WEBP", "TIFF"},
}


def orientation(image: Image.Image) -> int:
    """EXIF orientation of an opened image, 1 to 8; 1 if there is none or it is damaged."""
    try:
        found = int(image.getexif().get(_ORIENTATION, 1))
    except Exception as error:  # noqa: BLE001 - EXIF comes in all shapes; pixels matter more
        log.info("the EXIF data cannot be read and are ignored: %s", error)
        return 1
    return found if 1 <= found <= 8 else 1


def collect(image: Image.Image) -> tuple[Metadata, ...]:
    """Metadata of a loaded image, for an `.aec` file."""
    found = {
        EXIF: _exif(image),
        ICC: image.info.get("icc_profile"),
        XMP: image.info.get("xmp") or image.info.get(_PNG_XMP),
    }
    items = []
    for kind, data in found.items():
        if isinstance(data, str):
            data = data.encode()
        if isinstance(data, (tuple, list)):  # TIFF, as bytes or as numbers
            data = b"".join(d if isinstance(d, bytes) else bytes([d]) for d in data)
        if data:
            items.append(Metadata(kind, bytes(data)))
    return tuple(items)


def _exif(image: Image.Image) -> bytes:
    """The TIFF structure, its orientation removed if it says anything."""
    raw: bytes = image.info.get("exif") or b""
    if orientation(image) != 1 or (not raw and image.format != "TIFF" and image.getexif()):
        exif = image.getexif()
        exif.pop(_ORIENTATION, None)
        raw = exif.tobytes() if exif else b""
    return raw.removeprefix(_EXIF_HEADER)


def first(items: Iterable[Metadata], kind: bytes) -> bytes | None:
    """The data of the first item of a type."""
    return next((item.data for item in items if item.type == kind), None)


def info(items: Iterable[Metadata]) -> dict[str, bytes]:
    """What Pillow's `Image.info` calls it."""
    items = list(items)
    found = {
        "exif": first(items, EXIF),
        "icc_profile": first(items, ICC),
        "xmp": first(items, XMP),
    }
    if found["exif"]:
        found["exif"] = _EXIF_HEADER + found["exif"]
    return {key: data for key, data in found.items() if data}


def save_options(kind: str, items: Iterable[Metadata], name: str) -> dict[str, Any]:
    """Arguments for Pillow's `save` in a format; what it cannot carry is logged."""
    items = [item for item in items if item.type != PREVIEW]
    lost = [i.type.decode() for i in items if kind not in _CARRIERS.get(i.type, set())]
    if lost:
        log.info("%s: %s cannot be kept in a %s file", name, ", ".join(lost), kind)
    options: dict[str, Any] = {}
    if kind in _CARRIERS[EXIF]:
        options = dict(info(items))
    xmp = options.pop("xmp", None)
    if xmp and kind == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_itxt(_PNG_XMP, xmp.decode("utf-8", "replace"))
        options["pnginfo"] = text
    elif kind == "TIFF" and (xmp or "exif" in options):  # all are tags of the file itself
        exif = Image.Exif()
        exif.load(options.get("exif", b""))
        if xmp:
            exif[_XMP_TAG] = xmp
        options["exif"] = exif
    elif xmp:
        options["xmp"] = xmp
    return options
