"""Depth maps: holes come back exactly, errors stay within their bound, on any machine."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import WEIGHTS
from depth_scenes import depth_maps, error, golden_depth, scene
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import aecodec
from aecodec import container
from aecodec.adaptive import Encoder
from aecodec.cli.main import run
from aecodec.codec import Codec
from aecodec.depth import filled, range_of
from aecodec.errors import ChecksumError, FormatError, InputError, UnsupportedImageError
from aecodec.interlace import code_integers
from aecodec.model.weights import load_weights, save_weights


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


def rms(depth, back):
    """Of the readings, in mm."""
    return np.sqrt(np.square(back.astype(float) - depth)[depth > 0].mean())


def test_quality_makes_readings_better(codec):
    depth = scene(96, 128)
    files = [codec.encode(depth, quality=quality) for quality in (10, 50, 90)]
    errors = [rms(depth, codec.decode(data)) for data in files]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize(("effort", "share"), [(2, 1.0), (5, 0.95)])
def test_effort_makes_readings_better(effort, share):
    """Holes have no error in it, and readings are in the model's range, not in 16 bits."""
    codec, depth = Codec("depth", threads=1), scene(96, 128)
    plain, refined = (codec.encode(depth, quality=50, effort=e) for e in (0, effort))
    assert len(refined) < 1.03 * len(plain)
    assert rms(depth, codec.decode(refined)) <= share * rms(depth, codec.decode(plain))
    bounded = codec.encode(depth, quality=50, effort=effort, max_error=30)
    assert error(depth, codec.decode(bounded)) <= 30


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
    bad = container.serialise(dataclasses.replace(file, planes=(plane, *file.planes[1:])))
    for read in (codec.decode, codec.verify):
        with pytest.raises(FormatError, match=rf"a\.aec: chunk 0: .*{cause}"):
            read(bad, name="a.aec")


def test_depth_in_colour_or_of_8_bits_is_no_file():
    header = container.Header(16, 16, bytes(8), 0, container.ColourMode.GRAY, 16, 2)
    file = container.AecFile(header, (container.Chunk(b"", 0),), planes=(b"",))
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
    depth = {"bits": 16, "invalid": 0}
    assert range_of({}) is None
    assert range_of({**depth, "bits": 8}) is None
    assert range_of({**depth, "invalid": -1}) is None
    assert range_of({**depth, "maximum": 4000}).limit == 8000
    for bad in (0, 65536, "x", [], float("inf")):
        with pytest.raises(aecodec.errors.WeightsError):
            range_of({**depth, "maximum": bad})


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
    damaged[container.parse_header(damaged).planes[1].offset + 3] ^= 4
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


# ---- with the model of the release ----


LOSSLESS = (
    "894145430d0a1a0a01180040182209c8d528acc71814000000000000e27ddab9d10301c3972b5829277d039524"
    "6c4626dcc8064f22007fc607d21c1e03bf7703d38fcd95e59d0287c500cb1c7cb15cb5bea7e0c6e692ced2e925"
    "c79d06730e39ab66ab09694c4f15960ad213f4a721da050e23e6ddcd62d2dcd5f013d01ac852e3b0bfa44dc36a"
    "5086c7c20abcb8b3a150ed735e04ff386edf9786b3d9840dabd70e7263fae14c3bf1a1f6eae46a9816aa0f715b"
    "8938075f29a3d9c5d4c0e418cedd6832e6e3942e8d6c886dc4105496a81d6bf3b55918e41ebe99fc0f711dbf51"
    "330b7feb9f1d8fd4a2c7f64f905395f1b36cdd0f5d4ef3b3b8376fe9447109a18f174dcc1ee0b224658de5008c"
    "fc0de63d8928ddab2f96927a4a267c90738fd96a3e1ccc8320b2db7cba9348a6a42cf0bc15b3eb97b0f629ccb1"
    "5eb43215c8f092b0f3a7d6f68bf3d7fd7af4209abcf3242093fd83613802a98d3a2b272b3e05efc67e7b7625ce"
    "0a4b471a6fc55f3365f71599091de456930990bacb6cddffffa2ddffffdcebffffffeaffffffbadaf43ab90803"
    "93810dbe00d210359770bbbcbbb95c8b51a7c9337949540fb2875e3dff17090ceee7a1954322319b1dcde2e7d4"
    "ef0e19333b1b07e28a7fdce25356d0f0ee63ce02739a629eb46553dd7b1e256cc91ef410882cff2e026051cb6c"
    "10272e9d5aa9f7d0fba59d0800"
)
LOSSY = (
    "894145430d0a1a0a01180040182209c8d528acc71814840b0cfc1b347f9563e3a624f36f3f8943359d583a159f"
    "3e4e618d6d3032fb411f4e5141f66f4e672f890c23e02cf43975a26189c0cddce994bf24a6d4a4b5fddee6045f"
    "00"
)


def test_files_of_this_release_stay_readable():
    """Golden: made once, never again."""
    depth = golden_depth()
    np.testing.assert_array_equal(aecodec.decode(bytes.fromhex(LOSSLESS)), depth)
    assert error(depth, aecodec.decode(bytes.fromhex(LOSSY))) == pytest.approx(177, abs=1)


def test_pillow_saves_and_opens_depth(tmp_path):
    aecodec.register_pillow()
    depth = scene(48, 64)
    Image.fromarray(depth).save(tmp_path / "d.aec", model="depth", max_error=4)
    with Image.open(tmp_path / "d.aec") as image:
        assert (image.mode, image.size) == ("I;16", (64, 48))
        assert error(depth, np.asarray(image)) <= 4


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
