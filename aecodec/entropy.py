"""Entropy coding of integers with constriction, from integer frequency tables.

The only module that imports constriction. A chunk is one ANS stream (a stack of 32-bit
words with a 64-bit head, 24-bit frequencies). In decoding order it holds ẑ channel by
channel, its escapes, then for every coding pass its residuals of y sorted by scale index,
and their escapes. See docs/format.md.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from aecodec.errors import FormatError, InputError, WeightsError

PRECISION = 24
"""Frequencies of a table sum to 2**24."""

MAX_ESCAPE_BITS = 24
"""Longest mantissa of an escaped value, in bits."""

_Ints = NDArray[np.int32]
_AnsCoder = constriction.stream.stack.AnsCoder
_Categorical = constriction.stream.model.Categorical
_Uniform = constriction.stream.model.Uniform


@dataclass(frozen=True)
class Tables:
    """Integer frequency tables of a model.

    A table with bound K has 2K + 2 entries: the values −K … K, then the escape. Rows are
    padded with zeros to a common width.

    Attributes:
        y: (64, W) frequencies for residuals, one table a scale index.
        y_bound: (64,) the bound of each.
        z: (8, Cz, Wz) frequencies for ẑ, one table a quality row and channel.
        z_bound: (8, Cz) the bound of each.
        skip: residuals with a scale index below this are zero and not coded.
    """

    y: _Ints
    y_bound: _Ints
    z: _Ints
    z_bound: _Ints
    skip: int
    _z_models: dict[int, list[Any]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        for table, bound in ((self.y, self.y_bound), (self.z, self.z_bound)):
            if table.shape[:-1] != bound.shape:
                raise WeightsError("frequency tables and their bounds differ in number")
            size = 2 * bound.astype(np.int64) + 2
            inside = np.arange(table.shape[-1]) < size[..., None]
            sums = table.astype(np.int64).sum(axis=-1)
            if (
                np.any(bound < 0)
                or np.any(size > table.shape[-1])
                or np.any(sums != 1 << PRECISION)
                or np.any(np.where(inside, table, 1) < 1)
                or np.any(np.where(inside, 0, table) != 0)
            ):
                raise WeightsError("a frequency table is malformed")
        if not 0 <= self.skip <= len(self.y):
            raise WeightsError(f"residuals cannot be skipped below the scale index {self.skip}")

    @cached_property
    def y_models(self) -> list[Any]:
        """constriction models of the residual tables."""
        return [_model(row, int(k)) for row, k in zip(self.y, self.y_bound, strict=True)]

    def z_models(self, row: int) -> list[Any]:
        """constriction models of one quality row of the ẑ tables, made on first use."""
        if row not in self._z_models:
            self._z_models[row] = [
                _model(t, int(k)) for t, k in zip(self.z[row], self.z_bound[row], strict=True)
            ]
        return self._z_models[row]


def _model(frequencies: _Ints, bound: int) -> Any:
    return _table(frequencies[: 2 * bound + 2])


def _table(frequencies: NDArray[np.integer[Any]]) -> Any:
    # constriction gives every symbol one count and shares out the rest by weight: with
    # weights f − 1 that sum to 2^24 − n, the result is exactly f
    return _Categorical((frequencies - 1).astype(np.float64), perfect=False)


def _payload(coder: Any) -> bytes:
    words = coder.get_compressed().astype("<u4", copy=False)
    return bytes(words.tobytes().rstrip(b"\0"))  # the last word is not zero, so this is undone


def _check_end(coder: Any) -> None:
    if not coder.is_empty():
        raise FormatError("entropy-coded data is longer than its symbols")


def symbols_crc(z: _Ints, q: _Ints) -> int:
    """CRC-32 of the integers of a chunk: ẑ, then q, as little-endian int32 in C order."""
    crc = zlib.crc32(np.ascontiguousarray(z, dtype="<i4").data)
    return zlib.crc32(np.ascontiguousarray(q, dtype="<i4").data, crc)


def _groups(index: NDArray[np.uint8], skip: int) -> tuple[NDArray[np.intp], list[tuple[int, int]]]:
    """Positions sorted by scale index, and (index, count) for each that is coded."""
    flat = index.reshape(-1)
    order = np.argsort(flat, kind="stable")
    edges = np.searchsorted(flat, np.arange(skip, 257), sorter=order).tolist()
    counts = [after - first for first, after in pairwise(edges)]
    return order[edges[0] :], [(i, n) for i, n in enumerate(counts, start=skip) if n]


def encode_chunk(
    z: _Ints,
    q: _Ints,
    index: NDArray[np.uint8],
    row: int,
    tables: Tables,
    groups: NDArray[np.uint8] | None = None,
) -> bytes:
    """Code the integers of one chunk.

    Args:
        z: (Cz, h, w) ẑ.
        q: (C, H, W) residuals of y; zero wherever `index < tables.skip`.
        index: (C, H, W) scale indices.
        row: quality row of the ẑ tables, 0 to 7.
        tables: of the model.
        groups: (C, H, W) coding pass of each residual, from 0; None for a single pass.

    Raises:
        InputError: a value is beyond ±2^23.
    """
    z_flat = z.reshape(z.shape[0], math.prod(z.shape[1:]))
    z_runs = [
        (z_flat[c], int(tables.z_bound[row, c]), model)
        for c, model in enumerate(tables.z_models(row))
    ]
    passes = [z_runs]
    if groups is None:
        passes.append(_residual_runs(q.reshape(-1), index.reshape(-1), tables))
    else:
        for p in range(int(groups.max()) + 1):
            now = np.flatnonzero(groups == p)
            passes.append(_residual_runs(q.reshape(-1)[now], index.reshape(-1)[now], tables))
    coder = _AnsCoder()  # a stack: what is decoded first is pushed last
    for runs in reversed(passes):
        symbols = [_to_symbols(values, bound) for values, bound, _ in runs]
        escaped = [values[np.abs(values) > bound] for values, bound, _ in runs]
        bounds = [np.full(len(e), k) for e, (_, k, _) in zip(escaped, runs, strict=True)]
        _push_escapes(coder, _join(escaped), _join(bounds))
        for part, (_, _, model) in zip(reversed(symbols), reversed(runs), strict=True):
            coder.encode_reverse(part, model)
    return _payload(coder)


def _residual_runs(
    q: _Ints, index: NDArray[np.uint8], tables: Tables
) -> list[tuple[_Ints, int, Any]]:
    """Residuals of one pass by scale index: values, bound and model of each that is coded."""
    order, groups = _groups(index, tables.skip)
    parts = np.split(q[order], np.cumsum([n for _, n in groups])[:-1])
    return [
        (part, int(tables.y_bound[i]), tables.y_models[i])
        for part, (i, _) in zip(parts, groups, strict=bool(groups))
    ]


def _join(parts: list[_Ints]) -> _Ints:
    return np.concatenate(parts) if parts else np.zeros(0, np.int32)


def _to_symbols(values: _Ints, bound: int) -> _Ints:
    inside = np.abs(values) <= bound
    symbols: _Ints = np.where(inside, values + bound, 2 * bound + 1).astype(np.int32)
    return symbols


def _push_escapes(coder: Any, values: _Ints, bounds: _Ints) -> None:
    for value, bound in zip(values[::-1].tolist(), bounds[::-1].tolist(), strict=True):
        code = 2 * (abs(value) - bound - 1) + (value < 0) + 1  # Elias gamma of code >= 1
        bits = code.bit_length() - 1
        if bits > MAX_ESCAPE_BITS:
            raise InputError(f"a latent of {value} is too large to be coded")
        if bits:
            coder.encode_reverse(np.array([code - (1 << bits)], np.int32), _Uniform(1 << bits))
        coder.encode_reverse(np.array([bits], np.int32), _Uniform(32))


class ChunkDecoder:
    """Decodes one chunk step by step, since scale indices depend on what is decoded before.

    Args:
        payload: as from `encode_chunk`, its checksum already verified.
        tables: of the model that made it.
        row: quality row of the ẑ tables.

    Raises:
        FormatError: the stream ends in zeros.
    """

    def __init__(self, payload: bytes, tables: Tables, row: int) -> None:
        self._tables = tables
        self._row = row
        self._coder = _AnsCoder(_words(payload))

    def z(self, shape: tuple[int, int, int]) -> _Ints:
        """ẑ of the given shape (Cz, h, w), int32.

        Raises:
            FormatError: an escape is too long.
        """
        models = self._tables.z_models(self._row)
        bounds = self._tables.z_bound[self._row].tolist()
        count = shape[1] * shape[2]
        runs = list(zip([count] * shape[0], bounds, models, strict=True))
        return self._pop(runs).reshape(shape)

    def q(self, index: NDArray[np.uint8], order: NDArray[np.intp] | None = None) -> _Ints:
        """The next residuals of y.

        Args:
            index: their scale indices.
            order: where in it, flattened, those of the stream stand, one after the other;
                None if all do, in order.

        Returns:
            int32 of the same shape as `index`, 0 where nothing is coded.

        Raises:
            FormatError: an escape is too long.
        """
        flat = index.reshape(-1)
        coded, groups = _groups(flat if order is None else flat[order], self._tables.skip)
        runs = [(n, int(self._tables.y_bound[i]), self._tables.y_models[i]) for i, n in groups]
        out = np.zeros(index.size, np.int32)
        out[coded if order is None else order[coded]] = self._pop(runs)
        return out.reshape(index.shape)

    def finish(self) -> None:
        """Call after the last residual.

        Raises:
            FormatError: the stream does not end here.
        """
        _check_end(self._coder)

    def _pop(self, runs: list[tuple[int, int, Any]]) -> _Ints:
        parts = [self._coder.decode(model, count) for count, _, model in runs]
        bounds = np.repeat(
            np.array([bound for _, bound, _ in runs], np.int32), [count for count, _, _ in runs]
        )
        symbols = _join(parts)
        values: _Ints = (symbols - bounds).astype(np.int32, copy=False)
        for position in np.flatnonzero(values > bounds).tolist():
            values[position] = self._pop_escape(int(bounds[position]))
        return values

    def _pop_escape(self, bound: int) -> int:
        bits = int(self._coder.decode(_Uniform(32), 1)[0])
        if bits > MAX_ESCAPE_BITS:
            raise FormatError("entropy-coded data holds an escape that is too long")
        code = 1 << bits
        if bits:
            code += int(self._coder.decode(_Uniform(1 << bits), 1)[0])
        magnitude, negative = divmod(code - 1, 2)
        magnitude += bound + 1
        return -magnitude if negative else magnitude


class RunWriter:
    """Runs of symbols, each with a table of its own, in decoding order: one ANS stream."""

    def __init__(self, before: RunWriter | None = None) -> None:
        self._runs: list[tuple[_Ints, Any]] = [] if before is None else list(before._runs)

    def symbols(self, symbols: NDArray[np.integer[Any]], frequencies: NDArray[np.int64]) -> None:
        """Append symbols: indices into 2 or more frequencies >= 1 that sum to 2**24."""
        self._runs.append((symbols.astype(np.int32), _table(frequencies)))

    def bits(self, values: NDArray[np.integer[Any]], count: int) -> None:
        """Append values that are uniform in 0 … 2**count − 1, count from 1 to 24."""
        self._runs.append((values.astype(np.int32), _Uniform(1 << count)))

    def payload(self) -> bytes:
        """The stream, as the payload of a chunk."""
        coder = _AnsCoder()  # a stack: what is decoded first is pushed last
        for values, model in reversed(self._runs):
            coder.encode_reverse(values, model)
        return _payload(coder)


class RunReader:
    """Reads what `RunWriter` wrote, run by run.

    Raises:
        FormatError: the stream ends in zeros.
    """

    def __init__(self, payload: bytes) -> None:
        self._coder = _AnsCoder(_words(payload))

    def symbols(self, count: int, frequencies: NDArray[np.int64]) -> _Ints:
        """The next `count` symbols."""
        found: _Ints = self._coder.decode(_table(frequencies), count)
        return found

    def bits(self, count: int, bits: int) -> _Ints:
        """The next `count` values of so many bits each."""
        found: _Ints = self._coder.decode(_Uniform(1 << bits), count)
        return found

    def finish(self) -> None:
        """Raise `FormatError` unless the stream ends here."""
        _check_end(self._coder)


def _words(payload: bytes) -> NDArray[np.uint32]:
    words = np.frombuffer(payload + bytes(-len(payload) % 4), dtype="<u4")
    if len(words) and words[-1] == 0:
        raise FormatError("entropy-coded data ends in zeros")
    return words.astype(np.uint32)
