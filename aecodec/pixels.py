"""Image files and arrays: what the codec accepts, and how files are written.

Pixels are C-contiguous `uint8` arrays of shape (H, W, 3), red, green, blue, or
(H, W), gray, with values 0 to 255 and H, W >= 1. What cannot be coded without
losing something other than precision (alpha, 16 bits a sample, CMYK) is refused
with an error that says what to do; what can be converted without loss is
converted, with a note to the logger `aecodec`.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import secrets
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from aecodec.container import Limits, Metadata, is_aec
from aecodec.errors import (
    AecError,
    InputError,
    LimitError,
    OutputError,
    UnsupportedImageError,
)
from aecodec.metadata import collect, orientation, save_options

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger("aecodec")

StrPath = str | os.PathLike[str]

#: Extension -> Pillow's format name and the options to write it with. All are
#: lossless but JPEG, which is written at quality 95 without chroma subsampling.
WRITERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".webp": ("WEBP", {"lossless": True}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".bmp": ("BMP", {}),
    ".tif": ("TIFF", {"compression": "tiff_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_deflate"}),
    ".ppm": ("PPM", {}),
}

_NO_ALPHA = "remove the alpha channel first, for example by placing it on a background"
_NO_DEPTH = "convert it to 8 bits a sample first"
_NO_MODE = "convert it to RGB or gray first"
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BITS_PER_SAMPLE = 258  # TIFF
_pillow_lock = threading.Lock()

#: Part of the hidden names of unfinished files: a batch finds by it what a dead process left.
unfinished_tag: ContextVar[str] = ContextVar("unfinished_tag", default="")


def as_array(image: Any, *, name: str | None = None) -> NDArray[np.uint8]:
    """Turn an image into pixels the codec accepts.

    Args:
        image: a `uint8` array of shape (H, W, 3), (H, W) or (H, W, 1), the last
            one being taken as gray; or a Pillow image of mode RGB, L, 1 or P
            without transparency. Pillow images are taken as they are: their EXIF
            orientation is not looked at (`read_image` does that).
        name: what to call the image in error messages, usually its file's name.

    Returns:
        C-contiguous `uint8` of shape (H, W, 3) or (H, W). It may share memory
        with the argument.

    Raises:
        UnsupportedImageError: another mode, dtype or shape, or no pixels at all.
    """
    where = "" if name is None else f"{name}: "
    if isinstance(image, Image.Image):
        return np.ascontiguousarray(_plain(image, where), dtype=np.uint8)
    array = np.asarray(image)
    if array.dtype != np.uint8:
        raise UnsupportedImageError(
            f"{where}samples of type {array.dtype} are not coded; give uint8, 0 to 255"
        )
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim != 2 and (array.ndim != 3 or array.shape[2] != 3):
        raise UnsupportedImageError(
            f"{where}an array of shape {array.shape} is not coded; give (H, W, 3) or (H, W)"
        )
    if array.size == 0:
        raise UnsupportedImageError(f"{where}an image of shape {array.shape} has no pixels")
    return np.ascontiguousarray(array)


@dataclass(frozen=True)
class ImageFile:
    """What an image file held.

    Attributes:
        pixels: C-contiguous `uint8` of shape (H, W, 3), or (H, W) for gray; upright.
        metadata: EXIF (without orientation), ICC and XMP, as far as there are any.
    """

    pixels: NDArray[np.uint8]
    metadata: tuple[Metadata, ...]


def read_image(path: StrPath, *, limits: Limits | None = None) -> NDArray[np.uint8]:
    """The pixels of an image file; see `read_image_file`."""
    return read_image_file(path, limits=limits).pixels


def read_image_file(path: StrPath, *, limits: Limits | None = None) -> ImageFile:
    """Read an image file that Pillow knows, upright: EXIF orientation is applied.

    Args:
        path: the file. Of one with several frames or pages the first is read.
        limits: `max_pixels` and `max_side` are respected; None for the default ones.

    Raises:
        InputError: no such file, a folder, not an image, or a damaged or truncated one.
        UnsupportedImageError: alpha, more than 8 bits a sample, CMYK and the like.
        LimitError: more pixels than `limits` allow.
    """
    limits = limits or Limits()
    name = os.fspath(path)
    try:
        with open(path, "rb") as fp:
            try:
                return _read(fp, name, limits)
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
        raise InputError(f"{name}: {_cause(error)}") from error


def upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn pixels (H, W) or (H, W, 3) as an EXIF orientation, 1 to 8, asks for."""
    turn = _TURNS.get(orientation)
    if turn is None:
        return image
    return np.ascontiguousarray(Image.fromarray(image).transpose(turn))


