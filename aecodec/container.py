"""The `.aec` file: bytes to a checked structure and back.

This module knows layout, limits and checksums, and nothing of models or
entropy coding: chunk payloads are opaque bytes here. `docs/format.md` is the
specification; this is its reference implementation.

Reading comes in three depths: `is_aec` looks at the signature, `parse_header`
and `read_header` at everything before the payloads, `parse` at the whole file.
Nothing in a file is believed, and nothing large allocated, before it has been
compared with `Limits` and with the bytes that are really there.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import accumulate
from typing import BinaryIO

from aecodec.cursor import U32_MAX, Cursor, Data, write_varint
from aecodec.errors import (
    ChecksumError,
    FormatError,
    InputError,
    LimitError,
    TruncatedError,
    VersionError,
)
from aecodec.header import read_fields, require, write_fields
from aecodec.layout import (
    DEFAULT_CHUNK_LOG2,
    DEFAULT_LIMITS,
    EXIF,
    ICC,
    QUALITY_MAX,
    QUALITY_STEPS,
    SIGNATURE,
    VERSION,
    XMP,
    AecFile,
    Chunk,
    ChunkEntry,
    ChunkGrid,
    ColourMode,
    Header,
    HeaderInfo,
    Limits,
    Metadata,
    PlaneEntry,
    Precision,
    Rect,
    chunk_grid,
    grid_shape,
)

__all__ = [
    "DEFAULT_CHUNK_LOG2",
    "DEFAULT_LIMITS",
    "EXIF",
    "ICC",
    "QUALITY_MAX",
    "QUALITY_STEPS",
    "SIGNATURE",
    "VERSION",
    "XMP",
    "AecFile",
    "Chunk",
    "ChunkEntry",
    "ChunkGrid",
    "ColourMode",
    "Header",
    "HeaderInfo",
    "Limits",
    "Metadata",
    "PlaneEntry",
    "Precision",
    "Rect",
    "chunk_grid",
    "chunk_ok",
    "grid_shape",
    "is_aec",
    "parse",
    "parse_header",
    "read_header",
    "read_metadata",
    "salvaged",
    "serialise",
]

_END = b"\x00"  # stands where a metadata type could begin: no type begins with it
_MIN_ENTRY = 9  # shortest line of the chunk table: one-byte length, two checksums
_FIRST_READ = 4096  # bytes
_METADATA_EXTRA = 13  # bytes at most of a metadata chunk that are not data


def is_aec(data: Data) -> bool:
    """Whether the data begins with the signature (8 bytes are enough to tell)."""
    return bytes(data[: len(SIGNATURE)]) == SIGNATURE


def _is_type(kind: bytes) -> bool:
    letter = kind[:1].isalpha()  # bytes.isalpha is ASCII only
    return len(kind) == 4 and letter and all(0x20 <= byte <= 0x7E for byte in kind)


def serialise(file: AecFile) -> bytes:
    """Turn a file's parts into its bytes; equal parts give equal bytes.

    Raises:
        InputError: a field is out of its range, the number of chunks or planes
            is not what the header implies, one is marked damaged, or a metadata type
            is malformed or critical (version 1 defines no critical ones).
        LimitError: more metadata than readers accept by default.
    """
    _check_metadata(file.metadata)
    head = bytearray(write_fields(file.header))
    rows, cols = grid_shape(file.header)
    if len(file.chunks) != rows * cols:
        raise InputError(f"{len(file.chunks)} chunks for a grid of {rows} x {cols}")
    for index, chunk in enumerate(file.chunks):
        if not chunk.ok:
            raise InputError(f"chunk {index} is damaged: a new checksum would hide that")
        require(f"payload length of chunk {index}", len(chunk.payload), 0, U32_MAX)
        require(f"symbols_crc of chunk {index}", chunk.symbols_crc, 0, U32_MAX)
        head += write_varint(len(chunk.payload))
        head += struct.pack("<II", zlib.crc32(chunk.payload), chunk.symbols_crc)
    planes = _planes(file)
    for plane in planes:
        head += write_varint(len(plane)) + (struct.pack("<I", zlib.crc32(plane)) if plane else b"")
    parts = [bytes(head), struct.pack("<I", zlib.crc32(head))]
    parts += [chunk.payload for chunk in file.chunks]
    parts += planes
    for item in file.metadata:
        body = item.type + write_varint(len(item.data)) + item.data
        parts += [body, struct.pack("<I", zlib.crc32(body))]
    return b"".join([*parts, _END])


def _check_metadata(items: Sequence[Metadata]) -> None:
    for item in items:
        if not _is_type(item.type):
            raise InputError(f"metadata type {item.type!r} is not a letter and 3 ASCII characters")
        if item.type[:1].isupper():
            raise InputError(f"metadata type {item.type!r} is critical; version {VERSION} has none")
    total, limits = sum(len(item.data) for item in items), DEFAULT_LIMITS
    if total > limits.max_metadata or len(items) > limits.max_metadata_chunks:
        raise LimitError(
            f"{len(items)} items of metadata take {total} bytes; files hold at most "
            f"{limits.max_metadata_chunks} items of {limits.max_metadata} bytes together"
        )


def _planes(file: AecFile) -> list[bytes]:
    """The planes to write, none of them damaged."""
    wanted = len(file.chunks) if file.header.planes else 0
    if len(file.planes) != wanted:
        raise InputError(f"{len(file.planes)} planes where {wanted} belong")
    planes = [plane for plane in file.planes if plane is not None]
    if len(planes) != wanted:
        raise InputError("a plane is damaged: a new checksum would hide that")
    return planes


def _header_info(cur: Cursor, limits: Limits) -> HeaderInfo:
    header = read_fields(cur, limits)
    rows, cols = grid_shape(header)
    cur.within("number of chunks", rows * cols, limits.max_chunks)
    side = 1 << header.chunk_log2
    largest = min(side, header.width) * min(side, header.height)
    cur.within("pixels of a chunk", largest, limits.max_chunk_pixels)
    shortest = _MIN_ENTRY + (1 if header.planes else 0)
    cur.need(rows * cols * shortest + 4, f"a table of {rows * cols} chunks")
    table = []
    for _ in range(rows * cols):
        length = cur.varint("a payload length")
        table.append((length, cur.u32("a chunk table entry"), cur.u32("a chunk table entry")))
    plane_table = []
    for _ in range(rows * cols if header.planes else 0):
        length = cur.varint("the length of a plane")
        plane_table.append((length, cur.u32("a plane table entry") if length else 0))
    cur.checksum(0, "the header")
    offsets = accumulate((line[0] for line in (*table, *plane_table)), initial=cur.pos)
    entries = tuple(ChunkEntry(next(offsets), *line) for line in table)
    planes = tuple(PlaneEntry(next(offsets), *line) for line in plane_table)
    return HeaderInfo(header, entries, cur.pos, planes)


def parse_header(
    data: Data, *, limits: Limits = DEFAULT_LIMITS, name: str | None = None
) -> HeaderInfo:
    """Read everything before the payloads, which need not be there.

    Args:
        data: the file, or as much of its beginning as holds header and chunk table
            (at most 36 bytes and 13 for each chunk, 22 with planes).
        limits: what to accept.
        name: the file's name, for error messages.

    Raises:
        SignatureError: this is no `.aec` file.
        VersionError: a version or feature this release does not know.
        TruncatedError: the data ends within the header or the table.
        ChecksumError: the header is damaged.
        FormatError: a field has a value the format does not allow.
        LimitError: the size, or the number or size of chunks, is over the limits.
    """
    return _header_info(Cursor(data, name), limits)


def read_header(
    fp: BinaryIO, *, limits: Limits = DEFAULT_LIMITS, name: str | None = None
) -> HeaderInfo:
    """Like `parse_header`, from a binary file, of which it reads no more than it needs.

    It reads from the current position, 4 KiB first, then as much again until the
    table is complete; it never seeks, and leaves the position after what it read.

    Raises:
        AecError: as `parse_header`.
        OSError: as `fp.read` raises it.
    """
    data = fp.read(_FIRST_READ)
    while True:
        try:
            return parse_header(data, limits=limits, name=name)
        except TruncatedError:
            more = fp.read(max(len(data), _FIRST_READ))
            if not more:
                raise
            data += more


def read_metadata(
    fp: BinaryIO, info: HeaderInfo, start: int = 0, *, limits: Limits = DEFAULT_LIMITS
) -> tuple[Metadata, ...]:
    """The metadata of a file, without the payloads in front of them: it seeks.

    Args:
        fp: a seekable binary file; its position changes.
        info: what `read_header` found in it.
        start: where in it the `.aec` file begins, in bytes.
        limits: what to accept.

    Returns:
        Those in front of the first that is damaged, missing or over the limits.

    Raises:
        OSError: as `fp.seek` and `fp.read` raise it.
    """
    fp.seek(start + info.payload_end)
    data = fp.read(limits.max_metadata + _METADATA_EXTRA * limits.max_metadata_chunks + 1)
    return tuple(_undamaged(Cursor(data, None), limits))


def chunk_ok(data: Data, entry: ChunkEntry | PlaneEntry) -> bool:
    """Whether a chunk's payload, or its plane, is there and undamaged.

    Args:
        data: the file from its first byte on; it may be cut short.
        entry: its line from `parse_header`.
    """
    payload = memoryview(data).cast("B")[entry.offset : entry.offset + entry.length]
    return len(payload) == entry.length and zlib.crc32(payload) == entry.payload_crc


def _metadata(cur: Cursor, limits: Limits) -> Iterator[Metadata]:
    """Read metadata chunks and the end marker."""
    count = total = 0
    while True:
        start = cur.pos
        cur.need(1, "the end marker")
        if cur.view[start] == _END[0]:
            cur.pos += 1
            return
        count += 1
        cur.within("metadata chunks", count, limits.max_metadata_chunks)
        kind = cur.take(4, "a metadata chunk")
        if not _is_type(kind):
            raise cur.error(FormatError, f"{kind!r} is not a metadata type", start)
        length = cur.varint("a metadata length")
        total += length
        cur.within("metadata in bytes", total, limits.max_metadata)
        data = cur.take(length, f"metadata {kind!r}")
        cur.checksum(start, f"metadata {kind!r}")
        if kind[:1].isupper():
            raise cur.error(VersionError, f"unknown critical metadata {kind!r}", start)
        yield Metadata(kind, data)


def parse(
    data: Data,
    *,
    limits: Limits = DEFAULT_LIMITS,
    name: str | None = None,
    verify: bool = True,
    alone: bool = True,
) -> AecFile:
    """Read a whole file.

    Args:
        data: all of the file's bytes, nothing before them.
        limits: what to accept.
        name: the file's name, for error messages.
        verify: raise for damaged payloads; if False they are returned with
            `ok=False`. Header, layout and metadata are checked in either case; a
            file cut short is for `parse_header` and `chunk_ok`.
        alone: raise for bytes after the file, too.

    Raises:
        ChecksumError: the header, a payload or a metadata chunk is damaged.
        TruncatedError: the file ends early.
        VersionError: a version, feature or critical metadata this release does not know.
        FormatError: any other malformed file, bytes after the end marker included.
        LimitError: size, number of chunks or metadata are over the limits.
    """
    cur = Cursor(data, name)
    info = _header_info(cur, limits)
    cur.need(info.payload_end - info.size + 1, "payload and end marker")
    chunks, planes = [], []
    what = "alpha" if info.header.has_alpha else "depth plane"
    for index, entry in enumerate(info.entries):
        payload, ok = _payload(cur, entry, f"chunk {index}", verify)
        chunks.append(Chunk(payload, entry.symbols_crc, ok))
    for index, plane in enumerate(info.planes):
        payload, ok = _payload(cur, plane, f"{what} of chunk {index}", verify)
        planes.append(payload if ok else None)
    metadata = tuple(_metadata(cur, limits))
    if cur.left and alone:
        raise cur.error(FormatError, f"{cur.left} bytes after the end of the file")
    return AecFile(info.header, tuple(chunks), metadata, tuple(planes))


def _payload(
    cur: Cursor, entry: ChunkEntry | PlaneEntry, what: str, verify: bool
) -> tuple[bytes, bool]:
    """The next payload, and whether its checksum holds; an error if it must."""
    payload = cur.take(entry.length, what)
    computed = zlib.crc32(payload)
    if verify and computed != entry.payload_crc:
        stored = f"stored checksum {entry.payload_crc:08x}, computed {computed:08x}"
        raise cur.error(ChecksumError, f"{what}: {stored}", entry.offset)
    return payload, computed == entry.payload_crc


def salvaged(data: Data, *, limits: Limits = DEFAULT_LIMITS, name: str | None = None) -> AecFile:
    """What is left of a damaged or shortened file whose header is whole.

    Of the metadata, those in front of the first that is damaged.

    Raises:
        FormatError: the header is damaged.
        LimitError: as `parse_header`.
    """
    info = parse_header(data, limits=limits, name=name)

    def payload(entry: ChunkEntry | PlaneEntry) -> bytes:
        return bytes(data[entry.offset : entry.offset + entry.length])

    chunks = tuple(Chunk(payload(e), e.symbols_crc, chunk_ok(data, e)) for e in info.entries)
    planes = tuple(payload(e) if chunk_ok(data, e) else None for e in info.planes)
    cur = Cursor(data, None)
    cur.pos = min(info.payload_end, len(cur.view))
    return AecFile(info.header, chunks, tuple(_undamaged(cur, limits)), planes)


def damage_behind(
    data: Data, *, limits: Limits = DEFAULT_LIMITS, name: str | None = None
) -> FormatError | LimitError | None:
    """What is wrong behind the payloads, if anything is: with metadata or the end marker.

    Bytes after the end marker are not: nothing is missing.

    Raises:
        FormatError: the header is damaged.
        LimitError: as `parse_header`.
    """
    info = parse_header(data, limits=limits, name=name)
    cur = Cursor(data, name)
    cur.pos = min(info.payload_end, len(cur.view))
    try:
        for _ in _metadata(cur, limits):
            pass
    except (FormatError, LimitError) as error:
        return error
    return None


def _undamaged(cur: Cursor, limits: Limits) -> Iterator[Metadata]:
    with suppress(FormatError, LimitError):
        yield from _metadata(cur, limits)
