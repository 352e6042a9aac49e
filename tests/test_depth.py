"""Depth maps: holes come back exactly, errors stay within their bound, on any machine."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import WEIGHTS
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from PIL import Image

import aecodec
from aecodec import container, depthplane
from aecodec.adaptive import Decoder, Encoder
from aecodec.cli.main import run
from aecodec.codec import Codec
from aecodec.depth import depth_range, filled
from aecodec.errors import ChecksumError, FormatError, InputError, UnsupportedImageError
from aecodec.interlace import code_bits, code_integers
from aecodec.model.weights import load_weights, save_weights

SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40))


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A floor, a box before it and its shadow, with the noise of a sensor, in mm."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    depth = 1000 + 20.0 * (height - y) + 3 * x
    box = (abs(x - width * 0.6) < width / 5) & (abs(y - height / 2) < height / 4)
    depth = np.where(box, 800, depth) + rng.normal(0, 2, depth.shape)
    depth = 40000 / np.rint(40000 / depth * 8) * 8  # steps that grow with the distance
    shadow = (abs(x - width * 0.35) < width / 20) & (abs(y - height / 2) < height / 4)
    depth[shadow | (rng.random(depth.shape) < 0.01)] = 0
    return np.rint(depth).astype(np.uint16)


@st.composite
def depth_maps(draw: st.DrawFn) -> np.ndarray:
    """Noise, steps, planes, with holes; all valid, none valid; the ends of the range."""
    height, width = draw(SHAPES)
    rng = np.random.default_rng(draw(st.integers(0, 9999)))
    y, x = np.mgrid[:height, :width]
    kind = draw(st.sampled_from(["noise", "steps", "plane", "ends", "flat"]))
    depth = {
        "noise": rng.integers(1, 65536, (height, width)),
        "steps": 500 + 700 * (x // 7 + y // 5),
        "plane": 300 + 11 * x + 7 * y,
        "ends": rng.choice([1, 65535], (height, width)),
        "flat": np.full((height, width), draw(st.integers(1, 65535))),
    }[kind]
    holes = draw(st.sampled_from([0.0, 0.1, 0.9, 1.0]))
    return np.where(rng.random((height, width)) < holes, 0, depth).astype(np.uint16)


def error(depth: np.ndarray, back: np.ndarray) -> int:
    """The largest error of a reading; holes must be the same."""
    assert back.dtype == np.uint16
    np.testing.assert_array_equal(back > 0, depth > 0)
    return int(np.abs(back.astype(int) - depth).max())


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights for photographs that say they are for depth: any will do here."""
    path = tmp_path_factory.mktemp("weights") / "anydepth.safetensors"
    tensors, info = load_weights(WEIGHTS)
    data = {"bits": 16, "channels": 3, "maximum": 5000, "invalid": 0}
    save_weights(path, tensors, {"config": info.meta["config"], "data": json.dumps(data)})
    return path


@pytest.fixture(scope="module")
def codec(model: Path) -> Codec:
    return Codec(model, threads=1)


@pytest.fixture(scope="module")
def chunked(model: Path) -> tuple[np.ndarray, dict[str, bytes]]:
    """A scene in 2 x 2 chunks: lossy, with a residual, and without the network."""
    depth, plain = scene(90, 120), container.Header
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aecodec.codec.Header", lambda **kw: plain(**kw, chunk_log2=6))
        codec = Codec(model, threads=1)
        return depth, {
            "lossy": codec.encode(depth, quality=50),
            "residual": codec.encode(depth, quality=60, max_error=4),
            "levels": codec.encode(depth, max_error=4),
        }


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
    from aecodec import alpha

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


@pytest.mark.parametrize("bound", [0, 3, 20])
def test_the_smallest_file_keeps_its_bound(codec, bound):
    depth = scene(61, 83)
    data = codec.encode(depth, max_error=bound)
    assert error(depth, codec.decode(data)) <= bound
    codec.verify(data)


@settings(max_examples=12)
@given(depth_maps(), st.sampled_from([1, 6, 100]), st.sampled_from([None, 30.0]))
def test_whole_files_keep_their_bound(codec, depth, bound, quality):
    data = codec.encode(depth, max_error=bound, quality=quality)
    assert error(depth, codec.decode(data)) <= bound


@settings(max_examples=8)
@given(depth_maps(), st.floats(1, 100))
def test_holes_are_exact_at_any_quality(codec, depth, quality):
    error(depth, codec.decode(codec.encode(depth, quality=quality)))


def test_looser_bounds_make_smaller_files(codec):
    depth = scene(96, 128)
    sizes = [len(codec.encode(depth, max_error=bound)) for bound in (0, 2, 8, 40)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0] / 2


def test_quality_makes_readings_better(codec):
    depth = scene(96, 128)
    seen = depth > 0
    rms = []
    for quality in (10, 50, 90):
        back = codec.decode(codec.encode(depth, quality=quality))
        rms.append(np.sqrt(np.square(back.astype(float) - depth)[seen].mean()))
    assert rms == sorted(rms, reverse=True)


