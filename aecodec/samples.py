"""Samples: the arrays and Pillow images that the codec takes, as arrays of one kind.

Samples are C-contiguous `uint8` or `uint16` arrays of shape (H, W), gray, (H, W, 2), gray
and alpha, (H, W, 3), red, green, blue, or (H, W, 4), with alpha; H, W >= 1. All values
count, 0 to 255 or 65535. Alpha is straight: colour is not multiplied by it. Any other
picture is converted, with a note to the logger `aecodec`, or refused with an error that
says what to do.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from aecodec.errors import UnsupportedImageError, prefix

log = logging.getLogger("aecodec")

Samples = NDArray[np.uint8 | np.uint16]

NAMES = {"L": "gray", "LA": "gray with alpha", "RGB": "RGB", "RGBA": "RGB with alpha"}
"""Modes in words."""

MANAGED = ("CMYK", "LAB")
"""Pillow modes that become sRGB through colour management; their profile ends there."""

_PLAIN = {  # mode -> the mode it is coded as
    **{mode: mode for mode in NAMES},
    "1": "L",
    "P": "RGB",
    "PA": "RGBA",
    "La": "LA",
    "RGBa": "RGBA",
    "RGBX": "RGB",
    "CMYK": "RGB",
    "LAB": "RGB",
    "YCbCr": "RGB",
    "HSV": "RGB",
}
_BITS_PER_SAMPLE, _SAMPLE_FORMAT, _UNSIGNED, _SIGNED = 258, 339, 1, 2  # TIFF
_WITH_ALPHA = {"L": "LA", "RGB": "RGBA"}
_TURNS: dict[int, Callable[[Any], Any]] = {  # EXIF orientation -> how to set it upright
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a.swapaxes(0, 1), 2),
    8: np.rot90,
}


def as_array(image: Any, *, name: str | None = None) -> Samples:
    """Turn an image into samples.

    Args:
        image: a `uint8` or `uint16` array of shape (H, W), (H, W, 1), (H, W, 2),
            (H, W, 3) or (H, W, 4), of any byte order and strides; or a Pillow image.
            Those are taken as they are: their EXIF orientation is not looked at
            (`aecodec.pixels.read_image` does that).
        name: what to call the image in error messages, usually its file's name.

    Returns:
        C-contiguous samples; they may share memory with the argument.

    Raises:
        UnsupportedImageError: another mode, dtype or shape, or no pixels at all.
    """
    where = prefix(name)
    if isinstance(image, Image.Image):
        return from_pillow(image, where)
    try:
        array = np.asarray(image)
    except ValueError as error:
        raise UnsupportedImageError(f"{where}not an array: {error}") from error
    if array.dtype.kind != "u" or array.dtype.itemsize > 2:
        raise UnsupportedImageError(
            f"{where}samples of type {array.dtype} are not coded; {_advice(array.dtype)}"
        )
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim != 2 and (array.ndim != 3 or array.shape[2] not in (2, 3, 4)):
        raise UnsupportedImageError(
            f"{where}an array of shape {array.shape} is not coded; give (H, W), or (H, W, C) "
            "with 1 to 4 channels"
        )
    if array.size == 0:
        raise UnsupportedImageError(f"{where}an image of shape {array.shape} has no pixels")
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))


def _advice(dtype: np.dtype[Any]) -> str:
    if dtype.kind == "b":
        return "multiply by 255, as uint8"
    if dtype.kind == "f":
        return "scale to 0..255 and round to uint8, or to 0..65535 and uint16"
    if dtype.kind in "US":
        return "`compress` codes files; `encode` takes uint8 or uint16 arrays"
    return "give uint8, 0 to 255, or uint16, 0 to 65535"


def from_pillow(image: Image.Image, where: str = "") -> Samples:
    """Samples of a Pillow image; `where` begins messages. See `as_array`.

    Raises:
        UnsupportedImageError: no pixels, values that are not numbers, an unknown mode.
    """
    if 0 in image.size:
        raise UnsupportedImageError(f"{where}an image of {image.size} has no pixels")
    if image.mode.startswith("I;16"):
        return _gray16(image)
    if image.mode in ("I", "F"):
        return _stretched(image, where)
    plain = np.ascontiguousarray(_plain(image, where), dtype=np.uint8)
    if image.mode == "L" and _tiff_numbers(image) == (8, _SIGNED):
        log.info("%ssigned samples, -128 to 127, are coded as 0 to 255", where)
        return (plain ^ 128).astype(np.uint8)
    return plain


def _plain(image: Image.Image, where: str) -> Image.Image:
    """The same picture in one of the modes of `NAMES`."""
    mode, transparent = image.mode, image.has_transparency_data
    wanted = _PLAIN.get(mode)
    if wanted is None:
        raise UnsupportedImageError(f"{where}mode {mode} is not coded; convert it to RGB or gray")
    if transparent:
        wanted = _WITH_ALPHA.get(wanted, wanted)
    if mode == wanted:
        return image
    extra = " with transparency" if transparent and mode not in ("PA", "La", "RGBa") else ""
    log.info("%smode %s%s is coded as %s", where, mode, extra, NAMES[wanted])
    return _managed(image, where) if mode in MANAGED else image.convert(wanted)


def _managed(image: Image.Image, where: str) -> Image.Image:
    """CMYK or Lab as sRGB: CMYK through the embedded profile where there is one."""
    profile = image.info.get("icc_profile")
    source: Any = ImageCms.createProfile("LAB") if image.mode == "LAB" else None
    try:
        if source is None and isinstance(profile, bytes) and profile:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source is not None:
            found = ImageCms.profileToProfile(
                image,
                source,
                ImageCms.createProfile("sRGB"),
                renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
                outputMode="RGB",
                flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
            )
            if found is not None:  # as it is with inPlace=True alone
                return found
    except (ImageCms.PyCMSError, OSError) as error:
        log.info("%sthe ICC profile cannot be used: %s", where, error)
    log.info("%swithout an ICC profile the colours of %s are a guess", where, image.mode)
    return image.convert("RGB")


def _gray16(image: Image.Image) -> Samples:
    values = np.ascontiguousarray(image, dtype=np.uint16)
    transparent = image.info.get("transparency")
    if not isinstance(transparent, int):
        return values
    alpha = np.where(values == transparent, np.uint16(0), np.uint16(65535))
    return np.dstack([values, alpha])


def _tiff_numbers(image: Image.Image) -> tuple[int, int]:
    """Bits and format of the samples of a TIFF file; Pillow takes no notice of the sign of some."""
    tags = getattr(image, "tag_v2", {})
    sizes, formats = tags.get(_BITS_PER_SAMPLE, 0), tags.get(_SAMPLE_FORMAT, _UNSIGNED)
    size = max(sizes) if isinstance(sizes, tuple) else sizes
    return size, max(formats) if isinstance(formats, tuple) else formats


def _stretched(image: Image.Image, where: str) -> Samples:
    """Integers of 32 bits, or floats, as 16-bit gray."""
    values = np.asarray(image)
    if image.mode == "I" and _tiff_numbers(image) == (32, _UNSIGNED):
        values = values.view(np.uint32)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise UnsupportedImageError(f"{where}mode {image.mode} holds values that are not finite")
    top = 65535 if image.mode == "I" else 1
    if low >= 0 and high <= top:
        low, high = 0, top
    log.info("%smode %s, %g to %g, is coded as 16-bit gray", where, image.mode, low, high)
    scale = 65535 / (high - low) if high > low else 0.0
    return np.rint((values.astype(np.float64) - low) * scale).astype(np.uint16)


def upright(samples: Samples, orientation: int) -> Samples:
    """Turn samples as an EXIF orientation, 1 to 8, asks for."""
    turn = _TURNS.get(orientation)
    return samples if turn is None else np.ascontiguousarray(turn(samples))


def mode_name(samples: Samples) -> str:
    """L, LA, RGB or RGBA, whatever the depth."""
    return "L" if samples.ndim == 2 else {2: "LA", 3: "RGB", 4: "RGBA"}[samples.shape[2]]


def has_alpha(samples: Samples) -> bool:
    """Whether the last channel is alpha."""
    return samples.ndim == 3 and samples.shape[2] in (2, 4)


def colour(samples: Samples) -> Samples:
    """A view without alpha: (H, W) or (H, W, 3)."""
    if not has_alpha(samples):
        return samples
    return samples[:, :, 0] if samples.shape[2] == 2 else samples[:, :, :3]


def bit_depth(samples: Samples) -> int:
    """Bits a sample, 8 or 16."""
    return 8 * samples.dtype.itemsize


def dtype(depth: int) -> type[np.uint8] | type[np.uint16]:
    """The dtype of samples of 8 or 16 bits."""
    return np.uint8 if depth == 8 else np.uint16


def eight_bits(samples: Samples) -> NDArray[np.uint8]:
    """The nearest 8-bit samples: 65535 becomes 255."""
    if samples.dtype == np.uint8:
        return samples.astype(np.uint8, copy=False)
    return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)


def sixteen_bits(values: NDArray[Any], top: int) -> NDArray[np.uint16]:
    """The nearest 16-bit samples of `uint16` values whose white is `top`, 1 to 65535."""
    wide = (values.astype(np.uint32) * 65535 + top // 2) // top
    return np.minimum(wide, 65535).astype(np.uint16)


def reduced(samples: Samples, scale: int) -> Samples:
    """Means of squares of scale × scale samples, of what there is of them at the edges.

    Colour counts as much as it can be seen: each pixel by its alpha.
    """
    band = 64 * scale  # rows at a time: sums take more memory than samples
    return np.concatenate(
        [_means(samples[top : top + band], scale) for top in range(0, len(samples), band)]
    )


def _means(samples: Samples, scale: int) -> Samples:
    values = samples.astype(np.float64)
    means = block_means(values, scale)
    if has_alpha(samples):
        alpha = values[:, :, -1:]
        seen = _block_sums(alpha, scale)
        weighted = _block_sums(values[:, :, :-1] * alpha, scale) / np.maximum(seen, 1)
        means[:, :, :-1] = np.where(seen > 0, weighted, means[:, :, :-1])
    return np.rint(means).astype(samples.dtype)


def block_means(values: NDArray[np.float64], scale: int) -> NDArray[np.float64]:
    """Means of squares of scale × scale values, of what there is of them at the edges.

    Args:
        values: (h, w) or (h, w, C).
        scale: 1 or more.

    Returns:
        ⌈h/scale⌉ rows and ⌈w/scale⌉ columns of as many channels.
    """
    ones = np.ones((*values.shape[:2], *[1] * (values.ndim - 2)))
    return _block_sums(values, scale) / _block_sums(ones, scale)


def _block_sums(values: NDArray[np.float64], scale: int) -> NDArray[np.float64]:
    rows, cols = (np.arange(0, side, scale) for side in values.shape[:2])
    sums: NDArray[np.float64] = np.add.reduceat(np.add.reduceat(values, rows), cols, axis=1)
    return sums
