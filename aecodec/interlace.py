"""Lossless planes of bits and of integers: interlaced, in contexts of neighbours all around.

A plane is coded in passes, from every 128th pixel each way to the pixels in between: most
pixels have known neighbours on every side, and all of a pass is computed at once. See
"Depth" in docs/format.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aecodec.adaptive import Adaptive, Coder, Ints
from aecodec.errors import FormatError

Bools = NDArray[np.bool_]

LARGEST = 1 << 17
"""Bound of the values of a plane, either way."""

_SPACING = 128  # of the first pass
_MARGIN = 2 * _SPACING  # around a plane; nothing is known there

# known neighbours of a pixel by the kind of its pass, in units of the pass's reach:
# two pairs of opposite ones
_NEAR = {
    1: ((-1, -1), (1, 1), (-1, 1), (1, -1)),
    2: ((0, -1), (0, 1), (-1, 0), (1, 0)),
    3: ((0, -1), (0, 1), (-1, 0), (1, 0)),
}
# and four that are further away
_FAR = {
    1: ((-1, -3), (-1, 3), (1, -3), (1, 3)),
    2: ((-1, -2), (-1, 2), (1, -2), (1, 2)),
    3: ((-1, -1), (-1, 1), (1, -1), (1, 1)),
}


class Pass(NamedTuple):
    """The pixels (top + i·step, left + j·step), and how far their neighbours are."""

    top: int
    left: int
    step: int
    reach: int
    kind: int  # 0 the first, 1 centres of squares, 2 amid rows that are known, 3 the rest

    def of(self, plane: NDArray[Any]) -> NDArray[Any]:
        """Those pixels of a plane, a view (rows, cols)."""
        return plane[self.top :: self.step, self.left :: self.step]


def passes(height: int, width: int) -> Iterator[Pass]:
    """The passes of a plane, without empty ones."""
    yield Pass(0, 0, _SPACING, _SPACING, 0)
    step = _SPACING
    while step > 1:
        half = step // 2
        for kind, (top, left) in enumerate(((half, half), (0, half), (half, 0)), start=1):
            if top < height and left < width:
                yield Pass(top, left, step, half, kind)
        step = half


class _Known:
    """What is known of a plane so far."""

    def __init__(self, height: int, width: int) -> None:
        self._values = np.zeros((height + 2 * _MARGIN, width + 2 * _MARGIN), np.int32)
        self._known = np.zeros(self._values.shape, bool)
        self._inside = slice(_MARGIN, _MARGIN + height), slice(_MARGIN, _MARGIN + width)
        self.plane = self._values[self._inside]

    def put(self, now: Pass, values: Ints, known: Bools) -> None:
        """Fill in a pass; what does not count as known is 0."""
        now.of(self.plane)[:] = np.where(known, values, 0)
        now.of(self._known[self._inside])[:] = known

    def around(
        self, now: Pass, places: tuple[tuple[int, int], ...]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Neighbours of all pixels of a pass: values, 0 or 1 for known; (4, rows, cols)."""
        rows, cols = now.of(self.plane).shape
        values, known = [], []
        for down, right in places:
            top = _MARGIN + now.top + down * now.reach
            left = _MARGIN + now.left + right * now.reach
            area = slice(top, None, now.step), slice(left, None, now.step)
            values.append(self._values[area][:rows, :cols])
            known.append(self._known[area][:rows, :cols])
        return np.array(values, np.int64), np.array(known, np.int64)


# ---- bits ----


def code_bits(coder: Coder, size: tuple[int, int], given: Bools | None) -> Bools:
    """Code a plane of bits.

    Args:
        coder: which direction.
        size: its height and width.
        given: (h, w), when encoding.
    """
    found = _Known(*size)
    near_alone = np.arange(10 << 8) >> 4 & 15
    model = Adaptive(np.array([8, 8]), near_alone)
    for now in passes(*size):
        place = now.of(found.plane)
        contexts = np.zeros(place.shape, np.int64)
        if now.kind:
            contexts += now.kind + 3 * min(now.reach.bit_length() - 1, 2)
            for bit in (
                *found.around(now, _NEAR[now.kind])[0],
                *found.around(now, _FAR[now.kind])[0],
            ):
                contexts = 2 * contexts + bit
        bits = None if given is None else now.of(given).ravel().astype(np.int64)
        out = model.code(coder, contexts.ravel(), bits).reshape(place.shape)
        found.put(now, out, np.ones(place.shape, bool))
    return found.plane > 0