def test_depths_over_the_maximum_are_kept(codec):
    """The network tells them apart up to twice its maximum; a bound holds for all."""
    depth = scene(64, 96)
    depth[20:40, 30:60] = 8000
    depth[0, 0] = 65535
    back = codec.decode(codec.encode(depth, quality=90))
    assert abs(int(np.median(back[24:36, 34:56])) - 8000) < 400
    assert error(depth, codec.decode(codec.encode(depth, quality=90, max_error=5))) <= 5


def test_what_lies_under_holes_costs_nothing():
    depth = scene(64, 96)
    shown = filled(depth, 10000)
    assert (shown[depth > 0] == depth[depth > 0]).all()
    assert shown[depth == 0].min() >= depth[depth > 0].min() - 1
    assert shown.max() <= depth.max()


def test_files_and_bounds_do_not_depend_on_threads(model, chunked, monkeypatch):
    depth, files = chunked
    plain = container.Header
    monkeypatch.setattr("aecodec.codec.Header", lambda **kw: plain(**kw, chunk_log2=6))
    two = Codec(model, threads=2)
    assert two.encode(depth, quality=60, max_error=4) == files["residual"]
    assert two.encode(depth, max_error=4) == files["levels"]
    for kind in ("residual", "levels"):
        assert error(depth, two.decode(files[kind])) <= 4


# ---- what is refused ----


def test_a_model_for_depth_codes_nothing_else(codec, photo):
    for image in (photo, photo[:, :, 0], photo.astype(np.uint16) * 257):
        with pytest.raises(UnsupportedImageError, match="16-bit gray"):
            codec.encode(image)
    with pytest.raises(InputError, match="float32"):
        Codec(codec.network.info.path, precision="bfloat16")


def test_bounds_that_cannot_be_kept_are_refused(codec, photo):
    depth = scene(32, 32)
    for bound in (-1, 32768, 1.5, True):
        with pytest.raises(InputError, match="max_error"):
            codec.encode(depth, max_error=bound)
    with pytest.raises(InputError, match="at least 1"):
        codec.encode(depth, max_error=0, quality=50)
    with pytest.raises(InputError, match="no target"):
        codec.encode(depth, max_error=3, target_size=1000)
    with pytest.raises(InputError, match="model for depth"):
        aecodec.encode(photo, max_error=3)


@given(st.binary(max_size=80))
def test_bytes_that_are_no_plane_are_refused(data):
    try:
        plane = depthplane.decode(data, 5, 7)
    except FormatError:
        return
    assert plane.valid.shape == (5, 7)


def forged(holes: int, kind: int, *more: tuple[int, int]) -> bytes:
    """A plane from values and their numbers of bits."""
    coder = Encoder()
    for value, bits in ((holes, 2), (kind, 2), *more):
        coder.bits(1, bits, np.array([value]))
    return coder.writer.payload()


def level_that_is_missing() -> bytes:
    """A plane of 64 x 64 with the one level 500, and the number 1."""
    coder = Encoder()
    for value, bits in ((0, 2), (2, 2), (0, 16), (500, 16)):
        coder.bits(1, bits, np.array([value]))
    code_integers(coder, np.ones((64, 64), bool), np.ones((64, 64), np.int64))
    return coder.writer.payload()


@pytest.mark.parametrize(
    ("plane", "cause"),
    [
        (forged(3, 0), "unknown kind of holes"),
        (forged(0, 3), "unknown kind 3"),
        (forged(1, 2), "no readings"),
        (forged(0, 2, (3, 16), (0, 16)), "do not rise"),
        (level_that_is_missing(), "a level that it does not have"),
        (forged(0, 0, (7, 8)), "longer than its symbols"),
        (forged(0, 0) + bytes(8), "ends in zeros"),
    ],
)
def test_forged_planes_are_refused(codec, chunked, plane, cause):
    file = container.parse(chunked[1]["lossy"])
    bad = container.serialise(dataclasses.replace(file, alpha=(plane, *file.alpha[1:])))
    for read in (codec.decode, codec.verify):
        with pytest.raises(FormatError, match=rf"a\.aec: chunk 0: .*{cause}"):
            read(bad, name="a.aec")


def test_depth_in_colour_or_of_8_bits_is_no_file():
    header = container.Header(16, 16, bytes(8), 0, container.ColourMode.GRAY, 16, 2)
    file = container.AecFile(header, (container.Chunk(b"", 0),), alpha=(b"",))
    data = bytearray(container.serialise(file))
    for offset, value in ((9, 2 << 2), (10, 1)):
        bad = data.copy()
        bad[offset] = value
        with pytest.raises(FormatError, match="16-bit gray"):
            container.parse_header(bytes(bad))
    with pytest.raises(InputError, match="16-bit gray"):
        container.serialise(
            dataclasses.replace(file, header=dataclasses.replace(header, bit_depth=8))
        )


