"""Image files: how they are read, as samples that stand upright, and how they are written."""

from __future__ import annotations

import io
import logging
import os
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, PngImagePlugin, UnidentifiedImageError

from aecodec import deep, imageheads
from aecodec.container import Limits, Metadata, is_aec
from aecodec.errors import (
    AecError,
    InputError,
    LimitError,
    OutputError,
    UnsupportedImageError,
    cause_of,
)
from aecodec.metadata import collect, orientation, save_options, without_exif
from aecodec.output import StrPath, write_bytes
from aecodec.samples import (
    Samples,
    as_array,
    bit_depth,
    eight_bits,
    from_pillow,
    mode_name,
    sixteen_bits,
    upright,
)

log = logging.getLogger("aecodec")

#: Extension -> Pillow's format name and the options to write it with. All are
#: lossless but JPEG, which is written at quality 95 without chroma subsampling;
#: PNG, TIFF and PPM keep 16 bits a sample, PNG, WebP and TIFF keep alpha.
WRITERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".webp": ("WEBP", {"lossless": True, "exact": True}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".bmp": ("BMP", {}),
    ".tif": ("TIFF", {"compression": "tiff_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_deflate"}),
    ".ppm": ("PPM", {}),
}

_WITH_ALPHA = ("PNG", "WEBP", "TIFF")  # of the formats in `WRITERS`
_RAW_GRAYS = {"L;2": 85, "L;4": 17}  # Pillow's raw modes, and its step from gray to gray
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0  # TIFF
#: Formats of Pillow that it only recognises, or needs other programs for.
_UNREADABLE = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
_pillow_lock = threading.Lock()


@dataclass(frozen=True)
class ImageFile:
    """What an image file held.

    Attributes:
        pixels: `uint8` or `uint16` samples as `aecodec.samples` describes them; upright.
        metadata: EXIF (without orientation), ICC and XMP, as far as there are any.
    """

    pixels: Samples
    metadata: tuple[Metadata, ...]


def read_image(path: StrPath, *, limits: Limits | None = None) -> Samples:
    """The pixels of an image file; see `read_image_file`."""
    return read_image_file(path, limits=limits).pixels


def read_image_file(path: StrPath, *, limits: Limits | None = None) -> ImageFile:
    """Read an image file that Pillow knows, upright: EXIF orientation is applied.

    Args:
        path: the file. Of one with several frames or pages the first is read.
        limits: `max_pixels` and `max_side` are respected; None for the default ones.

    Raises:
        InputError: no such file, a folder, not an image, or a damaged or truncated one.
        UnsupportedImageError: a mode that is not coded; see `aecodec.samples`.
        LimitError: more pixels than `limits` allow.
        MissingDependencyError: 16-bit colour needs the extra `aecodec[deep]`.
    """
    limits = limits or Limits()
    with _opened(path, limits) as (fp, image):
        return _read(fp, image, os.fspath(path), limits)


def read_shape(path: StrPath) -> tuple[int, int, int]:
    """Width, height and bits a sample of an image file, from its header alone.

    An EXIF orientation may yet swap the sides.

    Raises:
        InputError: no such file, not an image, or a header that is damaged.
        LimitError: more pixels than the default limits allow.
    """
    with _opened(path, Limits()) as (fp, image):
        return *image.size, imageheads.bits(fp, image)


def image_endings() -> frozenset[str]:
    """Endings of the image files that can be read, in lower case."""
    known = Image.registered_extensions()
    readable = {end for end, kind in known.items() if kind in Image.OPEN}
    return frozenset(end for end in readable if known[end] not in _UNREADABLE) - {".aec"}


