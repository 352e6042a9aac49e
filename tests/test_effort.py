"""Effort: the same decoder, a smaller loss, the same bytes every time."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from conftest import psnr

import aecodec
from aecodec.codec import Codec
from aecodec.entropy import PRECISION
from aecodec.errors import InputError
from aecodec.layout import QUALITY_STEPS
from aecodec.rate import quality_index
from aecodec.refine import costs


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(threads=2)


@pytest.fixture(scope="module")
def crop(photo: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(photo[20:148, 60:170])  # not a multiple of 16


def loss(codec: Codec, image: np.ndarray, quality: float, data: bytes) -> float:
    """λ·255²·MSE + bits per pixel of a real file."""
    mse = 255**2 / 10 ** (psnr(image, codec.decode(data)) / 10)
    lam = codec.network.config.lambda_at(quality_index(quality) / QUALITY_STEPS)
    return lam * mse + 8 * len(data) / (image.shape[0] * image.shape[1])


@pytest.mark.parametrize("quality", [10, 50, 90])
def test_effort_lowers_the_loss(codec: Codec, crop: np.ndarray, quality: float) -> None:
    measure = partial(loss, codec, crop, quality)
    files = [codec.encode(crop, quality=quality, effort=e) for e in (0, 1, 4, 5)]
    assert [aecodec.info(data).effort for data in files] == [0, 1, 4, 5]
    none, one, greedy, annealed = map(measure, files)
    # whole bytes and rounded pixels make a thousandth of noise
    assert one < 1.001 * none
    assert greedy < 0.995 * none
    assert annealed < 0.99 * none


def test_the_same_picture_gives_the_same_bytes(codec: Codec, crop: np.ndarray) -> None:
    assert codec.encode(crop, quality=40, effort=5) == codec.encode(crop, quality=40, effort=5)


def test_targets_are_met_with_effort(codec: Codec, crop: np.ndarray) -> None:
    data = codec.encode(crop, target_size=2000, effort=2)
    assert 0.98 * 2000 <= len(data) <= 2000
    data = codec.encode(crop, target_psnr=33.0, effort=1)
    assert 33.0 <= psnr(crop, codec.decode(data)) <= 33.06


def test_chunks_are_refined_amid_their_neighbours(
    codec: Codec, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aecodec import container

    plain = container.Header
    monkeypatch.setattr("aecodec.codec.Header", lambda **kw: plain(**kw, chunk_log2=7))
    image = np.ascontiguousarray(photo[:200, :200])
    calls: list[tuple[int, int]] = []
    data = codec.encode(
        image, quality=50, effort=2, progress=lambda done, expected: calls.append((done, expected))
    )
    assert len(container.parse(data).chunks) == 4
    assert loss(codec, image, 50, data) < 0.995 * loss(
        codec, image, 50, codec.encode(image, quality=50)
    )
    assert calls[-1] == (200 * 200 * 3, 200 * 200 * 3)  # one analysis, two passes


def test_costs_are_those_of_the_tables(codec: Codec) -> None:
    tables = codec.network.tables
    found = costs(tables)
    middle = found.shape[1] // 2
    for i in (tables.skip, 20, 63):
        k = int(tables.y_bound[i])
        for q in (-k, 0, 1, k):
            exact = PRECISION - math.log2(tables.y[i, q + k])
            assert found[i, middle + q] == pytest.approx(exact, abs=1e-4)
    assert not found[: tables.skip].any()
    assert bool((torch.diff(found[30, middle:]) > -2).all())  # far values are not cheap


@pytest.mark.parametrize("effort", [-1, 10])
def test_unknown_efforts_are_refused(codec: Codec, crop: np.ndarray, effort: int) -> None:
    with pytest.raises(InputError, match=r"effort must lie within 0\.\.9"):
        codec.encode(crop, quality=40, effort=effort)
