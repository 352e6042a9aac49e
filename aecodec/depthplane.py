"""What a chunk of a depth map carries beside its latents: where there are readings, and
what takes their error down to a bound. All of it is lossless, in integers.

Three kinds. `HOLES`: the picture of the network is all there is. `RESIDUAL`: its error r is
coded in steps of 2E + 1, x = x̂ + r(2E + 1). `LEVELS`: the picture is not used; all readings
are rounded to a few levels, whose list and whose number at every pixel are coded. Sensors
give few distinct depths, so that this wins where the bound is tight. See docs/format.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from aecodec.adaptive import Coder, Decoder, Encoder, Ints
from aecodec.depth import LARGEST, readings
from aecodec.errors import FormatError
from aecodec.interlace import Bools, code_bits, code_differences, code_integers, integer_model
from aecodec.samples import Samples


class Kind(IntEnum):
    """What a plane says about readings."""

    HOLES = 0
    RESIDUAL = 1
    LEVELS = 2


@dataclass(frozen=True)
class DepthPlane:
    """A decoded plane.

    Attributes:
        kind: see `Kind`.
        valid: (h, w), where there are readings.
        values: (h, w) for `RESIDUAL` what is added to x̂; for `LEVELS` the depth; in mm.
    """

    kind: Kind
    valid: Bools
    values: Ints | None = None

    def cut(self, rows: slice, cols: slice) -> DepthPlane:
        """A part of the plane."""
        values = None if self.values is None else self.values[rows, cols]
        return DepthPlane(self.kind, self.valid[rows, cols], values)

    def apply(self, shown: Samples | None) -> Samples:
        """Depths (h, w) `uint16`, from the picture of the network; `LEVELS` takes none."""
        if self.kind is Kind.LEVELS and self.values is not None:
            depth = self.values
        else:
            assert shown is not None
            depth = shown.astype(np.int64)
            if self.values is not None:
                depth = depth + self.values
        out: Samples = np.where(self.valid, np.clip(depth, 1, LARGEST), 0).astype(np.uint16)
        return out


class PlaneWriter:
    """Writes the planes of one chunk; its holes are coded once.

    Args:
        samples: (h, w) `uint16` in millimetres.
    """

    def __init__(self, samples: Samples) -> None:
        self._depth = samples.astype(np.int64)
        self._valid = readings(samples)
        self._any = bool(self._valid.any())
        self._holes: Encoder | None = None

    def holes(self) -> bytes:
        """The kind `HOLES`; no bytes if there are none."""
        return b"" if self._valid.all() else self._start(Kind.HOLES).writer.payload()

    def residual(self, shown: Samples, bound: int) -> bytes:
        """The kind `RESIDUAL`, whose result is within `bound` + `DEPTH_MARGIN` on any machine.

        Args:
            shown: x̂, (h, w) `uint16`.
            bound: E, in millimetres, 0 to 32767; on this machine the error is within it.
        """
        if not self._any:
            return self.holes()
        step = 2 * bound + 1
        error = self._depth - shown
        steps = np.sign(error) * ((np.abs(error) + bound) // step)
        coder = self._start(Kind.RESIDUAL)
        coder.bits(1, 16, np.array([bound]))
        code_integers(coder, self._valid, np.where(self._valid, steps, 0))
        return coder.writer.payload()

    def levels(self, bound: int) -> bytes:
        """The kind `LEVELS`, whose result is within `bound` millimetres, exactly."""
        if not self._any:
            return self.holes()
        levels = cover(np.unique(self._depth[self._valid]), bound)
        coder = self._start(Kind.LEVELS)
        _code_levels(coder, levels)
        # every reading has one level that is not below it by more than the bound, and first
        number = np.searchsorted(levels, self._depth - bound)
        code_integers(coder, self._valid, np.where(self._valid, number, 0))
        return coder.writer.payload()

    def _start(self, kind: Kind) -> Encoder:
        """The beginning of a stream: holes, then the kind."""
        if self._holes is None:
            self._holes = Encoder()
            _code_holes(self._holes, self._valid.shape, self._valid)
        coder = Encoder(self._holes)
        coder.bits(1, 2, np.array([int(kind)]))
        return coder


def decode(payload: bytes | None, height: int, width: int) -> DepthPlane:
    """Decode the plane of a chunk.

    Raises:
        FormatError: the payload is no such plane, or None: known to be damaged.
    """
    if payload is None:
        raise FormatError("the depth plane is damaged")
    if not payload:
        return DepthPlane(Kind.HOLES, np.ones((height, width), bool))
    coder = Decoder(payload)
    valid = _code_holes(coder, (height, width), None)
    kind, values = int(coder.bits(1, 2, None)[0]), None
    if kind > max(Kind):
        raise FormatError(f"a depth plane of the unknown kind {kind}")
    if kind != Kind.HOLES and not valid.any():
        raise FormatError("a depth plane has values, but no readings")
    if kind == Kind.RESIDUAL:
        step = 2 * int(coder.bits(1, 16, None)[0]) + 1
        values = step * code_integers(coder, valid, None)
    elif kind == Kind.LEVELS:
        levels = _code_levels(coder, None)
        number = code_integers(coder, valid, None)
        if ((number < 0) | (number >= len(levels))).any():
            raise FormatError("a depth plane names a level that it does not have")
        values = levels[number]
    coder.reader.finish()
    return DepthPlane(Kind(kind), valid, values)


def cover(values: Ints, bound: int) -> Ints:
    """The fewest levels such that each of some rising values is within a bound of one."""
    levels, at = [], 0
    while at < len(values):
        last = int(np.searchsorted(values, values[at] + 2 * bound, side="right")) - 1
        levels.append((int(values[at]) + int(values[last])) // 2)
        at = last + 1
    return np.array(levels, np.int64)


def _code_holes(coder: Coder, size: tuple[int, ...], given: Bools | None) -> Bools:
    """0: no holes; 1: nothing else; 2: some, and a plane of bits that says where."""
    height, width = size
    code = None
    if given is not None:
        code = np.array([0 if given.all() else 1 if not given.any() else 2])
    found = int(coder.bits(1, 2, code)[0])
    if found > 2:
        raise FormatError("a depth plane has an unknown kind of holes")
    if found == 2:
        return code_bits(coder, (height, width), given)
    return np.full((height, width), found == 0)


def _code_levels(coder: Coder, given: Ints | None) -> Ints:
    """The number of levels less 1, the first level, and how the gaps between them grow."""
    counted = None if given is None else np.array([len(given) - 1])
    count = int(coder.bits(1, 16, counted)[0])
    first = coder.bits(1, 16, None if given is None else given[:1])
    growth = None if given is None else np.diff(np.diff(given), prepend=0)
    contexts = np.zeros(count, np.int64)
    gaps = np.cumsum(code_differences(coder, integer_model(), contexts, growth))
    levels = np.concatenate([first, first + np.cumsum(gaps)])
    if (gaps < 1).any() or levels[-1] > LARGEST or levels[0] < 1:
        raise FormatError("the levels of a depth plane do not rise")
    return levels