# ---- integers ----

_EXACT = 8  # differences up to here are symbols of their own
_DOUBLINGS = 19  # then one for each sign and number of further bits, 0 to 18
_SYMBOLS = 2 * _EXACT + 1 + 2 * _DOUBLINGS
_STEPS = np.array([0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128, 256])
_CLASSES = 2 * (len(_STEPS) + 1) * 3  # all four neighbours known, activity, skew


def integer_model() -> Adaptive:
    """Tables for `code_integers`, before anything is seen."""
    prior = np.ones(_SYMBOLS, np.int64)
    prior[: 2 * _EXACT + 1] = np.maximum(128 >> np.abs(np.arange(-_EXACT, _EXACT + 1)), 1)
    return Adaptive(prior, np.arange(7 * _CLASSES) % _CLASSES)


def code_integers(coder: Coder, valid: Bools, given: Ints | None) -> Ints:
    """Code a plane of integers.

    Args:
        coder: which direction.
        valid: (h, w), known to both sides; elsewhere the result is 0.
        given: (h, w), when encoding, within ±`LARGEST`.

    Raises:
        FormatError: a value that comes out is beyond that.
    """
    found, model = _Known(*valid.shape), integer_model()
    for now in passes(*valid.shape):
        here = now.of(valid)
        expected, contexts = np.zeros(here.shape, np.int64), np.zeros(here.shape, np.int64)
        if now.kind:
            near, far = found.around(now, _NEAR[now.kind]), found.around(now, _FAR[now.kind])
            expected, contexts = _expect(now, *near, *far)
        differences = None if given is None else now.of(given)[here] - expected[here]
        out = expected.copy()
        out[here] += code_differences(coder, model, contexts[here], differences)
        if (np.abs(out[here]) > LARGEST).any():
            raise FormatError("a coded value is out of range")
        found.put(now, out, here)
    return found.plane.astype(np.int64)


def _expect(
    now: Pass, near: Ints, near_known: Ints, far: Ints, far_known: Ints
) -> tuple[Ints, Ints]:
    """What the pixels of a pass will be, from their neighbours, and how sure that is."""
    count = near_known.sum(axis=0)
    some, total = np.maximum(count, 1), near.sum(axis=0)
    expected = (2 * total + some) // (2 * some)
    full = count == 4
    first, second = np.abs(near[0] - near[1]), np.abs(near[2] - near[3])
    # along an edge the neighbours are alike: their mean, if the other pair's differ more
    expected = np.where(full & (first > 2 * second + 1), (near[2] + near[3] + 1) >> 1, expected)
    expected = np.where(full & (second > 2 * first + 1), (near[0] + near[1] + 1) >> 1, expected)
    activity = (np.abs(near - expected) * near_known).sum(axis=0) * 4 // some
    others = np.maximum(far_known.sum(axis=0), 1)
    activity += (np.abs(far - expected) * far_known).sum(axis=0) * 2 // others
    level = np.where(count > 0, np.searchsorted(_STEPS, activity, side="right") - 1, len(_STEPS))
    skew = np.sign(total - count * expected) + 1
    group = now.kind + 3 * (now.reach > 1)
    return expected, ((group * 2 + full) * (len(_STEPS) + 1) + level) * 3 + skew


def code_differences(coder: Coder, model: Adaptive, contexts: Ints, given: Ints | None) -> Ints:
    """Code integers (n,) in their contexts (n,): symbols, then the low bits of large ones."""
    symbols = beyond = None
    if given is not None:
        beyond = np.maximum(np.abs(given) - _EXACT, 1)
        doublings = np.frexp(beyond.astype(np.float64))[1] - 1  # floor of log2, exact
        large = 2 * _EXACT + 1 + 2 * doublings + (given < 0)
        symbols = np.where(np.abs(given) <= _EXACT, given + _EXACT, large)
    symbols = model.code(coder, contexts, symbols)
    out = symbols - _EXACT
    escaped = symbols - (2 * _EXACT + 1)
    for bits in range(_DOUBLINGS):
        where = np.flatnonzero(escaped >> 1 == bits)
        if len(where) == 0:
            continue
        low = np.zeros(len(where), np.int64)
        if bits:
            known = None if beyond is None else beyond[where] - (1 << bits)
            low = coder.bits(len(where), bits, known)
        magnitude = _EXACT + (1 << bits) + low
        out[where] = np.where(escaped[where] & 1, -magnitude, magnitude)
    return out
