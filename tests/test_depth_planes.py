"""Planes of depth maps: exact, bounded, never coded otherwise."""

from __future__ import annotations

import numpy as np
from depth_scenes import SHAPES, depth_maps, error, golden_depth, scene
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from aecodec import alpha, depthplane
from aecodec.adaptive import Decoder, Encoder
from aecodec.errors import FormatError
from aecodec.interlace import code_bits, code_integers

# ---- planes of bits and integers ----


@given(nps.arrays(bool, SHAPES))
def test_bits_come_back_exactly(plane):
    coder = Encoder()
    code_bits(coder, plane.shape, plane)
    reader = Decoder(coder.writer.payload())
    np.testing.assert_array_equal(code_bits(reader, plane.shape, None), plane)
    reader.reader.finish()


@given(SHAPES.flatmap(lambda s: nps.arrays(np.int64, s, elements=st.integers(-(2**17), 2**17))))
def test_integers_come_back_exactly_where_they_count(plane):
    valid = plane % 5 != 0
    coder = Encoder()
    code_integers(coder, valid, plane)
    reader = Decoder(coder.writer.payload())
    np.testing.assert_array_equal(code_integers(reader, valid, None), plane * valid)
    reader.reader.finish()


def test_planes_wider_than_the_first_spacing_come_back_exactly():
    depth = scene(150, 300)
    coder = Encoder()
    code_integers(coder, depth > 0, depth.astype(np.int64))
    reader = Decoder(coder.writer.payload())
    np.testing.assert_array_equal(code_integers(reader, depth > 0, None), depth)


def test_holes_cost_less_than_as_a_lossless_image():
    holes = scene(240, 320) > 0
    coded = depthplane.PlaneWriter(scene(240, 320)).holes()
    assert len(coded) < 0.8 * len(alpha.encode(np.where(holes, 255, 0).astype(np.uint8)))


# ---- bounds ----


@given(depth_maps(), st.sampled_from([0, 1, 7, 300, 32767]))
def test_levels_keep_any_bound(depth, bound):
    plane = depthplane.decode(depthplane.PlaneWriter(depth).levels(bound), *depth.shape)
    assert error(depth, plane.apply(np.zeros_like(depth))) <= bound


@given(depth_maps(), st.sampled_from([1, 2, 9, 400, 32767]), st.integers(0, 99))
def test_residuals_keep_the_bound_where_another_machine_sees_a_millimetre_more(depth, bound, seed):
    rng = np.random.default_rng(seed)
    shown = np.clip(depth + rng.integers(-500, 500, depth.shape), 0, 65535).astype(np.uint16)
    payload = depthplane.PlaneWriter(depth).residual(shown, bound - 1)
    plane = depthplane.decode(payload, *depth.shape)
    assert error(depth, plane.apply(shown)) <= bound - 1
    other = np.clip(shown + rng.integers(-1, 2, depth.shape), 0, 65535).astype(np.uint16)
    assert error(depth, plane.apply(other)) <= bound


@given(st.binary(max_size=80))
def test_bytes_that_are_no_plane_are_refused(data):
    try:
        plane = depthplane.decode(data, 5, 7)
    except FormatError:
        return
    assert plane.valid.shape == (5, 7)


def test_planes_are_never_coded_otherwise():
    """Golden: files of this version stay readable, so these bytes never change."""
    writer = depthplane.PlaneWriter(golden_depth())
    shown = np.full((20, 24), 1100, np.uint16)
    for name, payload in {
        "holes": writer.holes(),
        "levels": writer.levels(5),
        "residual": writer.residual(shown, 9),
    }.items():
        golden = bytes.fromhex(GOLDEN[name])
        assert payload == golden
        back = depthplane.decode(golden, 20, 24).apply(shown)
        np.testing.assert_array_equal(back > 0, golden_depth() > 0)


GOLDEN = {
    "holes": ("1f4e5141f66f4e672f890c23e02cf43975a26189c0cddce994bf24a6d4a4b5fddee6045f"),
    "levels": (
        "6cf69c48146cea0175d055b2c9fba79c541330ad985a78f43169821cc5ff2e6fa5711e74d832cc33"
        "f04f43f192839f1d0cd372a4cb35015fa32740141ad03da5b5c063d7a5b85d3a7132730fb23b3721"
        "01b5607a4a995d9818144e6cb3e26b2616122e21417503e055874420950fb98595e5016b9fa505bb"
        "102ee004b90feeee3f2aadfef7eb812cbf36d896f8c2982d1550c5a7310fef883f1b3d762eee74ca"
        "d7c267b58476d3d32135d99ea328c972101feb32eb05d19f146d85f51e823040"
    ),
    "residual": (
        "7b4c6cce922b6161494c4efcd2b9a87a384535d5050eba13c2fa7fe138ce65f22aef0666005202ad"
        "00529907b0b0a882ee8a6ae8ed12e38230375aa08d309a10ee6893a9886b75ec3811c906ef1e5a44"
        "46966c91fd8d6c5808808721c9486c6d2719bed87e88ee50c2537e2e5f31a960a6b37e4f8752d009"
        "5f47c7d48767f10bf00900ea18d709a95b73a17c1f345e49702f48240408107fd3fb406459b1309b"
        "4d64d6df29bcb7fd6e15"
    ),
}
