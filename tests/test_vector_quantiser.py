"""A latent vector as integers, and the payload they make."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aecodec.entropy import PRECISION, ChunkDecoder, Tables, encode_chunk
from aecodec.model.vector_quantiser import VectorQuantiser

GOLDEN = "4cb0ffd9c3e1fef81524"
"""The integers 18, -5, 1, 79 and -594 (an escape) with the tables 11 to 15."""


def flat_tables() -> Tables:
    """64 triangular tables with bounds 1 to 64, in integers alone."""
    table, bounds = np.zeros((64, 130), np.int32), np.arange(1, 65, dtype=np.int32)
    for i, k in enumerate(bounds):
        weights = np.append(k + 1 - np.abs(np.arange(-k, k + 1)), 1).astype(np.int64)
        part = weights * (1 << PRECISION) // weights.sum()
        part[k] += (1 << PRECISION) - part.sum()
        table[i, : 2 * k + 2] = part
    empty = np.zeros((8, 0), np.int32)
    return Tables(table, bounds, np.zeros((8, 0, 2), np.int32), empty, 2)


def quantiser(length: int = 5) -> VectorQuantiser:
    index = np.add.outer(np.arange(0, 56, 8), np.arange(length)).astype(np.int32)
    index = np.concatenate([index, index[-1:] + 3])
    log_step = torch.linspace(0, -3.5, 8)[:, None].expand(8, length)
    return VectorQuantiser(torch.zeros(length), log_step, index, 2)


def test_golden_payload() -> None:
    tables, vectors = flat_tables(), quantiser()
    y = torch.tensor([9.0, -2.5, 0.3, 40.0, -300.0]).reshape(5, 1, 1)
    s = vectors.quantise(y, 700)
    assert s.index.flatten().tolist() == [11, 12, 13, 14, 15]
    assert s.q.flatten().tolist() == [18, -5, 1, 79, -594]
    payload = encode_chunk(s.z, s.q, s.index, 1, tables, s.groups)
    assert payload.hex() == GOLDEN
    found = vectors.read(ChunkDecoder(payload, tables, 1), 700)
    assert np.array_equal(found.q, s.q)


TABLES = flat_tables()


@settings(max_examples=60)
@given(
    quality=st.integers(0, 3584),
    values=st.lists(  # torch may flush subnormal numbers to 0, and Hypothesis refuses them then
        st.floats(-1e5, 1e5, allow_subnormal=False), min_size=5, max_size=5
    ),
)
def test_any_vector_comes_back(quality: int, values: list[float]) -> None:
    tables, vectors = TABLES, quantiser()
    s = vectors.quantise(torch.tensor(values).reshape(5, 1, 1), quality)
    assert (s.q[s.index < tables.skip] == 0).all()
    payload = encode_chunk(s.z, s.q, s.index, 0, tables, s.groups)
    decoder = ChunkDecoder(payload, tables, 0)
    assert np.array_equal(vectors.read(decoder, quality).q, s.q)
    decoder.finish()
    back = vectors.dequantise(s.z, s.q, quality).flatten()
    coded = s.index.flatten() >= tables.skip
    error = (back - torch.tensor(values))[torch.from_numpy(coded)].abs()
    assert (error <= vectors.step(quality)[torch.from_numpy(coded)] * 0.5 + 0.02).all()