def test_models_say_that_they_are_for_depth():
    assert depth_range({}) is None
    assert depth_range({"data": '{"bits": 8, "invalid": 0}'}) is None
    assert depth_range({"data": '{"bits": 16, "invalid": -1}'}) is None
    assert depth_range({"data": '{"bits": 16, "invalid": 0, "maximum": 4000}'}).limit == 8000
    for bad in ("[1]", "{", '{"bits": 16, "invalid": 0, "maximum": 0}'):
        with pytest.raises(aecodec.errors.WeightsError):
            depth_range({"data": bad})


# ---- parts, previews, damage ----


@pytest.mark.parametrize("kind", ["lossy", "residual", "levels"])
def test_a_region_is_the_crop(codec, chunked, kind):
    whole = codec.decode(chunked[1][kind])
    part = codec.decode(chunked[1][kind], region=(50, 40, 61, 33))
    np.testing.assert_array_equal(part, whole[40:73, 50:111])


@pytest.mark.parametrize("kind", ["lossy", "levels"])
def test_previews_are_means_of_readings(codec, chunked, kind):
    whole = codec.decode(chunked[1][kind]).astype(float)
    small = codec.decode(chunked[1][kind], preview=True)
    assert small.shape == (12, 15)
    square = whole[40:48, 56:64]
    assert abs(small[5, 7] - square[square > 0].mean()) <= 1
    depth = np.pad(scene(40, 40), 16)
    stored = codec.decode(codec.encode(depth, quality=50, preview=True), preview=True)
    assert stored.shape == (9, 9)
    assert (stored[0] == 0).all()
    assert (stored[3:6, 3:6] > 0).all()


@pytest.mark.parametrize("kind", ["lossy", "residual", "levels"])
def test_damaged_planes_become_holes_at_best(codec, chunked, kind):
    files = chunked[1]
    whole = codec.decode(files[kind])
    damaged = bytearray(files[kind])
    damaged[container.parse_header(damaged).alpha[1].offset + 3] ^= 4
    with pytest.raises(ChecksumError, match="depth plane of chunk 1"):
        codec.decode(bytes(damaged))
    image, lost = codec.recover(bytes(damaged))
    assert lost == [1]
    whole[:64, 64:] = 0
    np.testing.assert_array_equal(image, whole)


def test_damaged_latents_become_holes_at_best(codec, chunked):
    depth, files = chunked
    damaged = bytearray(files["residual"])
    damaged[container.parse_header(damaged).entries[2].offset] ^= 1
    image, lost = codec.recover(bytes(damaged))
    assert lost == [2]
    assert (image[64:, :64] == 0).all()
    np.testing.assert_array_equal(image[:64] > 0, depth[:64] > 0)


def test_the_orientation_turns_depth(codec, chunked):
    file = container.parse(chunked[1]["levels"])
    header = dataclasses.replace(file.header, orientation=6)
    turned = codec.decode(container.serialise(dataclasses.replace(file, header=header)))
    np.testing.assert_array_equal(turned, np.rot90(codec.decode(chunked[1]["levels"]), -1))


def golden_depth() -> np.ndarray:
    """(20, 24), by arithmetic alone: a slope, a step, holes."""
    y, x = np.mgrid[:20, :24]
    depth = 900 + 13 * x + 7 * y + (x * x + 5 * y) % 11 + 400 * (x > 15)
    return np.where((x * 7 + y * 5) % 17 < 2, 0, depth).astype(np.uint16)


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
    "holes": (
        "1f4e5141f66f4e672f890c23e02cf43975a26189c0cddce994bf24a6d4a4b5fddee6045f"
    ),
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


# ---- on the command line ----


def test_there_and_back_on_the_command_line(tmp_path, model, photo, capfd):
    depth = scene(48, 64)
    Image.fromarray(depth).save(tmp_path / "d.png")
    source, coded, back = (str(tmp_path / name) for name in ("d.png", "d.aec", "b.png"))
    with_model = ["--model", str(model)]
    assert run(["compress", source, "--max-error", "3", *with_model]) == 0
    assert run(["decompress", coded, back, *with_model]) == 0
    with Image.open(back) as image:
        assert image.mode == "I;16"
        assert error(depth, np.asarray(image)) <= 3
    found = aecodec.info(coded)
    assert (found.mode, found.bit_depth, found.alpha_bytes) == ("L", 16, None)
    assert 0 < found.depth_bytes < found.bytes
    assert run(["info", coded]) == 0
    assert f"{found.depth_bytes} bytes" in capfd.readouterr().out
    assert run(["verify", coded, *with_model]) == 0
    Image.fromarray(photo).save(tmp_path / "p.png")
    assert run(["compress", str(tmp_path / "p.png"), *with_model]) == 3
    assert "p.png" in capfd.readouterr().err
    assert run(["compress", str(tmp_path / "p.png"), "--max-error", "3"]) == 3
    assert run(["compress", source, "-f", "--max-error", "40000", *with_model]) == 2
