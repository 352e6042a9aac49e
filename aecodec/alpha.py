"""Alpha: a lossless plane beside the colour of every chunk, and the colour it hides.

A plane is coded as a VP8L bitstream (lossless WebP, RFC 9649), by libwebp through Pillow.
It decodes to exactly the values that were coded; loss is a matter of coding coarser ones.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from aecodec import tiles
from aecodec.errors import FormatError, MissingDependencyError
from aecodec.layout import AecFile, Header, Rect, chunk_grid
from aecodec.samples import Samples, bit_depth, colour, dtype, has_alpha

log = logging.getLogger("aecodec")

_HEADER = 20  # bytes of RIFF around the bitstream: "RIFF", size, "WEBP", "VP8L", size


def opaque(height: int, width: int, depth: int) -> Samples:
    """A plane (height, width) of nothing but the largest value of 8 or 16 bits."""
    return np.full((height, width), 2**depth - 1, dtype(depth))


def encode(plane: Samples, quality: float | None = None) -> bytes:
    """Code a plane (h, w), sides up to 16383; no bytes if it is opaque.

    Args:
        plane: alpha.
        quality: 1 to 100; below 100 with fewer levels (see `coarser`), where that is
            smaller; None as 100.
    """
    payload = _encode(plane)
    if quality is not None and quality < 100 and payload:
        payload = min(payload, _encode(coarser(plane, quality)), key=len)
    return payload


def _encode(plane: Samples) -> bytes:
    if bool((plane == 2 ** bit_depth(plane) - 1).all()):
        return b""
    _require_webp()
    low, high = plane & 255, plane if plane.dtype == np.uint8 else plane >> 8
    image = Image.fromarray(np.dstack([low, high, high]).astype(np.uint8))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=True, method=4, quality=75)
    size = int.from_bytes(buffer.getvalue()[_HEADER - 4 : _HEADER], "little")
    return buffer.getvalue()[_HEADER : _HEADER + size]


def _require_webp() -> None:
    if not features.check("webp"):
        raise MissingDependencyError("alpha needs a Pillow that was built with WebP")


def decode(payload: bytes | None, height: int, width: int, depth: int) -> Samples:
    """Decode a plane: (height, width), of 8 or 16 bits.

    Raises:
        FormatError: the payload is no such plane, or None: known to be damaged.
    """
    if payload is None:
        raise FormatError("alpha is damaged")
    if not payload:
        return opaque(height, width, depth)
    _require_webp()
    # What the bitstream claims is compared first: libwebp allocates what it claims.
    fields = int.from_bytes(payload[1:5], "little")
    claims = (payload[0], (fields & 0x3FFF) + 1, (fields >> 14 & 0x3FFF) + 1, fields >> 28)
    if len(payload) < 6 or claims != (0x2F, width, height, 0):
        raise FormatError(f"alpha is no plane of {width} x {height}")
    even = payload + bytes(len(payload) % 2)
    riff = b"RIFF" + (len(even) + 12).to_bytes(4, "little") + b"WEBPVP8L"
    data = riff + len(payload).to_bytes(4, "little") + even
    try:
        with Image.open(io.BytesIO(data), formats=["WEBP"]) as image:
            values = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise FormatError(f"alpha cannot be decoded: {error}") from error
    if depth == 8:
        return np.ascontiguousarray(values[:, :, 1])
    wide: Samples = (values[:, :, 1].astype(np.uint16) << 8) | values[:, :, 0]
    return wide


def decoder(header: Header) -> Callable[[bytes | None, int, int], Samples]:
    """`decode` for the planes of one file."""
    return partial(decode, depth=header.bit_depth)


def paste(image: Samples, file: AecFile, wanted: Rect, lost: list[int] | None = None) -> None:
    """Set the alpha of a part of a picture, if it has any, before the orientation is applied.

    Args:
        image: (h, w, C), whose last channel is written.
        file: what it is decoded from.
        wanted: which part of the picture `image` is, in pixels.
        lost: takes the numbers of chunks whose plane is damaged; they become opaque.
            Without such a list they are an error.

    Raises:
        FormatError: a plane is damaged; says of which chunk.
    """
    for number, chunk in enumerate(chunk_grid(file.header).rects if file.header.planes else ()):
        part = tiles.overlap(chunk, wanted)
        if part is None:
            continue
        try:
            plane = tiles.plane(file, number, decoder(file.header))
        except FormatError:
            if lost is None:
                raise
            lost.append(number)
            plane = opaque(*tiles.size(chunk), file.header.bit_depth)
        image[tiles.within(part, wanted)][:, :, -1] = plane[tiles.within(part, chunk)]


def coarser(plane: Samples, quality: float) -> Samples:
    """A plane with fewer, evenly spaced levels: half of them at 99, the two ends at 1."""
    depth = bit_depth(plane)
    top, steps = 2**depth - 1, round(2 ** (1 + (depth - 2) * (quality - 1) / 98)) - 1
    levels = np.rint(np.rint(np.arange(top + 1) * steps / top) * top / steps)
    out: Samples = levels.astype(plane.dtype)[plane]
    return out


def seen(samples: Samples) -> NDArray[np.bool_] | None:
    """Which pixels can be seen, (h, w); None if there is no alpha, so that all can."""
    return samples[:, :, -1] > 0 if has_alpha(samples) else None


def visible(samples: Samples) -> Samples:
    """Samples as the network sees them: (h, w, 3), the colour nobody sees filled in."""
    shown = colour(samples)
    rgb = shown if shown.ndim == 3 else np.repeat(shown[:, :, None], 3, axis=2)
    mask = seen(samples)
    return rgb if mask is None or mask.all() else fill(rgb, mask)


def fill(rgb: Samples, seen: NDArray[np.bool_]) -> Samples:
    """Continue the colours of the visible pixels smoothly into the others.

    Push and pull over an image pyramid (Gortler et al., The Lumigraph, 1996): colour is
    averaged into ever coarser levels, and what is missing in a level comes from the next.

    Args:
        rgb: (h, w, 3).
        seen: (h, w), which pixels are visible; they keep their values. If none is, the
            result is medium gray.
    """
    if not seen.any():
        return np.full_like(rgb, 1 << bit_depth(rgb) - 1)
    weight = seen.astype(np.float32)[None]
    levels = [(rgb.transpose(2, 0, 1) * weight, weight)]  # planes are faster than pixels
    while max(weight.shape) > 1:
        total, count = _halve(levels[-1][0]), _halve(levels[-1][1])
        weight = np.minimum(count, 1)
        levels.append((total / np.maximum(count, 1), weight))
    total, weight = levels.pop()
    filled = total / weight
    for total, weight in reversed(levels):
        coarse = _double(filled, 1)[:, : total.shape[1]]
        coarse = _double(coarse, 2)[:, :, : total.shape[2]]
        filled = total + (1 - weight) * coarse
    out: Samples = np.rint(filled).astype(rgb.dtype).transpose(1, 2, 0)
    return np.ascontiguousarray(out)


def _halve(a: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sums over cells of 2 x 2 of planes (c, h, w), zeros past the edge."""
    odd = (a.shape[1] % 2, a.shape[2] % 2)
    if any(odd):
        a = np.pad(a, ((0, 0), (0, odd[0]), (0, odd[1])))
    rows: NDArray[np.float32] = a[:, ::2] + a[:, 1::2]
    return rows[:, :, ::2] + rows[:, :, 1::2]


def _double(a: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Twice as many rows (1) or columns (2) of planes, linearly interpolated."""
    pad = [(0, 0)] * 3
    pad[axis] = (1, 1)
    wide = np.moveaxis(np.pad(a, pad, mode="edge"), axis, 0)
    out = np.empty((*a.shape[:axis], 2 * a.shape[axis], *a.shape[axis + 1 :]), np.float32)
    view = np.moveaxis(out, axis, 0)
    near = np.float32(0.75) * wide[1:-1]
    view[::2] = near + np.float32(0.25) * wide[:-2]
    view[1::2] = near + np.float32(0.25) * wide[2:]
    return out


def error(samples: Samples, shown: Samples) -> NDArray[np.float32]:
    """Differences between a picture and its decoded colour where it can be seen.

    Args:
        samples: the picture, with or without alpha.
        shown: the decoded colour, (H, W) or (H, W, 3).
    """
    found = colour(samples).astype(np.float32) - shown
    mask = seen(samples)
    return found if mask is None else found[mask]
