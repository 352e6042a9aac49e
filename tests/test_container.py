"""The container: identity, limits, and that no bytes whatever get past the checks."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from container_files import (
    ALPHA_HEX,
    ANY_SIZE,
    GOLDEN,
    MODEL,
    RICH,
    RICH_HEX,
    SMALL,
    SMALL_HEX,
    files,
    head,
    raw_metadata,
    seal,
    with_metadata,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from aecodec import container as c
from aecodec import errors as e

ROOT = Path(__file__).resolve().parents[1]

# --- what is written is what is read


@settings(max_examples=150, deadline=None)
@given(files())
def test_parse_inverts_serialise(file: c.AecFile) -> None:
    data = c.serialise(file)
    assert c.parse(data, limits=ANY_SIZE) == file
    assert c.parse(bytearray(data), limits=ANY_SIZE, verify=False) == file
    info = c.parse_header(data, limits=ANY_SIZE)
    assert info == c.parse_header(data[: info.size], limits=ANY_SIZE)
    assert info == c.read_header(io.BytesIO(data), limits=ANY_SIZE)
    assert info.header == file.header
    for chunk, entry in zip(file.chunks, info.entries, strict=True):
        assert data[entry.offset : entry.offset + entry.length] == chunk.payload
        assert entry.symbols_crc == chunk.symbols_crc
        assert c.chunk_ok(data, entry)
    for plane, line in zip(file.planes, info.planes, strict=True):
        assert data[line.offset : line.offset + line.length] == plane
        assert c.chunk_ok(data, line)


@pytest.mark.parametrize(("text", "file"), GOLDEN)
def test_golden_bytes(text: str, file: c.AecFile) -> None:
    data = bytes.fromhex(text)
    assert c.serialise(file) == data
    assert c.parse(data) == file


def test_the_documented_test_vector_is_the_golden_one() -> None:
    text = (ROOT / "docs/format.md").read_text(encoding="utf-8")
    lines = re.findall(r"^ {4}((?:[0-9A-F]{2} +)+)", text.split("## Test vector")[1], re.MULTILINE)
    listed = "".join(lines)
    assert bytes.fromhex(listed) == bytes.fromhex(SMALL_HEX)


@pytest.mark.parametrize(
    ("length", "overhead"), [(0, 40), (127, 40), (128, 41), (16383, 41), (16384, 42), (2**21, 43)]
)
def test_overhead_of_a_kodak_image(length: int, overhead: int) -> None:
    file = replace(SMALL, chunks=(c.Chunk(bytes(length), 1),))
    assert len(c.serialise(file)) - length == overhead <= 44


@pytest.mark.parametrize("value", [1, 127, 128, 16383, 16384, 2**28, 2**32 - 1])
def test_sizes_over_the_whole_range(value: int) -> None:
    header = c.Header(value, 1, MODEL, 0, chunk_log2=15)
    rows, cols = c.grid_shape(header)
    file = c.AecFile(header, (c.Chunk(b"", 0),) * (rows * cols))
    limits = c.Limits(max_side=2**32 - 1, max_pixels=2**64)
    assert c.parse(c.serialise(file), limits=limits) == file


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 700), st.integers(1, 700), st.integers(6, 9))
def test_the_grid_covers_every_pixel_once(width: int, height: int, log2: int) -> None:
    header = c.Header(width, height, MODEL, 0, chunk_log2=log2)
    grid = c.chunk_grid(header)
    assert (grid.rows, grid.cols) == c.grid_shape(header)
    assert len(grid.rects) == grid.rows * grid.cols
    assert sum((r.right - r.left) * (r.bottom - r.top) for r in grid.rects) == width * height
    for index, r in enumerate(grid.rects):
        assert r.left == (index % grid.cols) << log2 < r.right <= width
        assert r.top == (index // grid.cols) << log2 < r.bottom <= height


def test_signature_test() -> None:
    assert c.is_aec(c.SIGNATURE)
    assert c.is_aec(memoryview(bytes.fromhex(RICH_HEX)))
    assert not c.is_aec(c.SIGNATURE[:7])
    assert not c.is_aec(b"")


class Trickle(io.RawIOBase):
    """A stream without seek that gives at most 100 bytes at once."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.given = 0

    def read(self, size: int = -1) -> bytes:
        part = self.data[self.given : self.given + min(size, 100)]
        self.given += len(part)
        return part


