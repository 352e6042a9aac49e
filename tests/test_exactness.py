"""Whatever decides how a symbol decodes must be the same on every machine.

Another machine cannot be had in a test; other thread counts, algorithms, precisions and
batch shapes can, and they change floating-point results just as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aecodec import container
from aecodec.codec import Codec
from aecodec.entropy import ChunkDecoder
from aecodec.errors import WeightsError
from aecodec.model.config import ModelConfig
from aecodec.model.passes import Passes
from aecodec.model.scale_head import IntegerScaleHead, float32_is_float32
from aecodec.model.scale_integers import FixedPoint, fixed_point, largest_sum, real


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@lru_cache
def codec_at(precision: str) -> Codec:
    return Codec(precision=precision)


def made_up_integers(shape: tuple[int, ...], modulus: int, seed: int) -> torch.Tensor:
    """Integers from a linear congruence: the same everywhere, for ever."""
    n = torch.arange(torch.Size(shape).numel(), dtype=torch.int64)
    x = (n + seed) * 6364136223846793005 + 1442695040888963407
    return ((x >> 33) % (2 * modulus + 1) - modulus).reshape(shape)


@pytest.fixture(scope="module")
def integers() -> dict[str, torch.Tensor]:
    config = ModelConfig(latent_channels=20, hyper_channels=12, scale_width=8)
    w, c, cz = config.scale_width, config.latent_channels, config.hyper_channels
    shapes = [(4 * w, cz, 3, 3), (4 * w, w, 3, 3), (c, w, 1, 1)]
    limits = [900, 900, 3000]
    tensors = {}
    for i, (shape, limit) in enumerate(zip(shapes, limits, strict=True)):
        tensors[f"weight.{i}"] = made_up_integers(shape, limit, i).to(torch.int16)
        bias = made_up_integers((8, shape[0]), 2**22, 10 + i)
        tensors[f"bias.{i}"] = (bias + (20 << 20 if i == 2 else 0)).to(torch.int32)
    return tensors


@pytest.fixture(scope="module")
def head(integers: dict[str, torch.Tensor]) -> IntegerScaleHead:
    return IntegerScaleHead(integers, torch.device("cpu"))


@pytest.fixture(scope="module")
def context(integers: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same with four passes of scale context."""
    tensors = dict(integers)
    for p in (1, 2, 3):
        shapes = [(6, 20, 1, 1), (6, 8, 1, 1), (6, 6, 3, 3), (20, 6, 1, 1)]
        for i, shape in enumerate(shapes):
            weight = made_up_integers(shape, (1500, 500, 1500, 3000)[i], 100 * p + i)
            tensors[f"context.{p}.weight.{i}"] = weight.to(torch.int16)
        for i in range(2):
            bias = made_up_integers((8, 6), 2**20, 100 * p + 10 + i)
            tensors[f"context.{p}.bias.{i}"] = bias.to(torch.int32)
    return tensors


def indices(head: IntegerScaleHead, z: torch.Tensor, quality: int) -> torch.Tensor:
    """Of a head without context: (C, 4h, 4w) for ẑ (Cz, h, w)."""
    scales = head.chunk(z, quality, (4 * z.shape[1], 4 * z.shape[2]))
    return scales.passes.restore(scales.index(0, torch.zeros(4, 1, 0))).contiguous()


