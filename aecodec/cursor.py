"""Reading untrusted bytes: a cursor that checks before it takes, and varints.

Only `aecodec.container` and `aecodec.header` use it. Every failure is an `AecError` that names the
cause, the byte offset and, where it is known, the file.
"""

from __future__ import annotations

import zlib

from aecodec.errors import (
    ChecksumError,
    FormatError,
    InputError,
    LimitError,
    TruncatedError,
    prefix,
)

Data = bytes | bytearray | memoryview
U32_MAX = 2**32 - 1


def write_varint(value: int) -> bytes:
    """LEB128 of 0 <= value: 7 bits a byte, lowest first, top bit set on all but the last."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class Cursor:
    """A position in untrusted bytes; every failure names cause, offset and file."""

    def __init__(self, data: Data, name: str | None) -> None:
        try:
            self.view = memoryview(data).cast("B")
        except TypeError as error:
            kind = type(data).__name__
            raise InputError(
                f"decoded are the bytes of a file, not {kind}; aecodec.decompress takes names"
            ) from error
        self.pos = 0
        self.name = name

    @property
    def left(self) -> int:
        """Bytes after the position."""
        return len(self.view) - self.pos

    def error(self, kind: type[FormatError], cause: str, offset: int | None = None) -> FormatError:
        """An error of that kind, to be raised: at the position unless an offset is given."""
        return kind(cause, offset=self.pos if offset is None else offset, name=self.name)

    def within(self, what: str, value: int, limit: int) -> None:
        """Raise `LimitError` if the value is over the limit."""
        if value > limit:
            raise LimitError(f"{prefix(self.name)}{what}: {value} is over the limit of {limit}")

    def need(self, count: int, what: str) -> None:
        """Raise `TruncatedError` unless `count` more bytes are there."""
        if count > self.left:
            cause = f"the file ends early: {what} needs {count} bytes or more, {self.left} are left"
            raise self.error(TruncatedError, cause)

    def take(self, count: int, what: str) -> bytes:
        """Copy the next `count` bytes, or raise `TruncatedError`."""
        self.need(count, what)
        self.pos += count
        return bytes(self.view[self.pos - count : self.pos])

    def byte(self, what: str) -> int:
        """Read one byte, or raise `TruncatedError`."""
        return self.take(1, what)[0]

    def u32(self, what: str) -> int:
        """Read four bytes, little-endian, or raise `TruncatedError`."""
        return int.from_bytes(self.take(4, what), "little")

    def varint(self, what: str) -> int:
        """Read a varint; `FormatError` if it is over 32 bits or longer than need be."""
        start, value = self.pos, 0
        for shift in range(0, 35, 7):
            byte = self.byte(what)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if byte == 0 and shift:
                    cause = f"{what}: the varint is longer than need be"
                    raise self.error(FormatError, cause, start)
                if value > U32_MAX:
                    break
                return value
        raise self.error(FormatError, f"{what}: the varint does not fit 32 bits", start)

    def checksum(self, start: int, what: str) -> None:
        """Read the CRC-32 of all bytes from `start` to here; `ChecksumError` if it differs."""
        computed, where = zlib.crc32(self.view[start : self.pos]), self.pos
        stored = self.u32(f"the checksum of {what}")
        if stored != computed:
            cause = f"{what}: stored checksum {stored:08x}, computed {computed:08x}"
            raise self.error(ChecksumError, cause, where)