def test_read_header_reads_little_and_copes_with_short_reads() -> None:
    header = replace(SMALL.header, width=64 * 100, height=64 * 20, chunk_log2=6)
    file = c.AecFile(header, (c.Chunk(bytes(1000), 5),) * 2000)
    data = c.serialise(file)
    stream = Trickle(data)
    info = c.read_header(stream)  # type: ignore[arg-type]
    assert info == c.parse_header(data)
    assert info.size > 4096
    assert stream.given <= info.size + 200
    with pytest.raises(e.TruncatedError):
        c.read_header(Trickle(data[: info.size - 1]))  # type: ignore[arg-type]


# --- damage


@pytest.mark.parametrize(("text", "file"), GOLDEN)
def test_truncation_at_every_byte(text: str, file: c.AecFile) -> None:
    data = bytes.fromhex(text)
    for length in range(len(data)):
        kind = e.TruncatedError if length else e.SignatureError
        with pytest.raises(kind) as caught:
            c.parse(data[:length])
        assert caught.value.offset is not None and caught.value.offset <= length
        with pytest.raises(e.AecError):
            c.parse(data[:length], verify=False)


@pytest.mark.parametrize(("text", "file"), GOLDEN)
def test_every_flipped_bit_is_noticed(text: str, file: c.AecFile) -> None:
    data = bytes.fromhex(text)
    size = c.parse_header(data).size
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(e.AecError):
            c.parse(flipped)
        if bit < size * 8:
            with pytest.raises(e.AecError):
                c.parse_header(flipped)


def attempt(data: bytes) -> None:
    """Parse: an `AecError`, or a file that serialises to exactly these bytes."""
    for limits in (c.DEFAULT_LIMITS, ANY_SIZE):
        try:
            file = c.parse(data, limits=limits)
        except e.AecError:
            continue
        assert c.serialise(file) == data


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_after_the_signature(tail: bytes) -> None:
    attempt(c.SIGNATURE + tail)
    attempt(c.SIGNATURE + bytes((c.VERSION, 0, 1, 0x40)) + tail)
    attempt(seal(head() + tail, tail))
    attempt(seal(head(), tail))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_edited_files_with_a_corrected_header_checksum(data: st.DataObject) -> None:
    valid = bytes.fromhex(data.draw(st.sampled_from([SMALL_HEX, RICH_HEX, ALPHA_HEX])))
    size = c.parse_header(valid).size
    edited = bytearray(valid[: size - 4])
    for _ in range(data.draw(st.integers(1, 3))):
        edited[data.draw(st.integers(8, len(edited) - 1))] = data.draw(st.integers(0, 255))
    attempt(seal(bytes(edited), valid[size:]))


def test_best_effort_reading_of_a_damaged_payload() -> None:
    data = bytearray(bytes.fromhex(RICH_HEX))
    entries = c.parse_header(data).entries
    data[entries[3].offset] ^= 1
    with pytest.raises(e.ChecksumError, match="chunk 3") as caught:
        c.parse(data, name="x.aec")
    assert caught.value.offset == entries[3].offset
    assert str(caught.value).startswith("x.aec: ")
    file = c.parse(data, verify=False)
    expected = [True, True, True, False, True, True]
    assert [chunk.ok for chunk in file.chunks] == expected
    assert [c.chunk_ok(data, entry) for entry in entries] == expected
    assert not c.chunk_ok(data[: entries[5].offset + 4], entries[5])
    with pytest.raises(e.InputError, match="damaged"):
        c.serialise(file)


def test_best_effort_reading_of_a_damaged_alpha_plane() -> None:
    data = bytearray(bytes.fromhex(ALPHA_HEX))
    line = c.parse_header(data).planes[2]
    data[line.offset] ^= 1
    with pytest.raises(e.ChecksumError, match="alpha of chunk 2") as caught:
        c.parse(data)
    assert caught.value.offset == line.offset
    file = c.parse(data, verify=False)
    assert file.planes == (b"alpha of one", b"", None)
    assert all(chunk.ok for chunk in file.chunks)
    with pytest.raises(e.InputError, match="damaged"):
        c.serialise(file)


# --- what the format forbids