def reduced(image: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """Means of squares of scale × scale pixels, of what there is of them at the edges."""
    return np.asarray(Image.fromarray(image).reduce(scale))


def check_output(path: StrPath, *, overwrite: bool = False, source: StrPath | None = None) -> None:
    """Find out early that a file cannot be written; nothing is created.

    Args:
        path: the file to be written.
        overwrite: whether an existing file may be replaced.
        source: the file read from, which is never overwritten.

    Raises:
        OutputError: the file exists and may not be replaced, is the source, is
            no ordinary file, or its folder does not exist.
    """
    target = Path(path)
    try:
        if source is not None and target.exists() and os.path.samefile(source, target):
            raise OutputError(f"{target}: is the input itself; give another output")
        if target.is_dir():
            raise OutputError(f"{target}: is a folder")
        if target.exists() and not target.is_file():
            raise OutputError(f"{target}: is not an ordinary file")
        if os.path.lexists(target) and not overwrite:
            raise _exists(target)
        if not target.parent.is_dir():
            raise OutputError(f"{target}: there is no folder {target.parent}")
    except OSError as error:
        raise OutputError(f"{target}: {_cause(error)}") from error


def writer_for(path: StrPath) -> tuple[str, dict[str, Any]]:
    """Pillow's format name and options for a file name.

    Raises:
        OutputError: the extension is not one of `WRITERS`.
    """
    extension = Path(path).suffix.lower()
    if extension not in WRITERS:
        known = " ".join(WRITERS)
        cause = f"unknown extension {extension!r}" if extension else "no extension"
        raise OutputError(f"{os.fspath(path)}: {cause}; use one of {known}")
    return WRITERS[extension]


def write_image(
    path: StrPath,
    image: Any,
    *,
    metadata: Iterable[Metadata] = (),
    overwrite: bool = False,
) -> None:
    """Write pixels to an image file, whole or not at all.

    Args:
        path: the file; its extension chooses the format, see `WRITERS`.
        image: pixels as `as_array` takes them.
        metadata: what of it the format can carry is written, too.
        overwrite: whether an existing file may be replaced.

    Raises:
        OutputError: unknown extension, an existing file, a size that the format
            does not allow, a folder that cannot be written to, no space.
        UnsupportedImageError: as `as_array`.
    """
    kind, options = writer_for(path)
    array = as_array(image)
    options = options | save_options(kind, metadata, os.fspath(path))
    buffer = io.BytesIO()
    try:
        Image.fromarray(array).save(buffer, kind, **options)
    except (OSError, ValueError, KeyError) as error:
        size = f"{array.shape[1]} x {array.shape[0]}"
        raise OutputError(
            f"{os.fspath(path)}: cannot be written as {kind} ({size}): {error}"
        ) from error
    write_bytes(path, buffer.getbuffer(), overwrite=overwrite)


def write_bytes(path: StrPath, data: bytes | memoryview, *, overwrite: bool = False) -> None:
    """Write a file, whole or not at all; see `atomic_output`."""
    with atomic_output(path, overwrite=overwrite) as fp:
        fp.write(data)


@contextmanager
def atomic_output(path: StrPath, *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """Open a file that appears under its name only when the block ends without an error.

    Bytes go to a hidden file in the same folder, are flushed to the disk, and
    take the name in one step; after an error, or an interruption, nothing is
    left. Permission bits are those of any new file. A symbolic link is followed.

    Raises:
        OutputError: as `check_output`; or writing fails.
    """
    check_output(path, overwrite=overwrite)
    target = Path(os.path.realpath(path))
    hidden = target.with_name(f".aecodec-{unfinished_tag.get()}{secrets.token_hex(6)}.part")
    try:
        with open(hidden, "xb") as fp:
            yield fp
            fp.flush()
            os.fsync(fp.fileno())
        if overwrite:
            os.replace(hidden, target)
        else:
            _rename_new(hidden, target)
    except FileExistsError as error:
        raise _exists(target) from error
    except OSError as error:
        raise OutputError(f"{os.fspath(path)}: {_cause(error)}") from error
    finally:
        hidden.unlink(missing_ok=True)


def _rename_new(source: Path, target: Path) -> None:
    """Rename without ever replacing a file that appeared meanwhile, where the disk can do that."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # no hard links here (FAT, some network disks)
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        os.replace(source, target)


def _exists(target: Path) -> OutputError:
    return OutputError(f"{target}: exists already; -f (overwrite=True) replaces it")


def _cause(error: OSError) -> str:
    """What went wrong, in words, without the errno and the file's name."""
    return (error.strerror or str(error)).lower()


def _not_an_image(fp: BinaryIO) -> str:
    fp.seek(0)
    start = fp.read(16)
    if not start:
        return "the file is empty"
    if is_aec(start):
        return "is an .aec file already"
    return "not an image, or of a kind that Pillow does not read"


def _open(fp: BinaryIO, limits: Limits) -> Image.Image:
    """Open with our limits: without Pillow's warning, and above its own limit if ours is higher."""
    with _pillow_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        before = Image.MAX_IMAGE_PIXELS
        if before is not None and limits.max_pixels > 2 * before:
            Image.MAX_IMAGE_PIXELS = limits.max_pixels
        try:
            return Image.open(fp)
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _read(fp: BinaryIO, name: str, limits: Limits) -> ImageFile:
    with _open(fp, limits) as image:
        width, height = image.size
        if width * height > limits.max_pixels or max(width, height) > limits.max_side:
            raise LimitError(
                f"{name}: {width} x {height} pixels; the limits are {limits.max_pixels} pixels "
                f"and {limits.max_side} a side"
            )
        bits = _bits(image)
        if bits > 8:
            kind = f"mode {image.mode}, {bits} bits a sample"
            raise UnsupportedImageError(f"{name}: {kind} is not coded; {_NO_DEPTH}")
        frames = getattr(image, "n_frames", 1)
        if frames > 1:
            log.info("%s: only the first of %d frames is read", name, frames)
        image.load()  # before EXIF, which may stand behind the pixels
        pixels = _plain(image, f"{name}: ")
        turn = orientation(image)
        array = upright(np.ascontiguousarray(pixels, dtype=np.uint8), turn)
        return ImageFile(array, collect(image))


def _plain(image: Image.Image, where: str) -> Image.Image:
    """The same picture in mode RGB or L.

    Raises:
        UnsupportedImageError: there is none.
    """
    mode = image.mode
    to_do = None
    if 0 in image.size:
        raise UnsupportedImageError(f"{where}an image of {image.size} has no pixels")
    if image.has_transparency_data:
        to_do = _NO_ALPHA
    elif mode.startswith("I") or mode == "F":
        to_do = _NO_DEPTH
    elif mode not in ("RGB", "L", "1", "P"):
        to_do = _NO_MODE
    if to_do is not None:
        extra = " with transparency" if image.has_transparency_data else ""
        raise UnsupportedImageError(f"{where}mode {mode}{extra} is not coded; {to_do}")
    if mode in ("RGB", "L"):
        return image
    plain = image.convert("L" if mode == "1" else "RGB")
    log.info("%smode %s is coded as %s", where, mode, "gray" if mode == "1" else "RGB")
    return plain


def _bits(image: Image.Image) -> int:
    """Bits a sample in the file: Pillow opens 16-bit RGB as 8 bits without a word."""
    found = 8
    tags = getattr(image, "tag_v2", None)
    if tags is not None:
        sizes = tags.get(_BITS_PER_SAMPLE, 8)
        found = max(sizes) if isinstance(sizes, tuple) else sizes
    for tile in getattr(image, "tile", ()):
        args = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        if any(isinstance(arg, str) and "16" in arg for arg in args):
            found = max(found, 16)
        if tile.codec_name.startswith("ppm") and isinstance(args[-1], int):
            found = max(found, args[-1].bit_length())
        if tile.codec_name.lower() == "sgi16":
            found = max(found, 16)
    return found
