"""The entropy coder against an independent decoder written from docs/format.md."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aecodec.entropy import ChunkDecoder, RunWriter, Tables, encode_chunk, symbols_crc
from aecodec.errors import AecError, FormatError, InputError, WeightsError

CHANNELS, HYPER = 5, 3


def _table(bound: int, width: int, peak: int) -> np.ndarray:
    """Integers only, so that the golden bytes hold on every machine."""
    weights = [peak * 1000 // (1 + abs(k)) ** 2 + 10 for k in range(-bound, bound + 1)] + [1]
    table = [w * (2**24 - len(weights)) // sum(weights) + 1 for w in weights]
    table[bound] += 2**24 - sum(table)
    return np.array(table + [0] * (width - len(table)), np.int32)


@pytest.fixture(scope="module")
def tables() -> Tables:
    bounds = np.array([1 + i // 4 for i in range(64)], np.int32)
    y = np.stack([_table(int(k), 40, 70 - int(k)) for k in bounds])
    z = np.stack([[_table(3, 8, 9 - r) for _ in range(HYPER)] for r in range(8)])
    return Tables(y, bounds, z, np.full((8, HYPER), 3, np.int32), skip=2)


class SpecDecoder:
    """The section "Entropy-coded payload", word for word, in plain integers."""

    def __init__(self, payload: bytes) -> None:
        padded = payload + bytes(-len(payload) % 4)
        self.words = [int(w) for w in np.frombuffer(padded, "<u4")]
        self.state = 0
        while self.state < 2**32 and self.words:
            self.refill()

    def refill(self) -> None:
        self.state = self.state * 2**32 + self.words.pop()

    def take(self, frequencies: list[int]) -> int:
        t = self.state % 2**24
        symbol = c = 0
        while t >= c + frequencies[symbol]:
            c += frequencies[symbol]
            symbol += 1
        f = frequencies[symbol]
        self.state = self.state // 2**24 * f + t - c
        if self.state < 2**32 and self.words:
            self.refill()
        return symbol

    def uniform(self, bits: int) -> int:
        return self.take([2 ** (24 - bits)] * 2**bits)

    def values(self, rows: list[tuple[list[int], int]]) -> list[int]:
        out, escapes = [], []
        for table, k in rows:
            s = self.take(table[: 2 * k + 2])
            if s == 2 * k + 1:
                escapes.append((len(out), k))
            out.append(s - k)
        for position, k in escapes:
            n = self.uniform(5)
            v = 2**n + (self.uniform(n) if n else 0) - 1
            out[position] = (k + 1 + v // 2) * (-1 if v % 2 else 1)
        return out


def spec_decode(payload: bytes, tables: Tables, row: int, zshape, index, groups):  # type: ignore[no-untyped-def]
    decoder = SpecDecoder(payload)
    cz, h, w = zshape
    z_rows = [
        (tables.z[row, c].tolist(), int(tables.z_bound[row, c]))
        for c in range(cz)
        for _ in range(h * w)
    ]
    z = np.array(decoder.values(z_rows)).reshape(zshape)
    flat = index.ravel()
    q = np.zeros(flat.size, int)
    for p in range(groups.max() + 1):
        members = [i for i in range(flat.size) if groups.flat[i] == p and flat[i] >= tables.skip]
        order = sorted(members, key=lambda i: (flat[i], i))
        rows = [(tables.y[flat[i]].tolist(), int(tables.y_bound[flat[i]])) for i in order]
        q[order] = decoder.values(rows)
    return z, q.reshape(index.shape), decoder


@st.composite
def chunks(draw: st.DrawFn):  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    h, w = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    spread = draw(st.sampled_from([0.3, 2, 30, 3000]))
    zshape = (HYPER, -(-h // 4), -(-w // 4))
    z = np.round(rng.laplace(0, spread, zshape)).astype(np.int32)
    index = rng.integers(0, 64, (CHANNELS, h, w)).astype(np.uint8)
    q = np.round(rng.laplace(0, spread, index.shape)).astype(np.int32)
    return z, np.where(index < 2, 0, q).astype(np.int32), index, draw(st.integers(0, 7))


@given(chunks(), st.sampled_from([1, 2, 4]))
def test_round_trip_and_the_specification_agree(tables, chunk, passes) -> None:  # type: ignore[no-untyped-def]
    z, q, index, row = chunk
    groups = (np.arange(index.size).reshape(index.shape) % passes).astype(np.uint8)
    payload = encode_chunk(z, q, index, row, tables, groups)
    if passes == 1:
        assert payload == encode_chunk(z, q, index, row, tables)
    decoder = ChunkDecoder(payload, tables, row)
    np.testing.assert_array_equal(decoder.z(z.shape), z)
    for p in range(groups.max() + 1):
        np.testing.assert_array_equal(decoder.q(index[groups == p]), q[groups == p])
    decoder.finish()
    spec_z, spec_q, rest = spec_decode(payload, tables, row, z.shape, index, groups)
    np.testing.assert_array_equal(spec_z, z)
    np.testing.assert_array_equal(spec_q, q)
    assert (rest.state, rest.words) == (0, [])


def test_golden_payload(tables: Tables) -> None:
    """Fixed integers give fixed bytes: never regenerate this."""
    z = (np.arange(HYPER * 2) % 3 - 1).reshape(HYPER, 1, 2).astype(np.int32)
    index = (np.arange(CHANNELS * 12) % 64).reshape(CHANNELS, 2, 6).astype(np.uint8)
    q = (np.arange(CHANNELS * 12) * 7 % 5 - 2).reshape(CHANNELS, 2, 6).astype(np.int32)
    q[index < 2] = 0
    q[2, 1, 3] = -777
    payload = encode_chunk(z, q, index, 4, tables)
    assert payload.hex() == GOLDEN
    assert symbols_crc(z, q) == GOLDEN_CRC


def test_an_escape_that_is_too_long_is_a_wrong_format_not_an_early_end(tables: Tables) -> None:
    stream = RunWriter()
    for row in tables.z[0]:
        stream.symbols(np.array([7]), row)
    stream.bits(np.array([25]), 5)
    with pytest.raises(FormatError, match="an escape that is too long") as caught:
        ChunkDecoder(stream.payload(), tables, 0).z((HYPER, 1, 1))
    assert caught.type is FormatError


@given(chunks(), st.data())
def test_damage_never_escapes_the_tree_of_errors(tables, chunk, data) -> None:  # type: ignore[no-untyped-def]
    z, q, index, row = chunk
    payload = bytearray(encode_chunk(z, q, index, row, tables))
    if payload:
        bit = data.draw(st.integers(0, 8 * len(payload) - 1))
        payload[bit // 8] ^= 1 << bit % 8
    try:
        decoder = ChunkDecoder(bytes(payload), tables, row)
        found = symbols_crc(decoder.z(z.shape), decoder.q(index))
        decoder.finish()
    except AecError:
        return
    assert not payload or found != symbols_crc(z, q)


def test_left_over_data_is_refused(tables: Tables) -> None:
    z, index = np.zeros((HYPER, 1, 1), np.int32), np.full((CHANNELS, 1, 1), 9, np.uint8)
    payload = encode_chunk(z, np.zeros(index.shape, np.int32), index, 0, tables)
    decoder = ChunkDecoder(bytes(range(8)) + payload, tables, 0)
    decoder.z(z.shape)
    decoder.q(index)
    with pytest.raises(FormatError):
        decoder.finish()


def test_values_beyond_the_format_are_refused(tables: Tables) -> None:
    z = np.full((HYPER, 1, 1), 2**30, np.int32)
    index = np.zeros((CHANNELS, 1, 1), np.uint8)
    with pytest.raises(InputError, match="too large"):
        encode_chunk(z, np.zeros(index.shape, np.int32), index, 0, tables)


def test_malformed_tables_are_refused(tables: Tables) -> None:
    broken = tables.y.copy()
    broken[7, 0] += 1
    with pytest.raises(WeightsError):
        Tables(broken, tables.y_bound, tables.z, tables.z_bound, 2)


GOLDEN = "cd826469ce0a712071fcc6db25311817a03fccdab94300c0e4642b5cfbfa6c1c"
GOLDEN_CRC = 243853339