@pytest.mark.parametrize(
    ("kind", "cause", "data"),
    [
        (e.SignatureError, "empty", b""),
        (e.SignatureError, "another signature", b"\x89PNG\r\n\x1a\n" + bytes(50)),
        (e.SignatureError, "text mode", b"\x89AEC\n\x1a\n\x01" + bytes(50)),
        (e.SignatureError, "text mode", b"\x09AEC\r\n\x1a\n\x01" + bytes(50)),
        (e.TruncatedError, "signature", c.SIGNATURE[:5]),
        (e.VersionError, "version 2", c.SIGNATURE + b"\x02" + bytes(50)),
        (e.VersionError, "version 0", c.SIGNATURE + bytes(50)),
        (e.VersionError, "bit depth", seal(head(flags=0x20), b"\x00")),
        (e.VersionError, "planes 3", seal(head(flags=0x0C), b"\x00")),
        (e.VersionError, "reserved picture", seal(head(picture=0x41), b"\x00")),
        (e.VersionError, "reserved picture", seal(head(picture=0x81), b"\x00")),
        (e.VersionError, "colour mode 2", seal(head(picture=2), b"\x00")),
        (e.FormatError, "effort 10", seal(head(coding=0x4A), b"\x00")),
        (e.FormatError, "chunk side", seal(head(coding=0xA0), b"\x00")),
        (e.FormatError, "width is zero", seal(head(sizes="00 01 00"), b"\x00")),
        (e.FormatError, "height is zero", seal(head(sizes="01 00 00"), b"\x00")),
        (e.FormatError, "quality 3585", seal(head(sizes="01 01 811c"), b"\x00")),
        (e.FormatError, "longer than", seal(head(sizes="8100 01 00"), b"\x00")),
        (e.FormatError, "longer than", seal(head(sizes="01 8180808000 00"), b"\x00")),
        (e.FormatError, "longer than", seal(head(sizes="01 01 8000"), b"\x00")),
        (e.FormatError, "32 bits", seal(head(sizes="ffffffff10 01 00"), b"\x00")),
        (e.FormatError, "32 bits", seal(head(sizes="ffffffffff 01 00"), b"\x00")),
        (e.FormatError, "longer than", seal(head(table="8000 00000000 00000000"), b"\x00")),
        (e.FormatError, "chunk side code 8", seal(head(flags=4, coding=0x80), b"\x00")),
        (e.FormatError, "longer than", seal(head(flags=4) + b"\x80\x00", b"\x00")),
        (e.TruncatedError, "payload", seal(head(flags=4) + b"\x01\0\0\0\0")),
        (e.TruncatedError, "table", head(flags=4) + b"\x00\x00\x00\x00"),
        (e.ChecksumError, "alpha of chunk 0", seal(head(flags=4) + b"\x01\0\0\0\0", b"a\x00")),
        (e.ChecksumError, "header", head() + b"\x00\x00\x00\x00\x00"),
        (e.TruncatedError, "payload", seal(head(table="01 00000000 00000000"), b"\x00")),
        (e.TruncatedError, "payload", seal(head(table="ffffffff0f 00000000 00000000"), b"\x00")),
        (e.FormatError, "1 bytes after", with_metadata(end=b"\x00\x00")),
        (e.FormatError, "9 bytes after", with_metadata(end=b"\x00" + raw_metadata(b"teSt", b""))),
        (e.TruncatedError, "end marker", with_metadata(end=b"")),
        (e.VersionError, "critical", with_metadata(raw_metadata(b"TeSt", b"x"))),
        (e.FormatError, "type", with_metadata(raw_metadata(b"1eSt", b"x"))),
        (e.FormatError, "type", with_metadata(raw_metadata(b"te\xe9t", b"x"))),
        (e.FormatError, "longer than", with_metadata(raw_metadata(b"teSt", b"", b"\x80\x00"))),
        (e.TruncatedError, "teSt", with_metadata(raw_metadata(b"teSt", b"", b"\xff\x7f"))),
        (e.ChecksumError, "teSt", with_metadata(raw_metadata(b"teSt", b"x")[:-1] + b"\x99")),
    ],
)
def test_malformed_files(kind: type[e.FormatError], cause: str, data: bytes) -> None:
    with pytest.raises(e.FormatError, match=cause) as caught:
        c.parse(data, name="dir/x.aec")
    assert type(caught.value) is kind
    assert caught.value.offset is not None and 0 <= caught.value.offset <= len(data)
    assert str(caught.value).startswith("dir/x.aec: ")


def test_the_orders_used_above_make_a_valid_file() -> None:
    assert c.parse(seal(head(), b"\x00")).header == c.Header(1, 1, MODEL, 0)


def test_unknown_ancillary_metadata_is_kept() -> None:
    data = with_metadata(raw_metadata(b"qq~ ", b"later"), raw_metadata(b"eXIF", b"II"))
    file = c.parse(data)
    assert file.metadata == (c.Metadata(b"qq~ ", b"later"), c.Metadata(c.EXIF, b"II"))
    assert c.serialise(file) == data


