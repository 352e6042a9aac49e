"""docs/format.md says all that a decoder has to know: one was written from it alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import spec_decoder
from conftest import WEIGHTS, chunks_of

from aecodec.codec import Codec


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec("photo", precision="float32")


@pytest.fixture(scope="module")
def model() -> spec_decoder.Model:
    return spec_decoder.Model(WEIGHTS)


def deep(gray: np.ndarray) -> np.ndarray:
    """16 bits a sample, all of them used."""
    return gray.astype(np.uint16) * 256 + 255 - gray


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("colour", {"quality": 92}),
        ("colour", {"quality": 1}),
        ("gray", {"quality": 40, "effort": 4}),  # softness
        ("deep", {"quality": 100}),
        ("escapes", {"quality": 100}),
    ],
)
def test_a_decoder_written_from_the_document_decodes_the_same(
    kind: str, options: dict[str, Any], cat: np.ndarray, codec: Codec, model: spec_decoder.Model
) -> None:
    image = cat[60:131, 40:141]
    if kind in ("gray", "deep"):
        image = image[:, :, 1] if kind == "gray" else deep(image[:, :, 1])
    if kind == "escapes":
        rng = np.random.default_rng(5)
        image = rng.integers(0, 2, (48, 48, 3), dtype=np.uint8) * 255
    data = codec.encode(image, **options)
    assert (spec_decoder.parse(data).softness > 0) == ("effort" in options)
    escaped = _compare(data, codec, model)
    assert escaped > 0 or kind != "escapes"


def test_pictures_of_several_chunks(
    cat: np.ndarray, codec: Codec, model: spec_decoder.Model
) -> None:
    with chunks_of(6):
        data = codec.encode(cat[:90, :130], quality=30)
    assert len(spec_decoder.parse(data).chunks) == 6
    _compare(data, codec, model)


def _compare(data: bytes, codec: Codec, model: spec_decoder.Model) -> int:
    """Returns: how many residuals were coded by an escape."""
    found, pixels = spec_decoder.decode(data, model)
    bounds, escaped = model.tensors["tables.y_bound"], 0
    for (z, q), symbols in zip(found, codec.symbols(data), strict=True):
        np.testing.assert_array_equal(z, symbols.z)
        np.testing.assert_array_equal(q, symbols.q)
        escaped += int((np.abs(q) > bounds[symbols.index]).sum())
    shown = codec.decode(data).astype(np.float64)
    assert shown.shape == pixels.shape
    assert np.abs(shown - pixels).max() <= 1
    return escaped
