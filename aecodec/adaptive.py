"""Symbols in contexts, coded with tables that learn from what was coded before.

One road for both directions: a `Coder` takes symbols and gives them back, or only gives
them. All arithmetic is in integers, so that both directions have the same tables.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from aecodec.entropy import PRECISION, RunReader, RunWriter

Ints = NDArray[np.int64]

_BLOCK = 128  # symbols with the same tables, and an eighth of those before in the same call
_COUNT = 16  # weight of a symbol that was seen in its context
_SHARED = 1024  # weight of all that was seen in contexts of the same class: 64 symbols


class Coder(Protocol):
    """Takes the symbols that are known (encoding), gives those that come out."""

    def symbols(self, count: int, frequencies: Ints, given: Ints | None) -> Ints:
        """A run of symbols with one table."""

    def bits(self, count: int, bits: int, given: Ints | None) -> Ints:
        """A run of values, uniform in 0 … 2**bits − 1."""


class Encoder:
    """A `Coder` that writes.

    Args:
        before: what is already written, to be written again.
    """

    def __init__(self, before: Encoder | None = None) -> None:
        self.writer: RunWriter = RunWriter(None if before is None else before.writer)

    def symbols(self, count: int, frequencies: Ints, given: Ints | None) -> Ints:
        """Write symbols (count,)."""
        assert given is not None
        self.writer.symbols(given, frequencies)
        return given

    def bits(self, count: int, bits: int, given: Ints | None) -> Ints:
        """Write values (count,)."""
        assert given is not None
        self.writer.bits(given, bits)
        return given


class Decoder:
    """A `Coder` that reads."""

    def __init__(self, payload: bytes) -> None:
        self.reader = RunReader(payload)

    def symbols(self, count: int, frequencies: Ints, given: Ints | None) -> Ints:
        """Read symbols (count,)."""
        return self.reader.symbols(count, frequencies).astype(np.int64)

    def bits(self, count: int, bits: int, given: Ints | None) -> Ints:
        """Read values (count,)."""
        return self.reader.bits(count, bits).astype(np.int64)


class Adaptive:
    """Tables of contexts: the symbols seen there, and those seen in contexts of its class.

    Args:
        prior: (T,) weights of the symbols before any is seen.
        classes: (C,) the class of each context.
    """

    def __init__(self, prior: Ints, classes: Ints) -> None:
        self._prior = prior
        self._classes = classes
        self._counts = np.zeros((len(classes), len(prior)), np.int64)
        self._shared = np.zeros((int(classes.max()) + 1, len(prior)), np.int64)

    def code(self, coder: Coder, contexts: Ints, given: Ints | None) -> Ints:
        """Code symbols (n,), each in its context (n,)."""
        out = np.zeros(len(contexts), np.int64)
        start = 0
        while start < len(contexts):
            block = slice(start, start + _BLOCK + start // 8)
            part = None if given is None else given[block]
            out[block] = self._block(coder, contexts[block], part)
            start = block.stop
        return out

    def _block(self, coder: Coder, contexts: Ints, given: Ints | None) -> Ints:
        """Symbols sorted by context, equal ones in their order; then the tables learn."""
        order = np.argsort(contexts, kind="stable")
        present, counts = np.unique(contexts, return_counts=True)
        out, done = np.zeros(len(contexts), np.int64), 0
        for table, count in zip(self._tables(present), counts.tolist(), strict=True):
            where = order[done : done + count]
            out[where] = coder.symbols(count, table, None if given is None else given[where])
            done += count
        np.add.at(self._counts, (contexts, out), 1)
        np.add.at(self._shared, (self._classes[contexts], out), 1)
        return out

    def _tables(self, present: Ints) -> Ints:
        """(n, T) frequencies >= 1 of some contexts, each with the sum 2**24."""
        shared = _COUNT * self._shared[self._classes[present]] + self._prior
        shared = _SHARED * shared // shared.sum(axis=1, keepdims=True)
        return _frequencies(_COUNT * self._counts[present] + shared)


def _frequencies(weights: Ints) -> Ints:
    """Weights in proportion, every one at least 1; what rounding leaves goes to the largest."""
    total = 1 << PRECISION
    share: Ints = (total - weights.shape[1]) * weights // weights.sum(axis=1, keepdims=True) + 1
    largest = share.argmax(axis=1)[:, None]
    missing = total - share.sum(axis=1, keepdims=True)
    np.put_along_axis(share, largest, np.take_along_axis(share, largest, 1) + missing, 1)
    return share
