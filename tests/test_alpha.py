"""Alpha: exact, small, recoverable; and the colour it hides."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from conftest import psnr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from PIL import Image

import aecodec
from aecodec import alpha, container
from aecodec.cli.main import run
from aecodec.codec import Codec
from aecodec.errors import ChecksumError, FormatError, InputError

PLANES = st.tuples(st.integers(1, 40), st.integers(1, 40)).flatmap(
    lambda shape: st.sampled_from([np.uint8, np.uint16]).flatmap(
        lambda dtype: nps.arrays(dtype, shape)
    )
)


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(precision="float32")


@pytest.fixture(scope="module")
def soft(photo: np.ndarray) -> np.ndarray:
    """An opaque disc with a soft edge, half of the picture transparent; (256, 384) uint8."""
    y, x = np.mgrid[: photo.shape[0], : photo.shape[1]]
    distance = np.hypot(x - 190, y - 128)
    return np.rint(255 * np.clip((140 - distance) / 60, 0, 1)).astype(np.uint8)


@pytest.fixture(scope="module")
def cut_out(photo: np.ndarray, soft: np.ndarray) -> np.ndarray:
    return np.dstack([photo, soft])


@pytest.fixture(scope="module")
def chunked(cut_out: np.ndarray) -> bytes:
    """`cut_out` in 2 x 3 chunks."""
    plain = container.Header
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aecodec.codec.Header", lambda **kw: plain(**kw, chunk_log2=7))
        return Codec(precision="float32").encode(cut_out, quality=50)


# ---- planes ----


@given(PLANES)
def test_planes_come_back_exactly(plane):
    depth = 8 * plane.dtype.itemsize
    back = alpha.decode(alpha.encode(plane), *plane.shape, depth)
    assert back.dtype == plane.dtype
    np.testing.assert_array_equal(back, plane)


@pytest.mark.parametrize("depth", [8, 16])
def test_an_opaque_plane_has_no_bytes(depth):
    assert alpha.encode(alpha.opaque(300, 200, depth)) == b""
    assert (alpha.decode(b"", 3, 2, depth) == 2**depth - 1).all()


@given(st.binary(max_size=60), st.booleans())
def test_bytes_that_are_no_plane_are_refused(data, plausible):
    """With the right size in front, too, so that the decoder gets to see them."""
    header = (0x2F + ((6 | 4 << 14) << 8)).to_bytes(5, "little")
    payload = header + data if plausible else b"x" + data
    try:
        plane = alpha.decode(payload, 5, 7, 8)
    except FormatError as error:
        assert "alpha" in str(error)
    else:
        assert plane.shape == (5, 7)


def test_a_plane_of_another_size_is_refused_before_it_is_decoded():
    payload = alpha.encode(np.arange(48, dtype=np.uint8).reshape(6, 8))
    huge = b"\x2f" + (2**28 - 1).to_bytes(4, "little") + payload[5:]
    for claim in (payload, huge):
        with pytest.raises(FormatError, match="no plane of 7 x 5"):
            alpha.decode(claim, 5, 7, 8)


# ---- coded pictures ----


def test_gray_and_colour_keep_alpha_exactly(codec, cut_out):
    gray = np.asarray(Image.fromarray(cut_out).convert("LA"))
    for image in (cut_out, gray):
        back = codec.decode(codec.encode(image, quality=60))
        assert back.shape == image.shape
        np.testing.assert_array_equal(back[:, :, -1], image[:, :, -1])
        seen = image[:, :, -1] > 0
        assert psnr(back[:, :, :-1][seen], image[:, :, :-1][seen]) > 30


def test_each_mode_costs_what_it_needs(codec, photo, cut_out):
    gray = np.asarray(Image.fromarray(cut_out).convert("LA"))
    sizes = {
        name: len(codec.encode(image, quality=60))
        for name, image in {
            "L": np.asarray(Image.fromarray(photo).convert("L")),
            "RGB": photo,
            "opaque": np.dstack([photo, np.full(photo.shape[:2], 255, np.uint8)]),
            "clear": np.dstack([photo, np.zeros(photo.shape[:2], np.uint8)]),
            "LA": gray,
            "RGBA": cut_out,
        }.items()
    }
    assert sizes["L"] < sizes["RGB"]
    assert sizes["LA"] < sizes["RGBA"]
    assert sizes["opaque"] == sizes["RGB"] + 1
    assert sizes["clear"] < 400


@pytest.mark.parametrize("depth", [8, 16])
def test_hidden_colour_costs_nothing(codec, cut_out, depth):
    """Noise where nobody sees it: not a byte more than the same picture without it."""
    image = cut_out if depth == 8 else cut_out.astype(np.uint16) * 257
    hidden = image[:, :, 3] == 0
    assert hidden.mean() > 0.2
    noisy = image.copy()
    noise = np.random.default_rng(0).integers(0, 2**depth, image.shape)
    noisy[hidden, :3] = noise[hidden, :3].astype(image.dtype)
    filled = image.copy()
    filled[:, :, :3] = alpha.fill(image[:, :, :3], ~hidden)
    data = codec.encode(noisy, quality=60)
    assert data == codec.encode(image, quality=60) == codec.encode(filled, quality=60)
    # and what is filled in is cheaper than what was there
    assert len(data) - container.parse_header(data).planes[0].length < len(
        codec.encode(image[:, :, :3], quality=60)
    )


def test_filling_is_smooth_and_leaves_what_is_seen(photo, soft):
    seen = soft > 0
    filled = alpha.fill(photo, seen)
    np.testing.assert_array_equal(filled[seen], photo[seen])
    steps = np.abs(np.diff(filled.astype(int), axis=1)).max(axis=2)
    hidden = steps[~seen[:, 1:] & ~seen[:, :-1]]
    assert hidden.mean() < 2
    assert np.quantile(hidden, 0.99) < 10
    for lone in ((0, 0), (255, 383), (100, 77)):
        one = np.zeros(seen.shape, bool)
        one[lone] = True
        assert (alpha.fill(photo, one) == photo[lone]).all()
    assert (alpha.fill(photo, np.zeros(seen.shape, bool)) == 128).all()


@settings(max_examples=20)
@given(nps.arrays(bool, st.tuples(st.integers(1, 30), st.integers(1, 30))), st.integers(0, 65535))
def test_filling_a_flat_picture_keeps_it_flat(seen, value):
    flat = np.full((*seen.shape, 3), value, np.uint16)
    expected = value if seen.any() else 32768
    assert np.abs(alpha.fill(flat, seen).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("depth", [8, 16])
def test_less_alpha_quality_is_fewer_bytes_and_fewer_levels(photo, soft, depth):
    matte = np.minimum(soft, photo[:, :, 1])
    plane = matte if depth == 8 else matte.astype(np.uint16) * 257
    sizes, errors = [], []
    for quality in (1, 25, 50, 75, 99, 100, None):
        payload = alpha.encode(plane, quality)
        back = alpha.decode(payload, *plane.shape, depth)
        sizes.append(len(payload))
        errors.append(np.abs(back.astype(int) - plane).max() / 2**depth)
        assert (back[plane == 0] == 0).all()
        assert (back[plane == 2**depth - 1] == 2**depth - 1).all()
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)
    assert errors[0] < 0.5
    assert errors[-1] == errors[-2] == 0


def test_alpha_that_is_cheap_without_loss_stays_exact(codec):
    y, x = np.mgrid[:64, :96]
    image = np.dstack([((x + y) % 256).astype(np.uint8)] * 4)
    back = codec.decode(codec.encode(image, quality=20, alpha_quality=75))
    np.testing.assert_array_equal(back[:, :, 3], image[:, :, 3])


@pytest.mark.parametrize("quality", [0, 0.5, 101, float("nan"), float("inf")])
def test_bad_alpha_qualities_are_refused(codec, photo, quality):
    with pytest.raises(InputError, match="alpha quality"):
        codec.encode(photo, alpha_quality=quality)


def test_targets_count_alpha_in_the_size_and_only_what_is_seen_in_the_error(codec, cut_out):
    size = len(codec.encode(cut_out, target_size=12000))
    assert 11880 <= size <= 12000
    seen = cut_out[:, :, 3] > 0
    back = codec.decode(codec.encode(cut_out, target_psnr=33))
    assert 32.99 < psnr(back[seen][:, :3], cut_out[seen][:, :3]) < 33.1


def test_files_are_the_same_for_any_number_of_threads(cut_out, chunked, monkeypatch):
    plain = container.Header
    monkeypatch.setattr("aecodec.codec.Header", lambda **kw: plain(**kw, chunk_log2=7))
    many = Codec(precision="float32", threads=3)
    assert many.encode(cut_out, quality=50) == chunked


# ---- parts ----


def test_alpha_lies_beside_every_chunk(codec, cut_out, chunked):
    whole = codec.decode(chunked)
    np.testing.assert_array_equal(whole[:, :, 3], cut_out[:, :, 3])
    part = codec.decode(chunked, region=(100, 90, 150, 101))
    np.testing.assert_array_equal(part, whole[90:191, 100:250])
    file = container.parse(chunked)
    forged = dataclasses.replace(file, planes=(b"no plane", *file.planes[1:]))
    part = codec.decode(container.serialise(forged), region=(300, 200, 84, 56))
    np.testing.assert_array_equal(part, whole[200:, 300:])
    with pytest.raises(FormatError, match=r"a\.aec: chunk 0: alpha"):
        codec.decode(container.serialise(forged), name="a.aec")
    with pytest.raises(FormatError, match="chunk 0: alpha"):
        codec.verify(container.serialise(forged))


@pytest.mark.parametrize("orientation", [3, 6])
def test_alpha_turns_with_the_picture(codec, chunked, orientation):
    file = container.parse(chunked)
    header = dataclasses.replace(file.header, orientation=orientation)
    turned = codec.decode(container.serialise(dataclasses.replace(file, header=header)))
    expected = np.rot90(codec.decode(chunked), 2 if orientation == 3 else -1)
    np.testing.assert_array_equal(turned, expected)


def test_damaged_alpha_is_an_error_and_opaque_at_best(codec, chunked):
    whole = codec.decode(chunked)
    line = container.parse_header(chunked).planes[4]
    damaged = bytearray(chunked)
    damaged[line.offset + 7] ^= 16
    with pytest.raises(ChecksumError, match=r"^x\.aec: alpha of chunk 4"):
        codec.decode(bytes(damaged), name="x.aec")
    image, lost = codec.recover(bytes(damaged))
    assert lost == [4]
    assert (image[128:, 128:256, 3] == 255).all()
    whole[128:, 128:256, 3] = 255
    np.testing.assert_array_equal(image, whole)


def test_a_file_cut_short_keeps_what_is_there(codec, cut_out, chunked):
    info = container.parse_header(chunked)
    image, lost = codec.recover(chunked[: info.planes[2].offset])
    assert lost == [i for i in range(2, 6) if info.planes[i].length]
    np.testing.assert_array_equal(image[:128, :256, 3], cut_out[:128, :256, 3])
    image, lost = codec.recover(chunked[: info.entries[3].offset + 3])
    assert lost == [i for i in range(6) if i >= 3 or info.planes[i].length]


def test_alpha_of_a_lost_chunk_stays(codec, cut_out, chunked):
    damaged = bytearray(chunked)
    damaged[container.parse_header(chunked).entries[1].offset] ^= 1
    image, lost = codec.recover(bytes(damaged))
    assert lost == [1]
    assert (image[:128, 128:256, :3] == 128).all()
    np.testing.assert_array_equal(image[:, :, 3], cut_out[:, :, 3])


@settings(max_examples=10)
@given(st.data())
def test_any_damage_is_an_error_or_recovered(codec, chunked, data):
    damaged = bytearray(chunked)
    start = container.parse_header(chunked).size
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(start, len(chunked) - 2))
        damaged[place] ^= data.draw(st.integers(1, 255))
    if damaged != chunked:
        with pytest.raises(FormatError):
            codec.verify(bytes(damaged))
    image, _ = codec.recover(bytes(damaged))
    assert image.shape == (256, 384, 4)


# ---- on the command line ----


def test_there_and_back_on_the_command_line(tmp_path, cut_out, capfd):
    Image.fromarray(cut_out).save(tmp_path / "a.png")
    coded = tmp_path / "a.aec"
    assert run(["compress", str(tmp_path / "a.png"), "--alpha-quality", "50", "-q", "40"]) == 0
    found = aecodec.info(coded)
    assert (found.mode, found.bit_depth) == ("RGBA", 8)
    assert 0 < found.alpha_bytes < 3000
    assert run(["info", str(coded)]) == 0
    text = capfd.readouterr().out
    assert "RGBA, 8 bits a sample" in text
    assert f"{found.alpha_bytes} bytes" in text
    for ending in ("png", "webp", "tif"):
        assert run(["decompress", str(coded), str(tmp_path / f"b.{ending}")]) == 0
        with Image.open(tmp_path / f"b.{ending}") as back:
            assert back.mode == "RGBA"
            assert 3 < len(np.unique(np.asarray(back)[:, :, 3])) <= 16
    assert run(["decompress", str(coded), str(tmp_path / "b.jpg")]) == 6
    assert "JPEG files have no alpha" in capfd.readouterr().err
    assert not (tmp_path / "b.jpg").exists()
    assert run(["compress", str(tmp_path / "a.png"), "--alpha-quality", "0"]) == 2


def test_rescue_on_the_command_line(tmp_path, chunked, capfd):
    data = bytearray(chunked)
    data[container.parse_header(data).planes[0].offset + 9] ^= 1
    bad, out = tmp_path / "bad.aec", tmp_path / "c.png"
    bad.write_bytes(data)
    assert run(["decompress", str(bad), str(out)]) == 4
    assert run(["decompress", str(bad), str(out), "--best-effort"]) == 7
    assert "chunks lost: 0; painted gray, or opaque" in capfd.readouterr().err
    with Image.open(out) as back:
        assert (np.asarray(back)[:128, :128, 3] == 255).all()