def writer_for(path: StrPath, *, mode: str = "RGB", depth: int = 8) -> tuple[str, dict[str, Any]]:
    """Pillow's format name and options for a file name.

    Args:
        path: the file, whose extension chooses the format.
        mode: of the picture to be written: L, LA, RGB or RGBA.
        depth: its bits a sample; a format that has only 8 is not refused.

    Raises:
        OutputError: the extension is not one of `WRITERS`, or that format has no alpha.
        MissingDependencyError: 16-bit colour needs the extra `aecodec[deep]`.
    """
    name, extension = os.fspath(path), Path(path).suffix.lower()
    if extension not in WRITERS:
        known = " ".join(WRITERS)
        cause = f"unknown extension {extension!r}" if extension else "no extension"
        raise OutputError(f"{name}: {cause}; use one of {known}")
    kind, options = WRITERS[extension]
    if mode.endswith("A") and kind not in _WITH_ALPHA:
        raise OutputError(f"{name}: {kind} files have no alpha; use .png, .webp or .tif")
    if depth == 16 and mode != "L" and kind in deep.KINDS:
        deep.require(kind, f"{name}: ")
    return kind, options


def write_image(
    path: StrPath,
    image: Any,
    *,
    metadata: Iterable[Metadata] = (),
    overwrite: bool = False,
) -> None:
    """Write pixels to an image file, whole or not at all.

    Args:
        path: the file; its extension chooses the format, see `WRITERS`. Of 16 bits a
            sample 8 are written, with a note, where the format has no more.
        image: pixels as `aecodec.samples.as_array` takes them.
        metadata: what of it the format can carry is written, too.
        overwrite: whether an existing file may be replaced.

    Raises:
        OutputError: unknown extension, an existing file, a size or an alpha channel
            that the format does not allow, a folder that cannot be written to, no space.
        UnsupportedImageError: as `as_array`.
        MissingDependencyError: 16-bit colour needs the extra `aecodec[deep]`.
    """
    samples, name = as_array(image), os.fspath(path)
    kind, options = writer_for(path, mode=mode_name(samples), depth=bit_depth(samples))
    if bit_depth(samples) == 16 and kind not in deep.KINDS:
        log.info("%s: written with 8 bits a sample; %s files have no more", name, kind)
        samples = eight_bits(samples)
    try:
        if bit_depth(samples) == 16 and samples.ndim == 3:
            data = deep.encode(kind, samples, metadata, f"{name}: ")
        else:
            data = _encoded(samples, kind, options | save_options(kind, metadata, name), name)
    except (AecError, MemoryError):
        raise
    except Exception as error:  # encoders raise what they happen upon
        size = f"{samples.shape[1]} x {samples.shape[0]}"
        raise OutputError(f"{name}: cannot be written as {kind} ({size}): {error}") from error
    write_bytes(path, data, overwrite=overwrite)


def _encoded(samples: Samples, kind: str, options: dict[str, Any], name: str) -> bytes:
    buffer = io.BytesIO()
    try:
        Image.fromarray(samples).save(buffer, kind, **options)
    except MemoryError:
        raise
    except Exception as error:  # encoders raise what they happen upon
        if kind != "TIFF" or "exif" not in options:
            raise
        # the tags become those of the file, and libtiff does not take every value
        log.info("%s: the EXIF data cannot be written and are left out: %s", name, error)
        return _encoded(samples, kind, without_exif(options), name)
    return buffer.getvalue()


def _not_an_image(fp: BinaryIO) -> str:
    fp.seek(0)
    if not fp.read(1):
        return "the file is empty"
    return imageheads.tiff_cause(fp) or "not an image, or of a kind that Pillow does not read"


def _open(fp: BinaryIO, limits: Limits) -> Image.Image:
    """Open with our limits: without Pillow's warning, and above its own limits if ours are higher.

    That of a PNG's profile and texts is 1 MiB, which profiles of printers reach.
    """
    with _pillow_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        before, text = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK
        if before is not None and limits.max_pixels > 2 * before:
            Image.MAX_IMAGE_PIXELS = limits.max_pixels
        PngImagePlugin.MAX_TEXT_CHUNK = max(text, limits.max_metadata)
        try:
            return Image.open(fp)
        finally:
            Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = before, text