# --- limits


@pytest.mark.parametrize("side", ["8080808008", "ffffffff07", "ffffffff0f"])
@pytest.mark.parametrize("coding", [0x00, 0x40, 0x90])
def test_huge_claims_are_refused_at_once(side: str, coding: int) -> None:
    data = seal(head(coding=coding, sizes=side * 2 + "00"), bytes(60))
    tracemalloc.start()
    try:
        for limits in (c.DEFAULT_LIMITS, c.Limits(max_side=2**32)):
            with pytest.raises(e.LimitError, match=r"^big\.aec: .* \d{9}"):
                c.parse(data, name="big.aec", limits=limits)
        with pytest.raises(e.LimitError, match="chunks"):
            c.parse(data, limits=c.Limits(max_side=2**32, max_pixels=2**64))
        with pytest.raises(e.TruncatedError, match="table"):
            c.parse(data, limits=c.Limits(2**64, 2**32, 2**64, max_chunk_pixels=2**64))
        with pytest.raises(e.LimitError):
            c.read_header(io.BytesIO(data))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000  # nothing of the claimed size was ever allocated


def test_a_short_file_of_one_large_chunk_is_refused() -> None:
    data = c.serialise(
        replace(
            SMALL,
            header=replace(SMALL.header, width=5000, height=4000, chunk_log2=13),
            chunks=SMALL.chunks[:1],
        )
    )
    with pytest.raises(e.LimitError, match="pixels of a chunk: 20000000"):
        c.parse(data)
    assert c.parse(data, limits=c.Limits(max_chunk_pixels=20_000_000)).header.width == 5000


@pytest.mark.parametrize(
    ("limits", "cause"),
    [
        (c.Limits(max_side=129), "width in pixels: 130"),
        (c.Limits(max_pixels=9099), "pixels in 130 x 70: 9100"),
        (c.Limits(max_chunks=5), "chunks: 6"),
        (c.Limits(max_metadata=3), "metadata in bytes: 4"),
        (c.Limits(max_metadata_chunks=1), "metadata chunks: 2"),
    ],
)
def test_each_limit(limits: c.Limits, cause: str) -> None:
    with pytest.raises(e.LimitError, match=cause) as caught:
        c.parse(bytes.fromhex(RICH_HEX), limits=limits)
    assert not isinstance(caught.value, e.FormatError)


def test_limits_are_inclusive() -> None:
    limits = c.Limits(9100, 130, 6, 4, 2)
    assert c.parse(bytes.fromhex(RICH_HEX), limits=limits) == RICH


@pytest.mark.parametrize(
    "change",
    [
        {"width": 0},
        {"width": 2**32},
        {"height": -1},
        {"quality": -1},
        {"quality": c.QUALITY_MAX + 1},
        {"colour": 2},
        {"bit_depth": 12},
        {"planes": 2},
        {"orientation": 0},
        {"orientation": 9},
        {"effort": 10},
        {"softness": 4},
        {"precision": 4},
        {"chunk_log2": 5},
        {"chunk_log2": 16},
        {"model_id": b"short"},
    ],
)
def test_serialise_refuses_bad_fields(change: dict[str, int]) -> None:
    with pytest.raises(e.InputError):
        c.serialise(replace(SMALL, header=replace(SMALL.header, **change)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "file",
    [
        replace(SMALL, chunks=()),
        replace(SMALL, chunks=SMALL.chunks * 2),
        replace(SMALL, chunks=(c.Chunk(b"", 2**32),)),
        replace(SMALL, planes=(b"",)),
        replace(SMALL, header=replace(SMALL.header, planes=1)),
        replace(SMALL, header=replace(SMALL.header, planes=1), planes=(None,)),
        replace(SMALL, header=replace(SMALL.header, planes=1, chunk_log2=14), planes=(b"",)),
        replace(SMALL, metadata=(c.Metadata(b"TeSt", b""),)),
        replace(SMALL, metadata=(c.Metadata(b"exif2", b""),)),
        replace(SMALL, metadata=(c.Metadata(b"\x00abc", b""),)),
    ],
)
def test_serialise_refuses_bad_parts(file: c.AecFile) -> None:
    with pytest.raises(e.InputError):
        c.serialise(file)


def test_the_container_needs_no_torch() -> None:
    code = "import sys, aecodec.container as c; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
