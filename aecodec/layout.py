"""What an `.aec` file consists of: constants, fields, limits and the grid of chunks.

`aecodec.container` turns them into bytes and back, and offers all of these names too.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

SIGNATURE = b"\x89AEC\r\n\x1a\n"
VERSION = 1
QUALITY_STEPS = 512  # steps of the stored quality for one unit of the continuous q
QUALITY_MAX = 3584  # q = 7
SOFTNESS_STEP = 256  # of the stored quality, for one unit of softness
SOFTNESS_MAX = 3
DEFAULT_CHUNK_LOG2 = 10  # chunks of 1024 x 1024 pixels
STRIDE = 16  # pixels per position of y, each way
EXIF, ICC, XMP = b"eXIF", b"iCCP", b"xMP "  # metadata types this release writes
PREVIEW = b"pREV"  # metadata type: the picture at one eighth, as an .aec file
NO_PLANES, ALPHA, DEPTH = 0, 1, 2  # what lies beside the colour of every chunk
MAX_ERROR = 32767  # mm: the largest bound of the error of a depth map
DEPTH_MARGIN = 1  # mm by which the network's picture, rounded, may differ between machines
PREVIEW_SCALE = 8  # pixels of the picture per pixel of a preview, each way


class ColourMode(IntEnum):
    """Colour mode of the coded picture (3 bits; 2 to 7 are reserved)."""

    GRAY = 0
    RGB = 1


class Precision(IntEnum):
    """Arithmetic of the encoder's transforms: information only, never needed to decode."""

    FLOAT32 = 0
    BFLOAT16 = 1
    FLOAT16 = 2
    OTHER = 3


@dataclass(frozen=True)
class Limits:
    """What a reader accepts; anything above raises `LimitError` before memory is allocated.

    Attributes:
        max_pixels: width x height, in pixels.
        max_side: width and height each, in pixels.
        max_chunks: chunks implied by size and chunk side.
        max_metadata: all metadata data together, in bytes.
        max_metadata_chunks: number of metadata chunks.
        max_chunk_pixels: of the largest chunk; memory grows with it.
    """

    max_pixels: int = 178_956_970
    max_side: int = 2**31 - 1
    max_chunks: int = 1 << 18
    max_metadata: int = 16 << 20
    max_metadata_chunks: int = 1024
    max_chunk_pixels: int = 1 << 24


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Header:
    """Everything in a file that decides how the picture decodes and looks.

    Attributes:
        width: of the stored picture, before `orientation` is applied; pixels, 1 to 2**32 - 1.
        height: likewise.
        model_id: first 8 bytes of the SHA-256 of the model's tensors.
        quality: gain index, 0 to `QUALITY_MAX`: `QUALITY_STEPS` times the continuous q.
        colour: colour mode.
        bit_depth: bits a sample, of colour and alpha; 8 or 16.
        planes: what lies beside every chunk: `NO_PLANES`, `ALPHA`, an alpha channel, or
            `DEPTH`, holes and residuals of a depth map.
        orientation: EXIF orientation to apply after decoding, 1 to 8.
        softness: how far below `quality` the synthesis transform runs, 0 to `SOFTNESS_MAX`
            times `SOFTNESS_STEP`.
        effort: encoder effort, 0 to 9 (information only).
        precision: encoder arithmetic (information only).
        chunk_log2: log2 of the chunk side in pixels, 6 to 15.
    """

    width: int
    height: int
    model_id: bytes
    quality: int
    colour: ColourMode = ColourMode.RGB
    bit_depth: int = 8
    planes: int = NO_PLANES
    orientation: int = 1
    softness: int = 0
    effort: int = 0
    precision: Precision = Precision.FLOAT32
    chunk_log2: int = DEFAULT_CHUNK_LOG2

    @property
    def has_alpha(self) -> bool:
        """Whether the picture has an alpha channel."""
        return self.planes == ALPHA

    @property
    def q(self) -> float:
        """The continuous quality, 0.0 to 7.0."""
        return self.quality / QUALITY_STEPS

    @property
    def synthesis_q(self) -> float:
        """The continuous quality at which the synthesis transform runs, 0.0 to 7.0."""
        return softened(self.quality, self.softness)