@contextmanager
def _opened(path: StrPath, limits: Limits) -> Iterator[tuple[BinaryIO, Image.Image]]:
    """A file, and what Pillow makes of it; whatever goes wrong there or inside names the file."""
    name = os.fspath(path)
    try:
        with open(path, "rb") as source:
            # headers are looked into twice, and a pipe has only one go
            fp = source if source.seekable() else io.BytesIO(source.read())
            if is_aec(fp.read(16)):  # which Pillow reads, too, once it is told how
                raise InputError(f"{name}: is an .aec file already")
            fp.seek(0)
            try:
                with _open(fp, limits) as image:
                    yield fp, image
            except (AecError, MemoryError):
                raise
            except Image.DecompressionBombError as error:
                raise LimitError(f"{name}: {error}") from error
            except UnidentifiedImageError as error:
                raise InputError(f"{name}: {_not_an_image(fp)}") from error
            except Exception as error:  # decoders raise what they happen upon
                cause = str(error) or type(error).__name__
                raise InputError(f"{name}: the image is damaged: {cause}") from error
    except OSError as error:
        raise InputError(f"{name}: {cause_of(error)}") from error


def _read(fp: BinaryIO, image: Image.Image, name: str, limits: Limits) -> ImageFile:
    width, height = image.size
    if width * height > limits.max_pixels or max(width, height) > limits.max_side:
        raise LimitError(
            f"{name}: {width} x {height} pixels; the limits are {limits.max_pixels} pixels "
            f"and {limits.max_side} a side"
        )
    bits, tiles = imageheads.bits(fp, image), list(getattr(image, "tile", ()))  # gone after loading
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        log.info("%s: only the first of %d frames is read", name, frames)
    if space := imageheads.colour_space(fp, image):
        log.info("%s: the colour space in %s is not kept", name, space)
    turn = orientation(image) if image.format == "TIFF" else None  # turned by loading
    image.load()  # before EXIF of other formats, which may stand behind the pixels
    _scale_key(image, tiles)
    where = f"{name}: "
    samples = deep.read(fp, image, tiles, where) if _is_cut(image, bits) else None
    if samples is None:
        samples, turn = _samples(image, bits, where), None
    return ImageFile(upright(samples, turn or orientation(image)), collect(image))


def _scale_key(image: Image.Image, tiles: list[Any]) -> None:
    """Scale the transparent gray of a PNG of 2 or 4 bits as Pillow scales its samples."""
    key, raw = image.info.get("transparency"), tiles[0].args if tiles else None
    if isinstance(key, int) and raw in _RAW_GRAYS and key <= 255 // _RAW_GRAYS[raw]:
        image.info["transparency"] = key * _RAW_GRAYS[raw]


def _is_cut(image: Image.Image, bits: int) -> bool:
    """Whether the file has more bits a sample than Pillow's image."""
    return bits > 8 and not image.mode.startswith(("I", "F"))


def _samples(image: Image.Image, bits: int, where: str) -> Samples:
    """What Pillow read, gray of 9 to 16 bits as the file means it."""
    if _is_cut(image, bits):
        log.info("%smode %s with %d bits a sample is read with 8", where, image.mode, bits)
    samples = from_pillow(image, where)
    if not image.mode.startswith("I;16"):
        return samples
    if bits > 16:
        raise UnsupportedImageError(f"{where}{bits} bits a sample are not coded; convert it to 16")
    if 8 < bits < 16:
        log.info("%s%d bits a sample are coded as 16", where, bits)
        if image.format == "JPEG2000":  # which Pillow shifts to the top
            samples = (samples >> (16 - bits)).astype(samples.dtype)
        samples = sixteen_bits(samples, 2**bits - 1)
    white_is_zero = getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    return 65535 - samples if white_is_zero else samples