@pytest.fixture(scope="module")
def small(context: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same in a fixed-point format whose sums fit float32."""
    tensors = {"fixed_point": torch.tensor(FixedPoint(8, 3, 63), dtype=torch.int32)}
    for name, value in context.items():
        tensors[name] = value // 2 ** (9 if "bias" in name else 4)
    return tensors


@pytest.mark.parametrize(
    ("quality", "digest"),
    [(0, "f27f915b9841d2b0"), (1300, "a0b21db9663185d9"), (3584, "637fa7a6cfb6f4f0")],
)
def test_golden_scale_indices(head: IntegerScaleHead, quality: int, digest: str) -> None:
    """Never regenerate: files depend on it."""
    index = indices(head, made_up_integers((12, 3, 5), 40, 99), quality)
    assert index.shape == (20, 12, 20)
    assert len(index.unique()) > 30  # all but constant
    assert hashlib.sha256(index.numpy().tobytes()).hexdigest()[:16] == digest


def conv(a: np.ndarray, weight: torch.Tensor) -> np.ndarray:
    """Convolution in int64, by shifts and sums."""
    kernel = weight.long().numpy()
    side = kernel.shape[-1]
    padded = np.pad(a, ((0, 0), (side // 2,) * 2, (side // 2,) * 2))
    t = np.zeros((kernel.shape[0], *a.shape[1:]), np.int64)
    for i in range(side):
        for j in range(side):
            part = padded[:, i : i + a.shape[1], j : j + a.shape[2]]
            t += np.einsum("oc,chw->ohw", kernel[:, :, i, j], part)
    return t


def offset(bias: torch.Tensor, quality: int) -> np.ndarray:
    k, p = min(quality // 512, 6), quality - 512 * min(quality // 512, 6)
    rows = bias.long().numpy()
    return np.asarray((rows[k] * (512 - p) + rows[k + 1] * p + 256) // 512)[:, None, None]


def shift(t: np.ndarray, bits: int) -> np.ndarray:
    return np.asarray((t + 2 ** (bits - 1)) >> bits)


def slow_reference(tensors: dict[str, torch.Tensor], z: torch.Tensor, quality: int):  # type: ignore[no-untyped-def]
    """The section "Scale indices" of docs/format.md in int64: features and total t."""
    form = fixed_point(tensors)
    a = np.clip(z.numpy(), -form.limit, form.limit).astype(np.int64) * 2**form.activation_bits
    for layer in range(2):
        t = conv(a, tensors[f"weight.{layer}"]) + offset(tensors[f"bias.{layer}"], quality)
        t = np.clip(shift(t, form.weight_bits), 0, form.top)
        o, h, w = t.shape
        a = t.reshape(o // 4, 2, 2, h, w).transpose(0, 3, 1, 4, 2).reshape(o // 4, 2 * h, 2 * w)
    return a, conv(a, tensors["weight.2"]) + offset(tensors["bias.2"], quality)


def slow_context(tensors, p: int, features, known, quality: int) -> np.ndarray:  # type: ignore[no-untyped-def]
    """What pass p adds to t, for known residuals."""
    form = fixed_point(tensors)
    level = np.zeros(known.shape, np.int64)
    for at, q in np.ndenumerate(known):
        m = min(abs(int(q)), 1023) + 1
        n = m.bit_length() - 1
        level[at] = 2**form.activation_bits * n + 2**form.activation_bits * (m - 2**n) // 2**n
    w = [tensors[f"context.{p}.weight.{i}"] for i in range(4)]
    b = [offset(tensors[f"context.{p}.bias.{i}"], quality) for i in range(2)]
    a = shift(conv(level, w[0]) + conv(features, w[1]) + b[0], form.weight_bits)
    a = shift(conv(np.clip(a, 0, form.top), w[2]) + b[1], form.weight_bits)
    return conv(np.clip(a, 0, form.top), w[3])


def to_index(t: np.ndarray, bits: int = 20) -> np.ndarray:
    return np.asarray(np.clip(shift(t, bits), 0, 63))


@pytest.mark.parametrize("quality", [0, 511, 512, 2000, 3583, 3584])
def test_scale_head_is_integer_arithmetic(
    head: IntegerScaleHead, integers: dict[str, torch.Tensor], quality: int
) -> None:
    z = made_up_integers((12, 4, 3), 200, quality)
    expected = to_index(slow_reference(integers, z, quality)[1])
    np.testing.assert_array_equal(indices(head, z, quality).numpy(), expected)


@pytest.mark.parametrize("quality", [0, 700, 3584])
@pytest.mark.parametrize("size", ["context", "small"])
def test_scale_context_is_integer_arithmetic(
    request: pytest.FixtureRequest, size: str, quality: int
) -> None:
    context = request.getfixturevalue(size)
    bits = fixed_point(context).bias_bits
    z = made_up_integers((12, 2, 2), 40, quality)
    q = made_up_integers((20, 7, 6), 3, 1) ** 5  # up to 243, and some beyond 1023
    q[0, 0, :3] = torch.tensor([1022, -1023, 99999])
    scales = IntegerScaleHead(context, torch.device("cpu")).chunk(z, quality, (7, 6))
    passes = scales.passes
    assert passes.count == 4
    features, t = slow_reference(context, z, quality)
    features, t = features[:, :7, :6], t[:, :7, :6]
    groups = passes.index.numpy()
    expected = np.where(groups == 0, to_index(t, bits), 0)
    for p in (1, 2, 3):
        known = np.where(groups < p, q.numpy(), 0)
        now = to_index(t + slow_context(context, p, features, known, quality), bits)
        expected[groups == p] = now[groups == p]
    for dtype in (torch.int32, torch.float32):
        known = passes.sort(q.to(dtype))
        found = torch.cat([scales.index(p, known) for p in range(4)], dim=2)
        assert torch.equal(known, passes.sort(q.to(dtype)))  # is only read
        np.testing.assert_array_equal(passes.restore(found).numpy(), expected)
    assert (expected != to_index(t, bits)).sum() > 150  # the context says something


def all_indices(head: IntegerScaleHead, z: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    scales = head.chunk(z, 900, (q.shape[1], q.shape[2]))
    known = scales.passes.sort(q)
    return torch.cat([scales.index(p, known) for p in range(scales.passes.count)])


def test_small_sums_are_taken_in_float32_unless_something_rounds_them(
    small: dict[str, torch.Tensor], context: dict[str, torch.Tensor]
) -> None:
    """Autocast is the nearest thing that does: it turns products of matrices into bfloat16."""
    assert largest_sum(small) < 2**24 < largest_sum(context)
    head = IntegerScaleHead(small, torch.device("cpu"))
    z, q = made_up_integers((12, 3, 3), 40, 1), made_up_integers((20, 11, 10), 9, 2)
    expected = all_indices(head, z, q)
    assert float32_is_float32()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = torch.full((64, 64), 4095.0) @ torch.eye(64)
        assert not torch.equal(rounded.float(), torch.full((64, 64), 4095.0))
        assert not float32_is_float32()
        assert torch.equal(all_indices(head, z, q), expected)


def test_the_largest_sum_of_a_scale_head() -> None:
    """Counted by hand, for two channels at most."""
    tensors = {
        "fixed_point": torch.tensor([4, 2, 10], dtype=torch.int32),  # activations up to 40
        "weight.0": torch.full((4, 1, 3, 3), -2, dtype=torch.int16),  # 18 x 40 = 720
        "weight.1": torch.full((4, 1, 3, 3), 3, dtype=torch.int16),  # 27 x 40 = 1080
        "weight.2": torch.tensor([5, -9], dtype=torch.int16).reshape(2, 1, 1, 1),  # 360
        "bias.0": torch.zeros(8, 4, dtype=torch.int32),
        "bias.1": torch.full((8, 4), -7, dtype=torch.int32),
        "bias.2": torch.arange(16, dtype=torch.int32).reshape(8, 2),
    }
    assert largest_sum(tensors) == 1080 + 7 + 32  # half of 2**6 for the shift
    tensors["weight.2"] *= 4
    assert largest_sum(tensors) == 4 * 360 + 15 + 32
    for p, last in ((1, 1), (2, -30)):
        tensors |= {
            f"context.{p}.weight.0": torch.full((1, 2, 1, 1), 100, dtype=torch.int16),
            f"context.{p}.weight.1": torch.full((1, 1, 1, 1), 2, dtype=torch.int16),
            f"context.{p}.weight.2": torch.full((1, 1, 3, 3), 1, dtype=torch.int16),
            f"context.{p}.weight.3": torch.full((2, 1, 1, 1), last, dtype=torch.int16),
            f"context.{p}.bias.0": torch.full((8, 1), 6, dtype=torch.int32),
            f"context.{p}.bias.1": torch.zeros(8, 1, dtype=torch.int32),
        }
    # 2 known levels up to 10, in quarters, 100 times, or 4 x 360 and 30 x 40 for the index
    assert largest_sum(tensors) == 2 * 40 * 100 + 2 * 40 + 6 + 32
    for p in (1, 2):
        tensors[f"context.{p}.weight.0"] //= 100
    assert largest_sum(tensors) == 4 * 360 + 15 + 30 * 40 + 32


def test_sums_that_could_be_rounded_are_refused() -> None:
    """float64 is exact up to 2^53."""
    shapes = {"weight.0": (4, 1, 3, 3), "weight.1": (4, 9_000, 3, 3), "weight.2": (1, 1, 1, 1)}
    tensors = {name: torch.full(s, -32768, dtype=torch.int16) for name, s in shapes.items()}
    tensors |= {f"bias.{i}": torch.zeros(8, 4 - 3 * (i // 2), dtype=torch.int32) for i in range(3)}
    tensors["fixed_point"] = torch.tensor([15, 15, 1023], dtype=torch.int32)
    assert largest_sum(tensors) > 2**53
    with pytest.raises(WeightsError, match="would be rounded"):
        IntegerScaleHead(tensors, torch.device("cpu"))


@pytest.mark.parametrize("values", [[8, 3], [0, 3, 63], [8, 16, 63], [8, 3, 0], [8, 3, 1024]])
def test_a_fixed_point_format_must_be_one(values: list[int]) -> None:
    with pytest.raises(WeightsError, match="fixed-point"):
        real({"fixed_point": torch.tensor(values)})


@given(
    passes=st.sampled_from([1, 2, 4]),
    group=st.integers(1, 5),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
)
def test_sorting_by_pass_loses_nothing(passes: int, group: int, height: int, width: int) -> None:
    shape = (passes * group, height, width)
    x = torch.arange(1, passes * group * height * width + 1).reshape(shape)
    sort = Passes(shape[0], passes, height, width)
    dense = sort.sort(x)
    assert torch.equal(sort.restore(dense), x)
    assert torch.equal(sort.inside.expand_as(dense), dense > 0)
    for p in range(passes):
        part = dense[:, :, sort.of(p)].reshape(-1)[torch.from_numpy(sort.in_order(p)).long()]
        assert torch.equal(part, x[sort.index == p])


def test_scale_head_memory_formats(head: IntegerScaleHead) -> None:
    z = made_up_integers((12, 6, 6), 30, 6)
    strided = z[None].contiguous(memory_format=torch.channels_last)[0]
    assert torch.equal(indices(head, z, 900), indices(head, strided, 900))


@pytest.fixture(scope="module")
def coded(photo: np.ndarray) -> bytes:
    return codec_at("float32").encode(photo, quality=60)


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("onednn", [True, False])
def test_symbols_are_identical_everywhere(coded: bytes, count: int, onednn: bool) -> None:
    codec = codec_at("float32")
    expected = codec.symbols(coded)[0]
    with threads(count), torch.backends.mkldnn.flags(enabled=onednn):
        found = codec.symbols(coded)[0]
    np.testing.assert_array_equal(found.z, expected.z)
    np.testing.assert_array_equal(found.index, expected.index)
    np.testing.assert_array_equal(found.q, expected.q)


@pytest.mark.parametrize("encoder", ["float32", "float64", "bfloat16"])
def test_files_of_any_precision_decode_alike(photo: np.ndarray, encoder: str) -> None:
    data = codec_at(encoder).encode(photo, quality=60)
    reference = codec_at("float32").decode(data).astype(int)
    assert np.abs(codec_at("float64").decode(data) - reference).max() <= 1
    rough = np.abs(codec_at("bfloat16").decode(data) - reference)
    assert rough.mean() < 0.5  # bfloat16 may differ by a level here and there, no more


def test_pixels_within_one_level_for_any_number_of_threads(coded: bytes) -> None:
    codec = codec_at("float32")
    with threads(1):
        one = codec.decode(coded).astype(int)
    with threads(2), torch.backends.mkldnn.flags(enabled=False):
        assert np.abs(codec.decode(coded) - one).max() <= 1


def test_bytes_are_the_same_for_any_number_of_threads(photo: np.ndarray) -> None:
    codec = codec_at("float32")
    with threads(1):
        one = codec.encode(photo, quality=40)
    with threads(2):
        assert codec.encode(photo, quality=40) == one


def test_chunks_decode_alone_and_in_any_order(
    photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = codec_at("float32")
    plain = container.Header
    monkeypatch.setattr("aecodec.codec.Header", lambda **kw: plain(**kw, chunk_log2=7))
    data = codec.encode(photo, quality=60)
    file = container.parse(data)
    whole = codec.symbols(data)
    assert len(whole) == 6
    quality, network = file.header.quality, codec.network
    for expected, chunk in reversed(list(zip(whole, file.chunks, strict=True))):
        decoder = ChunkDecoder(chunk.payload, network.tables, (quality + 256) // 512)
        z = decoder.z(expected.z.shape)
        scales = network.quantiser.scales(z, quality, expected.q.shape[1:])
        known = scales.passes.sort(torch.from_numpy(expected.q))
        for p in range(scales.passes.count):
            now = expected.groups == p
            index = scales.index(p, known).numpy().reshape(-1)[scales.passes.in_order(p)]
            np.testing.assert_array_equal(index, expected.index[now])
            np.testing.assert_array_equal(decoder.q(index), expected.q[now])
        decoder.finish()
