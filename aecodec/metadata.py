"""EXIF, ICC and XMP on their way between image files and `.aec` files.

Pixels are stored upright, so the orientation is set to 1 where EXIF and XMP name one;
everything else passes byte for byte.
"""

from __future__ import annotations

import logging
import re
import struct
from collections.abc import Iterable
from numbers import Real
from typing import Any

from PIL import Image, PngImagePlugin

from aecodec.layout import EXIF, ICC, PREVIEW, XMP, Metadata
from aecodec.samples import MANAGED

log = logging.getLogger("aecodec")

_ORIENTATION = 0x0112  # EXIF
_UPRIGHT = (_ORIENTATION, 3, 1, 1, 0)  # its entry: one SHORT, 1, padding
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation(?:=[\"']|>))([2-8])")
_DIRECTORIES = (0x8769, 0x8825)  # Exif and GPS, of which IFD0 holds the places
_UNIT, _NO_UNIT, _UNITS = 296, 1, (1, 2, 3)
_RESOLUTION = (282, 283, _UNIT)
_INCHES, _HIGHEST_DPI = 2, 10**6
_DEFAULT_DPI = (72, 96)  # which programs write unasked: not worth their bytes
#: Tags of a TIFF file that say nothing about how its samples lie: resolution; ratings; titles and
#: the like, in UTF-16; texts, which are description, maker, model, software, date, artist, host,
#: copyright.
_RATINGS, _TITLES = (0x4746, 0x4749), tuple(range(0x9C9B, 0x9CA0))
_TEXTS = (270, 271, 272, 305, 306, 315, 316, 33432)
_EXIF_HEADER = b"Exif\x00\x00"  # of JPEG's APP1 segment; not stored
_XMP_TAG = 700  # TIFF
_PNG_XMP = "XML:com.adobe.xmp"

_CARRIERS = ("PNG", "JPEG", "WEBP", "TIFF")  # formats that Pillow writes all of these into
_NAMES = {EXIF: "EXIF", ICC: "ICC profile", XMP: "XMP"}
_LONGEST_IN_JPEG = {"exif": 65533, "xmp": 65533 - 29}  # what its segments take


def orientation(image: Image.Image) -> int:
    """Orientation of an opened image, 1 to 8; 1 if there is none or it is damaged."""
    try:
        found = int(_tags(image).get(_ORIENTATION, 1))
    except (TypeError, ValueError):
        return 1
    return found if 1 <= found <= 8 else 1


def _tags(image: Image.Image) -> Image.Exif:
    """What Pillow finds in EXIF data, or in XMP of the orientation."""
    try:
        return image.getexif()
    except Exception as error:  # noqa: BLE001 - EXIF comes in all shapes; pixels matter more
        log.info("the EXIF data cannot be read and are ignored: %s", error)
        return Image.Exif()


def collect(image: Image.Image) -> tuple[Metadata, ...]:
    """Metadata of a loaded image, for an `.aec` file."""
    found = {EXIF: _exif(image), ICC: icc_profile(image), XMP: xmp(image)}
    return upright(Metadata(kind, data) for kind, data in found.items() if data)[1]


def icc_profile(image: Image.Image) -> bytes:
    """The profile that describes the samples made of an image; it ends with CMYK and Lab."""
    return b"" if image.mode in MANAGED else _as_bytes(image.info.get("icc_profile"), ICC)


def xmp(image: Image.Image) -> bytes:
    """The XMP packet of an image; empty without one."""
    return _as_bytes(image.info.get("xmp") or image.info.get(_PNG_XMP), XMP)


def _as_bytes(value: Any, kind: bytes) -> bytes:
    """What Pillow found, which of a TIFF's tag may be anything: a number is no length."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    parts = value if isinstance(value, (tuple, list)) else ()
    if parts and all(isinstance(part, bytes) for part in parts):
        return b"".join(parts)
    if parts and all(isinstance(part, int) and 0 <= part <= 255 for part in parts):
        return bytes(parts)
    if value is not None:
        log.info("the %s is damaged and ignored", _NAMES[kind])
    return b""


def _exif(image: Image.Image) -> bytes:
    """The TIFF structure that tells of the picture."""
    raw = bytes(image.info.get("exif") or b"").removeprefix(_EXIF_HEADER)
    if raw:
        return raw
    found = _tags(image)
    if image.format == "TIFF":  # where the same tags describe the file, too
        found = _of_the_picture(found)
        if found.get(_UNIT) == _NO_UNIT:
            for tag in _RESOLUTION:
                found.pop(tag, None)
    found.pop(_ORIENTATION, None)
    if not found and image.format != "TIFF":
        found.update(_resolution(image))
    return found.tobytes().removeprefix(_EXIF_HEADER) if found else b""


def _resolution(image: Image.Image) -> dict[int, float]:
    """EXIF tags of the resolution that a file names elsewhere, if somebody chose it."""
    dpi = image.info.get("dpi")
    if not isinstance(dpi, tuple) or len(dpi) != 2:
        return {}
    horizontal, vertical = (round(float(value), 2) for value in dpi)
    if not all(1 <= value <= _HIGHEST_DPI for value in (horizontal, vertical)):
        return {}
    if horizontal == vertical and round(horizontal) in _DEFAULT_DPI:
        return {}
    return dict(zip(_RESOLUTION, (horizontal, vertical, _INCHES), strict=True))


def _of_the_picture(tags: Image.Exif) -> Image.Exif:
    """What of the tags tells of a picture, and not of the file that held it."""
    found = Image.Exif()
    found.update({tag: tags[tag] for tag in _TEXTS if isinstance(tags.get(tag), str)})
    found.update({tag: tags[tag] for tag in _RESOLUTION if isinstance(tags.get(tag), Real)})
    if found.get(_UNIT) not in _UNITS:
        found.pop(_UNIT, None)
    found.update({tag: tags[tag] for tag in (*_RATINGS, *_TITLES) if tag in tags})
    for pointer in _DIRECTORIES:
        if directory := tags.get_ifd(pointer):
            found.get_ifd(pointer).update(directory)
            found[pointer] = directory
    return found


def upright(items: Iterable[Metadata]) -> tuple[int, tuple[Metadata, ...]]:
    """The orientation, 1 to 8, that metadata name, and the same metadata naming 1 in its place."""
    items = tuple(items)
    exif, xmp = first(items, EXIF) or b"", first(items, XMP) or b""
    found = 1
    if entry := _orientation_entry(exif):
        found = int.from_bytes(
            exif[entry + 8 : entry + 10], "little" if exif[:1] == b"I" else "big"
        )
    elif match := _XMP_ORIENTATION.search(xmp):
        found = int(match[2])
    reset = {EXIF: _upright_exif, XMP: _upright_xmp}
    done = tuple(Metadata(i.type, reset[i.type](i.data)) if i.type in reset else i for i in items)
    return (found if 1 <= found <= 8 else 1), done


def _upright_exif(raw: bytes) -> bytes:
    entry = _orientation_entry(raw)
    if entry is None:
        return raw
    order = "<" if raw[:1] == b"I" else ">"
    return raw[:entry] + struct.pack(order + "HHIHH", *_UPRIGHT) + raw[entry + 12 :]


def _upright_xmp(packet: bytes) -> bytes:
    return _XMP_ORIENTATION.sub(rb"\g<1>1", packet)


def _orientation_entry(raw: bytes) -> int | None:
    """Where the orientation stands in a TIFF structure; None if nowhere, or it is damaged."""
    order = {b"II": "<", b"MM": ">"}.get(raw[:2])
    if order is None:
        return None
    try:
        (directory,) = struct.unpack_from(order + "I", raw, 4)
        (count,) = struct.unpack_from(order + "H", raw, directory)
        for start in range(directory + 2, directory + 2 + 12 * count, 12):
            if struct.unpack_from(order + "H10x", raw, start) == (_ORIENTATION,):
                return start
    except struct.error:
        pass
    return None


def named(items: Iterable[Metadata]) -> str:
    """What items are called in messages."""
    return ", ".join(_NAMES.get(item.type, item.type.decode("ascii")) for item in items)


def first(items: Iterable[Metadata], kind: bytes) -> bytes | None:
    """The data of the first item of a type."""
    return next((item.data for item in items if item.type == kind), None)


def info(items: Iterable[Metadata]) -> dict[str, bytes]:
    """What Pillow's `Image.info` calls it."""
    items = upright(items)[1]
    found = {
        "exif": first(items, EXIF),
        "icc_profile": first(items, ICC),
        "xmp": first(items, XMP),
    }
    if found["exif"]:
        found["exif"] = _EXIF_HEADER + found["exif"]
    return {key: data for key, data in found.items() if data}


def is_gray(profile: bytes) -> bool:
    """Whether an ICC profile is for gray alone, by the colour space in its header."""
    return profile[16:20] == b"GRAY"


def save_options(kind: str, items: Iterable[Metadata], name: str) -> dict[str, Any]:
    """Arguments for Pillow's `save` in a format; what it cannot carry is logged."""
    items = [item for item in items if item.type != PREVIEW]
    lost = [i for i in items if kind not in _CARRIERS or i.type not in _NAMES]
    if lost:
        log.info("%s: %s cannot be kept in a %s file", name, named(lost), kind)
    options: dict[str, Any] = dict(info(items)) if kind in _CARRIERS else {}
    for key, longest in _LONGEST_IN_JPEG.items():
        if kind == "JPEG" and len(options.get(key, b"")) > longest:
            log.info("%s: %s is too long for a JPEG file and left out", name, key.upper())
            del options[key]
    if kind == "WEBP" and is_gray(options.get("icc_profile", b"")):
        log.info("%s: a gray ICC profile cannot be kept in a WEBP file, which is RGB", name)
        del options["icc_profile"]
    if kind == "PNG" and "xmp" in options:
        text = PngImagePlugin.PngInfo()
        text.add_itxt(_PNG_XMP, options.pop("xmp").decode("utf-8", "replace"))
        options["pnginfo"] = text
    elif kind == "TIFF" and ("xmp" in options or "exif" in options):
        exif = _tiff_tags(options.get("exif", b""), name)
        if "xmp" in options:
            exif[_XMP_TAG] = options.pop("xmp")
        options["exif"] = exif
        if any(pointer in exif for pointer in _DIRECTORIES):
            options["compression"] = None  # libtiff, which compresses, cannot write them
    return options


def _tiff_tags(raw: bytes, name: str) -> Image.Exif:
    """What of EXIF data may stand among the tags of a TIFF file itself; the rest is logged."""
    given = Image.Exif()
    try:
        given.load(raw)
        kept = _of_the_picture(given)
        kept.tobytes()  # or they cannot be written
    except Exception as error:  # noqa: BLE001 - as in _tags
        log.info("%s: the EXIF data cannot be read and are left out: %s", name, error)
        return Image.Exif()
    if lost := sorted(set(given) - set(kept) - {_ORIENTATION}):
        numbers = ", ".join(map(str, lost))
        log.info("%s: EXIF tags that a TIFF file cannot keep: %s", name, numbers)
    return kept


def without_exif(options: dict[str, Any]) -> dict[str, Any]:
    """The same arguments for a TIFF file, of whose tags the XMP stays."""
    rest = {key: value for key, value in options.items() if key != "exif"}
    if packet := options["exif"].get(_XMP_TAG):
        rest["tiffinfo"] = {_XMP_TAG: packet}
    return rest
