"""Effort: the same decoder, a smaller loss, the same bytes every time."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from conftest import psnr

import aecodec
from aecodec import container
from aecodec.codec import Codec
from aecodec.entropy import PRECISION, encode_chunk
from aecodec.errors import InputError
from aecodec.layout import Rect, softened
from aecodec.model.config import ModelConfig
from aecodec.model.hyperprior import ScaleContext, ScaleHead
from aecodec.model.relaxed import RelaxedScaleHead
from aecodec.model.scale_head import IntegerScaleHead
from aecodec.model.scale_integers import ORIGINAL, quantise
from aecodec.objective import Objective, Scene, costs, error_weight
from aecodec.rate import prior_row, quality_index
from aecodec.refine import SOFTNESS, refine


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(threads=2)


@pytest.fixture(scope="module")
def crop(photo: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(photo[20:148, 60:170])  # not a multiple of 16


def loss(codec: Codec, image: np.ndarray, quality: float, data: bytes) -> float:
    """Weighted MSE + bits per pixel of a real file."""
    mse = 10 ** (-psnr(image, codec.decode(data)) / 10)
    weight = error_weight(codec.network.config, quality_index(quality))
    return weight * mse + 8 * len(data) / (image.shape[0] * image.shape[1])


@pytest.mark.parametrize("quality", [10, 50, 90])
def test_effort_lowers_the_loss(codec: Codec, crop: np.ndarray, quality: float) -> None:
    measure = partial(loss, codec, crop, quality)
    files = [codec.encode(crop, quality=quality, effort=e) for e in (0, 1, 3, 5)]
    assert [aecodec.info(data).effort for data in files] == [0, 1, 3, 5]
    none, one, greedy, annealed = map(measure, files)
    # whole bytes and rounded pixels make a thousandth of noise
    assert one < 1.001 * none
    assert greedy < 0.995 * none
    assert annealed < 0.98 * none


@pytest.mark.parametrize("quality", [1, 20, 60, 100])
def test_effort_makes_smaller_files_of_the_same_quality(
    codec: Codec, crop: np.ndarray, quality: float
) -> None:
    plain, annealed = (codec.encode(crop, quality=quality, effort=e) for e in (0, 6))
    assert len(annealed) < len(plain)
    assert abs(psnr(crop, codec.decode(annealed)) - psnr(crop, codec.decode(plain))) < 0.5


@pytest.mark.parametrize("effort", [4, 6])
def test_a_file_says_how_soft_its_picture_is(codec: Codec, crop: np.ndarray, effort: int) -> None:
    data = codec.encode(crop, quality=50, effort=effort)
    assert aecodec.info(data).softness == SOFTNESS[effort] > 0
    file = container.parse(data)
    harder = replace(file, header=replace(file.header, softness=1))  # 0 has other tables
    shown = codec.decode(container.serialise(harder))
    assert psnr(crop, shown) < psnr(crop, codec.decode(data)) - 0.02


def test_the_same_picture_gives_the_same_bytes(codec: Codec, crop: np.ndarray) -> None:
    assert codec.encode(crop, quality=40, effort=5) == codec.encode(crop, quality=40, effort=5)


def test_targets_are_met_with_effort(codec: Codec, crop: np.ndarray) -> None:
    data = codec.encode(crop, target_size=2000, effort=2)
    assert 0.98 * 2000 <= len(data) <= 2000
    smallest = codec.encode(crop, quality=1)
    data = codec.encode(crop, target_size=len(smallest), effort=4)
    assert len(data) <= len(smallest)
    data = codec.encode(crop, target_psnr=33.0, effort=1)
    assert 33.0 <= psnr(crop, codec.decode(data)) <= 33.06


def test_chunks_are_refined_amid_their_neighbours(
    codec: Codec, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = container.Header
    monkeypatch.setattr("aecodec.codec.Header", lambda **kw: plain(**kw, chunk_log2=7))
    image = np.ascontiguousarray(photo[:200, :200])
    calls: list[tuple[int, int]] = []
    data = codec.encode(
        image, quality=50, effort=2, progress=lambda done, expected: calls.append((done, expected))
    )
    assert len(container.parse(data).chunks) == 4
    plainly = codec.encode(image, quality=50)
    assert loss(codec, image, 50, data) < loss(codec, image, 50, plainly)
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


def test_relaxed_scales_are_the_exact_ones_but_for_rounding(codec: Codec, crop: np.ndarray) -> None:
    network, quality = codec.network, quality_index(40)
    y = network.analyse(np.ascontiguousarray(crop[:112, :96])).clone()
    symbols = network.quantiser.quantise(y, quality)
    size = (y.shape[1], y.shape[2])
    exact = network.quantiser.conditions(symbols.z, quality, size)
    z = torch.from_numpy(symbols.z)[None].float().requires_grad_()
    relaxed = network.quantiser.relaxed(z, quality, size)
    known = list(
        exact.passes.sort(torch.from_numpy(symbols.q).float()).chunk(exact.passes.count, dim=2)
    )
    for p in range(exact.passes.count):
        found = relaxed.index(p, known[:p])
        difference = (found.detach() - exact.index(p, known[:p]).float())[
            exact.passes.inside.expand_as(found)
        ]
        # most on the same side of a half, though only the exact ones round activations
        assert float(difference.abs().max()) < 2
        assert abs(float(difference.mean())) < 0.03
        assert float((difference.abs() > 0.5).float().mean()) < 0.2
        (slope,) = torch.autograd.grad(found.sum(), z, retain_graph=True)
        assert bool(slope.any())


def test_the_objective_counts_the_bits_of_the_file(codec: Codec, crop: np.ndarray) -> None:
    network, quality = codec.network, quality_index(60)
    pixels = np.ascontiguousarray(crop[:112, :96])
    y, whole = network.analyse(pixels).clone(), Rect(0, 0, 96, 112)
    area = Rect(0, 0, 6, 7)
    objective = Objective(network, Scene(y, area, area, whole), pixels, quality)
    s = network.quantiser.quantise(y, quality)
    bits = objective.bits(torch.from_numpy(s.q), torch.from_numpy(s.index)).sum()
    side = objective.side_bits(torch.from_numpy(s.z)).sum()
    payload = encode_chunk(s.z, s.q, s.index, prior_row(quality), network.tables, s.groups)
    assert float(bits + side) == pytest.approx(8 * len(payload), rel=0.01, abs=48)
    real = torch.from_numpy(s.index).float()
    coded = s.index >= network.tables.skip
    relaxed = objective.relaxed_bits(torch.from_numpy(s.q), real)[torch.from_numpy(coded)].sum()
    assert float(relaxed) == pytest.approx(float(bits), rel=1e-4)


@pytest.mark.parametrize(("effort", "share"), [(2, 1.0), (5, 0.96)])
def test_hidden_colour_has_no_error(
    codec: Codec, crop: np.ndarray, effort: int, share: float
) -> None:
    network, quality = codec.network, quality_index(40)
    pixels = np.ascontiguousarray(crop[:112, :96])
    y, whole, area = network.analyse(pixels).clone(), Rect(0, 0, 96, 112), Rect(0, 0, 6, 7)
    seen = np.zeros((112, 96), bool)
    seen[:, :48] = True

    def bits_and_error(mask: np.ndarray | None) -> tuple[int, float]:
        s = refine(network, Scene(y, area, area, whole), pixels, quality, effort, seen=mask)
        payload = encode_chunk(s.z, s.q, s.index, prior_row(quality), network.tables, s.groups)
        decoded = network.quantiser.dequantise(s.z, s.q, quality)
        q = softened(quality, SOFTNESS[effort])
        shown = network.synthesise(decoded, q).astype(float)
        return len(payload), float(np.square(shown - pixels)[seen].mean())

    (all_bits, all_error), (bits, error) = bits_and_error(None), bits_and_error(seen)
    assert bits < share * all_bits  # what is hidden takes fewer
    assert error < 1.08 * all_error


def test_effort_on_transparency(codec: Codec, crop: np.ndarray) -> None:
    alpha = np.full((*crop.shape[:2], 1), 255, np.uint8)
    alpha[:, 55:] = 0
    image = np.dstack([crop, alpha])
    decoded = [codec.decode(codec.encode(image, quality=40, effort=e)) for e in (0, 4)]
    for shown in decoded:
        assert np.array_equal(shown[:, :, 3], alpha[:, :, 0])
    plain, refined = (psnr(crop[:, :55], shown[:, :55, :3]) for shown in decoded)
    assert refined > plain - 0.3


def test_annealing_amid_neighbours(
    codec: Codec, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = container.Header
    monkeypatch.setattr("aecodec.codec.Header", lambda **kw: plain(**kw, chunk_log2=7))
    image = np.ascontiguousarray(photo[:180, :130])  # two chunks of 128 and two slivers
    with_effort = codec.encode(image, quality=40, effort=5)
    assert len(container.parse(with_effort).chunks) == 4
    without = codec.encode(image, quality=40)
    assert loss(codec, image, 40, with_effort) < 0.98 * loss(codec, image, 40, without)


@pytest.mark.parametrize("passes", [1, 2, 4])
def test_relaxed_scales_of_any_number_of_passes(passes: int) -> None:
    torch.manual_seed(passes)
    config = ModelConfig(
        latent_channels=20,
        hyper_channels=6,
        scale_width=8,
        scale_context_width=8,
        context_blocks=(1,) * passes,
    )
    contexts = [ScaleContext(config) for _ in range(1, passes)]
    for context in contexts:
        torch.nn.init.normal_(context.weights[3], std=0.1)
    integers = quantise(ScaleHead(config), contexts, config, ORIGINAL)
    z = torch.randint(-4, 5, (6, 2, 2))
    exact = IntegerScaleHead(integers, torch.device("cpu")).chunk(z, 700, (7, 6))
    relaxed = RelaxedScaleHead(integers, torch.device("cpu")).chunk(z[None].float(), 700, (7, 6))
    q = torch.randint(-9, 10, (4, 12, 20)).float()
    for p in range(passes):
        found = relaxed.index(p, q)
        assert found.shape == (4, 12, 20 // passes)
        assert float((found - exact.index(p, q).float()).abs().max()) < 0.6
