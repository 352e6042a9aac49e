"""The fields at the beginning of an `.aec` file, up to the quality: to bytes and back."""

from __future__ import annotations

from aecodec.cursor import U32_MAX, Cursor, write_varint
from aecodec.errors import (
    FormatError,
    InputError,
    SignatureError,
    TruncatedError,
    VersionError,
)
from aecodec.layout import (
    DEPTH,
    QUALITY_MAX,
    SIGNATURE,
    SOFTNESS_MAX,
    VERSION,
    ColourMode,
    Header,
    Limits,
    Precision,
)

_LOG2_MIN, _LOG2_MAX, _EFFORT_MAX = 6, 15, 9
_PLANES_LOG2_MAX = 13  # the coder of alpha takes sides up to 16383
_DEPTHS = (8, 16)  # bits a sample, by their code in the header
_PLANES_MAX = DEPTH


def require(name: str, value: int, low: int, high: int) -> None:
    """Raise `InputError` unless a value lies within a range."""
    if not low <= value <= high:
        raise InputError(f"{name} is {value}, not in {low}..{high}")


def write_fields(header: Header) -> bytes:
    """The bytes of the fields.

    Raises:
        InputError: one is out of its range.
    """
    require("width", header.width, 1, U32_MAX)
    require("height", header.height, 1, U32_MAX)
    require("quality", header.quality, 0, QUALITY_MAX)
    require("colour mode", header.colour, 0, max(ColourMode))
    if header.bit_depth not in _DEPTHS:
        raise InputError(f"bit depth is {header.bit_depth}, not 8 or 16")
    require("kind of planes", header.planes, 0, _PLANES_MAX)
    require("orientation", header.orientation, 1, 8)
    if header.planes == DEPTH and (header.colour, header.bit_depth) != (ColourMode.GRAY, 16):
        raise InputError("depth is 16-bit gray")
    require("softness", header.softness, 0, SOFTNESS_MAX)
    require("effort", header.effort, 0, _EFFORT_MAX)
    require("precision", header.precision, 0, max(Precision))
    log2_max = _PLANES_LOG2_MAX if header.planes else _LOG2_MAX
    require("log2 of the chunk side", header.chunk_log2, _LOG2_MIN, log2_max)
    require("length of the model id", len(header.model_id), 8, 8)
    packed = (
        VERSION,
        header.precision
        | header.planes << 2
        | _DEPTHS.index(header.bit_depth) << 4
        | header.softness << 6,
        header.colour | (header.orientation - 1) << 3,
        header.effort | (header.chunk_log2 - _LOG2_MIN) << 4,
    )
    sizes = write_varint(header.width) + write_varint(header.height) + write_varint(header.quality)
    return SIGNATURE + bytes(packed) + header.model_id + sizes


def _signature(cur: Cursor) -> None:
    start = bytes(cur.view[: len(SIGNATURE)])
    if start == SIGNATURE:
        cur.pos = len(SIGNATURE)
    elif not start:
        raise cur.error(SignatureError, "not an .aec file: it is empty")
    elif SIGNATURE.startswith(start):
        raise cur.error(TruncatedError, "the file ends inside the signature", len(start))
    elif start[1:4] == SIGNATURE[1:4]:
        cause = "the signature is damaged, as by a transfer in text mode (line ends, eighth bit)"
        raise cur.error(SignatureError, cause)
    else:
        raise cur.error(SignatureError, "not an .aec file: it begins with another signature")


def _size(cur: Cursor, what: str, limits: Limits) -> int:
    start = cur.pos
    value = cur.varint(what)
    if value == 0:
        raise cur.error(FormatError, f"the {what} is zero", start)
    cur.within(f"{what} in pixels", value, limits.max_side)
    return value


def _check_flags(cur: Cursor, start: int, flags: int, picture: int, coding: int) -> None:
    """Refuse what the three bytes at `start` must not say, and what only later releases know."""
    for offset, what, value, known in (
        (start, "bit depth code", flags >> 4 & 3, len(_DEPTHS) - 1),
        (start, "kind of planes", flags >> 2 & 3, _PLANES_MAX),
        (start + 1, "reserved picture bits", picture >> 6, 0),
    ):
        if value > known:
            cause = f"{what} {value}: unknown to this release, whose largest is {known}"
            raise cur.error(VersionError, cause, offset)
    if picture & 7 > max(ColourMode):
        raise cur.error(VersionError, f"unknown colour mode {picture & 7}", start + 1)
    if flags >> 2 & 3 == DEPTH and (flags >> 4 & 3, picture & 7) != (1, ColourMode.GRAY):
        raise cur.error(FormatError, "depth that is not 16-bit gray", start)
    if coding & 15 > _EFFORT_MAX:
        raise cur.error(FormatError, f"effort {coding & 15} is not in 0..9", start + 2)
    sides = (_PLANES_LOG2_MAX if flags >> 2 & 3 else _LOG2_MAX) - _LOG2_MIN
    if coding >> 4 > sides:
        raise cur.error(FormatError, f"chunk side code {coding >> 4} is over {sides}", start + 2)


def read_fields(cur: Cursor, limits: Limits) -> Header:
    """Read the signature and the fields.

    Raises:
        FormatError: they are not those of an `.aec` file of this version.
        LimitError: the size is over the limits.
    """
    _signature(cur)
    version = cur.byte("the version")
    if version != VERSION:
        cause = f"format version {version}; this release reads version {VERSION}"
        raise cur.error(VersionError, cause, cur.pos - 1)
    start = cur.pos
    flags, picture, coding = cur.take(3, "the header")
    _check_flags(cur, start, flags, picture, coding)
    model_id = cur.take(8, "the model id")
    width, height = _size(cur, "width", limits), _size(cur, "height", limits)
    cur.within(f"pixels in {width} x {height}", width * height, limits.max_pixels)
    start = cur.pos
    quality = cur.varint("quality")
    if quality > QUALITY_MAX:
        raise cur.error(FormatError, f"quality {quality} is not in 0..{QUALITY_MAX}", start)
    return Header(
        width=width,
        height=height,
        model_id=model_id,
        quality=quality,
        colour=ColourMode(picture & 7),
        bit_depth=_DEPTHS[flags >> 4 & 3],
        planes=flags >> 2 & 3,
        orientation=(picture >> 3) + 1,
        softness=flags >> 6,
        effort=coding & 15,
        precision=Precision(flags & 3),
        chunk_log2=(coding >> 4) + _LOG2_MIN,
    )