def softened(quality: int, softness: int) -> float:
    """The continuous quality at which a synthesis of so much softness runs."""
    return max(quality - SOFTNESS_STEP * softness, 0) / QUALITY_STEPS


class Margins(NamedTuple):
    """How many positions of y lie around those that are wanted."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0


NO_MARGINS = Margins()


@dataclass(frozen=True)
class Chunk:
    """One independently decodable square of the picture.

    Attributes:
        payload: entropy-coded bytes, at most 2**32 - 1 of them, possibly none.
        symbols_crc: CRC-32 of the integers the payload decodes to.
        ok: False if `parse(verify=False)` found the payload damaged.
    """

    payload: bytes
    symbols_crc: int
    ok: bool = True


@dataclass(frozen=True)
class Metadata:
    """One metadata chunk: a type of 4 bytes (lower-case first: ancillary) and its data."""

    type: bytes
    data: bytes


@dataclass(frozen=True)
class AecFile:
    """A whole file: header, chunks in raster order, metadata in file order.

    Attributes:
        planes: one for each chunk, if the header says that there are any, as `aecodec.alpha`
            or `aecodec.depthplane` codes it: empty if opaque or without holes, None if
            `parse(verify=False)` found it damaged.
    """

    header: Header
    chunks: tuple[Chunk, ...]
    metadata: tuple[Metadata, ...] = ()
    planes: tuple[bytes | None, ...] = ()


class ChunkEntry(NamedTuple):
    """A line of the chunk table: where a payload lies (bytes from the file's start), checksums."""

    offset: int
    length: int
    payload_crc: int
    symbols_crc: int


class PlaneEntry(NamedTuple):
    """A line of the plane table: where a chunk's plane lies, and its checksum.

    Length 0 means an opaque plane, or for depth one without holes or residuals.
    """

    offset: int
    length: int
    payload_crc: int


@dataclass(frozen=True)
class HeaderInfo:
    """What stands before the payloads.

    Attributes:
        header: the header's fields.
        entries: the chunk table, in raster order.
        size: bytes before the first payload: signature, header, tables and checksum.
        planes: the plane table, in raster order; empty for `NO_PLANES`.
    """

    header: Header
    entries: tuple[ChunkEntry, ...]
    size: int
    planes: tuple[PlaneEntry, ...] = ()

    @property
    def payload_end(self) -> int:
        """Offset of the first byte after the payloads, in bytes; a whole file is longer."""
        colour = sum(entry.length for entry in self.entries)
        return self.size + colour + sum(entry.length for entry in self.planes)


class Rect(NamedTuple):
    """A rectangle of pixels; `right` and `bottom` are the first ones outside."""

    left: int
    top: int
    right: int
    bottom: int


class ChunkGrid(NamedTuple):
    """How a picture divides into chunks; `rects` in raster order, clipped to the picture."""

    rows: int
    cols: int
    rects: tuple[Rect, ...]


def grid_shape(header: Header) -> tuple[int, int]:
    """Rows and columns of chunks, without building the rectangles."""
    log2 = header.chunk_log2
    return -(-header.height >> log2), -(-header.width >> log2)


@lru_cache(maxsize=2)
def chunk_grid(header: Header) -> ChunkGrid:
    """Divide the picture into chunks.

    Memory grows with the number of chunks: call it for headers that were parsed
    under `Limits` or that describe a picture already in memory.
    """
    rows, cols = grid_shape(header)
    side, width, height = 1 << header.chunk_log2, header.width, header.height
    rects = tuple(
        Rect(x, y, min(x + side, width), min(y + side, height))
        for y in range(0, height, side)
        for x in range(0, width, side)
    )
    return ChunkGrid(rows, cols, rects)
