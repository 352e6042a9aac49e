"""Golden files of the container, files at random, and damaged ones to order."""

from __future__ import annotations

import struct
import zlib

from hypothesis import strategies as st

from aecodec import container as c

MODEL = bytes.fromhex("0123456789abcdef")

# Written once from version 1 of the format. Never regenerate: old files must stay readable.
SMALL_HEX = (
    "894145430d0a1a0a 01000140 0123456789abcdef 8006 8004 8014 07 156a2c42 78563412 899dd905"
    "7061796c6f6164 00"
)
SMALL = c.AecFile(c.Header(768, 512, MODEL, 2560), (c.Chunk(b"payload", 0x12345678),))
RICH_HEX = (
    "894145430d0a1a0a010129030123456789abcdef820146801403f1866c7a1111111100000000002222222202"
    "72fddb6c33333333047d66c1904444444401ae2bb1845555555505fbb9a66cffffffffaf1a0cf66f6e6500ff"
    "666f757235736978746865584946044d4d002a8810ab417465537400389a21e300"
)
RICH = c.AecFile(
    c.Header(
        width=130,
        height=70,
        model_id=MODEL,
        quality=2560,
        colour=c.ColourMode.RGB,
        orientation=6,
        effort=3,
        precision=c.Precision.BFLOAT16,
        chunk_log2=6,
    ),
    (
        c.Chunk(b"one", 0x11111111),
        c.Chunk(b"", 0x22222222),
        c.Chunk(b"\x00\xff", 0x33333333),
        c.Chunk(b"four", 0x44444444),
        c.Chunk(b"5", 0x55555555),
        c.Chunk(b"sixth", 0xFFFFFFFF),
    ),
    (c.Metadata(c.EXIF, b"MM\x00*"), c.Metadata(b"teSt", b"")),
)
ALPHA_HEX = (
    "894145430d0a1a0a011400000123456789abcdef820140800803f1866c7a1111111103668aca112222222200"
    "00000000333333330cd5122d9a00019b8ed26d617fb7ad6f6e6574776f616c706861206f66206f6e6533784d"
    "5020043c782f3e29b371fd00"
)
ALPHA = c.AecFile(
    c.Header(130, 64, MODEL, 1024, c.ColourMode.GRAY, bit_depth=16, planes=1, chunk_log2=6),
    (c.Chunk(b"one", 0x11111111), c.Chunk(b"two", 0x22222222), c.Chunk(b"", 0x33333333)),
    (c.Metadata(c.XMP, b"<x/>"),),
    (b"alpha of one", b"", b"3"),
)
SOFT_HEX = (
    "894145430d0a1a0a 01800145 0123456789abcdef 8006 8004 8014 07 156a2c42 78563412 f6ae3fbf"
    "7061796c6f6164 00"
)
SOFT = c.AecFile(
    c.Header(768, 512, MODEL, 2560, softness=2, effort=5), (c.Chunk(b"payload", 0x12345678),)
)
GOLDEN = [(SMALL_HEX, SMALL), (RICH_HEX, RICH), (ALPHA_HEX, ALPHA), (SOFT_HEX, SOFT)]
U32 = st.integers(0, 2**32 - 1)


@st.composite
def files(draw: st.DrawFn) -> c.AecFile:
    """Files of 1 to about 60 chunks, thin and square ones, with and without metadata."""
    log2 = draw(st.integers(6, 15))
    alpha = draw(st.booleans()) and log2 <= 13
    rows = draw(st.integers(1, 8))
    cols = draw(st.integers(1, 8))
    side = 1 << log2
    header = c.Header(
        width=cols * side - draw(st.integers(0, side - 1)),
        height=rows * side - draw(st.integers(0, side - 1)),
        model_id=draw(st.binary(min_size=8, max_size=8)),
        quality=draw(st.integers(0, c.QUALITY_MAX)),
        colour=draw(st.sampled_from(c.ColourMode)),
        bit_depth=draw(st.sampled_from([8, 16])),
        planes=int(alpha),
        orientation=draw(st.integers(1, 8)),
        softness=draw(st.integers(0, 3)),
        effort=draw(st.integers(0, 9)),
        precision=draw(st.sampled_from(c.Precision)),
        chunk_log2=log2,
    )
    seeds = draw(st.lists(U32, min_size=rows * cols, max_size=rows * cols))
    chunks = tuple(c.Chunk(b"%d" % seed * (seed % 40), seed) for seed in seeds)
    types = st.sampled_from([c.EXIF, c.ICC, c.XMP, b"zzzz", b"a1 ~"])
    metadata = st.builds(c.Metadata, types, st.binary(max_size=300))
    planes = tuple(b"%d" % seed * (seed % 3) for seed in seeds) if alpha else ()
    return c.AecFile(header, chunks, tuple(draw(st.lists(metadata, max_size=4))), planes)


ANY_SIZE = c.Limits(max_pixels=2**64, max_chunk_pixels=2**64)


def seal(head: bytes, rest: bytes = b"") -> bytes:
    """Bytes up to the end of the table, plus the right checksum, plus what follows."""
    return head + struct.pack("<I", zlib.crc32(head)) + rest


def head(
    *,
    flags: int = 0,
    picture: int = 1,
    coding: int = 0x40,
    sizes: str = "01 01 00",
    table: str = "00 00000000 00000000",
) -> bytes:
    """A header to order, without its checksum; sizes and table in hexadecimal."""
    start = c.SIGNATURE + bytes((c.VERSION, flags, picture, coding)) + MODEL
    return start + bytes.fromhex(sizes) + bytes.fromhex(table)


def with_metadata(*chunks: bytes, end: bytes = b"\x00") -> bytes:
    return seal(head(), b"".join(chunks) + end)


def raw_metadata(kind: bytes, data: bytes, length: bytes | None = None) -> bytes:
    body = kind + (bytes([len(data)]) if length is None else length) + data
    return body + struct.pack("<I", zlib.crc32(body))
