"""What the beginning of an `.aec` file says about it; loads neither torch nor NumPy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from aecodec.container import ColourMode, Header, HeaderInfo, Limits, parse_header, read_header
from aecodec.errors import InputError, cause_of, prefix
from aecodec.layout import DEPTH
from aecodec.output import StrPath
from aecodec.rate import quality_from_index


@dataclass(frozen=True)
class FileInfo:
    """What the beginning of an `.aec` file says about it.

    Attributes:
        width: of the stored picture, in pixels; `orientation` 5 to 8 makes it the height.
        height: of the stored picture, in pixels.
        mode: "L" (gray), "LA" (gray and alpha), "RGB" or "RGBA".
        bit_depth: bits a sample, 8 or 16.
        alpha_bytes: what alpha takes of the file; None if there is none.
        depth_bytes: of a depth map, what its holes and the bound of its error take of the
            file; None for any other picture.
        quality: 1.0 to 100.0 of the quantisation steps: as given to `encode`, or up to 5.4 less
            at efforts 4 to 9.
        model_id: identity of the weights, 16 hexadecimal digits.
        bytes: size of the whole file.
        bpp: bits a pixel, of the whole file.
        chunks: number of independently decodable squares.
        chunk_side: their side in pixels.
        softness: how much coarser than `quality` the decoder takes its steps to be, 0 to 3.
        effort: the encoder's effort, 0 to 9.
        precision: arithmetic of the encoder, "float32", "bfloat16", ...
        orientation: EXIF orientation to apply after decoding, 1 to 8.
        complete: False if the file ends before its last chunk does.
    """

    width: int
    height: int
    mode: str
    bit_depth: int
    alpha_bytes: int | None
    depth_bytes: int | None
    quality: float
    model_id: str
    bytes: int
    bpp: float
    chunks: int
    chunk_side: int
    softness: int
    effort: int
    precision: str
    orientation: int
    complete: bool


def info(src: StrPath | bytes | BinaryIO, *, limits: Limits | None = None) -> FileInfo:
    """Read what the beginning of an `.aec` file says; nothing is decoded, torch is not loaded.

    Args:
        src: a file's name, its bytes (or the first of them), or a seekable binary
            file, read from where it stands and left there.
        limits: what to accept; None for the default ones.

    Raises:
        FormatError: not an `.aec` file, or its beginning is damaged.
        LimitError: it claims a size over the limits.
        InputError: the file cannot be read.
    """
    limits = limits or Limits()
    if isinstance(src, (bytes, bytearray, memoryview)):
        return _file_info(parse_header(src, limits=limits), len(src))
    if isinstance(src, (str, os.PathLike)):
        name = os.fspath(src)
        with read_errors(name), open(src, "rb") as fp:
            found = read_header(fp, limits=limits, name=name)
            return _file_info(found, fp.seek(0, os.SEEK_END))
    named = stream_name(src)
    with read_errors(named):
        start = src.tell()
        try:
            found = read_header(src, limits=limits, name=named)
            size = src.seek(0, os.SEEK_END) - start
        finally:
            src.seek(start)
    return _file_info(found, size)


def stream_name(fp: BinaryIO) -> str | None:
    """What to call an open file in messages; None for one in memory or without a name."""
    name = getattr(fp, "name", None)
    # a temporary file has a number
    return os.fspath(name) if isinstance(name, (str, os.PathLike)) else None


def mode(header: Header) -> str:
    """L, LA, RGB or RGBA, whatever the depth."""
    return ("L" if header.colour is ColourMode.GRAY else "RGB") + ("A" if header.has_alpha else "")


def _file_info(found: HeaderInfo, size: int) -> FileInfo:
    head = found.header
    planes = sum(plane.length for plane in found.planes)
    return FileInfo(
        width=head.width,
        height=head.height,
        mode=mode(head),
        bit_depth=head.bit_depth,
        alpha_bytes=planes if head.has_alpha else None,
        depth_bytes=planes if head.planes == DEPTH else None,
        quality=quality_from_index(head.quality),
        model_id=head.model_id.hex(),
        bytes=size,
        bpp=8 * size / (head.width * head.height),
        chunks=len(found.entries),
        chunk_side=1 << head.chunk_log2,
        softness=head.softness,
        effort=head.effort,
        precision=head.precision.name.lower(),
        orientation=head.orientation,
        complete=size > found.payload_end,
    )


@contextmanager
def read_errors(name: str | None) -> Iterator[None]:
    """Raise InputError, which names the file if it has a name, where reading it fails."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{prefix(name)}{cause_of(error)}") from error
