"""Parts of a picture: regions, and what is left of damaged files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Run, chunks_of
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import aecodec
from aecodec import container
from aecodec.codec import Codec
from aecodec.errors import FormatError, InputError
from aecodec.files import rescue


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(precision="float32")


@pytest.fixture(scope="module")
def chunked(photo: np.ndarray) -> bytes:
    """(256, 384) pixels in 2 x 3 chunks."""
    plain = container.Header
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aecodec.codec.Header", lambda **kw: plain(**kw, chunk_log2=7))
        return Codec(precision="float32").encode(photo, quality=50)


@pytest.fixture(scope="module")
def whole(codec: Codec, chunked: bytes) -> np.ndarray:
    return codec.decode(chunked)


@settings(max_examples=15)
@given(st.data())
def test_a_region_is_the_crop_of_the_whole(codec, chunked, whole, data) -> None:  # type: ignore[no-untyped-def]
    left, right = sorted(
        data.draw(st.lists(st.integers(0, 384), min_size=2, max_size=2, unique=True))
    )
    top, bottom = sorted(
        data.draw(st.lists(st.integers(0, 256), min_size=2, max_size=2, unique=True))
    )
    part = codec.decode(chunked, region=(left, top, right - left, bottom - top))
    np.testing.assert_array_equal(part, whole[top:bottom, left:right])


def test_a_region_needs_only_its_own_chunks(codec: Codec, chunked: bytes, whole) -> None:  # type: ignore[no-untyped-def]
    """A corner decodes though the entropy-coded data of the opposite corner are wrong."""
    file = container.parse(chunked)
    wrong = container.Chunk(b"\x01\x02\x03", 0)
    forged = container.serialise(container.AecFile(file.header, (*file.chunks[:5], wrong)))
    with pytest.raises(FormatError, match="chunk 5"):
        codec.decode(forged)
    part = codec.decode(forged, region=(0, 0, 100, 100))
    np.testing.assert_array_equal(part, whole[:100, :100])


def test_neighbours_count_only_near_them(codec: Codec, chunked: bytes, whole) -> None:  # type: ignore[no-untyped-def]
    """The middle of a chunk decodes without any other, what lies near its border does not."""
    image = np.tile(whole, (2, 2, 1))[:512, :768]
    with chunks_of(8):
        file = container.parse(codec.encode(image, quality=40))
    expected = codec.decode(file)
    wrong = container.Chunk(b"\x01\x02\x03", 0)
    forged = replace(file, chunks=tuple(c if i == 1 else wrong for i, c in enumerate(file.chunks)))
    height = 256 - 16 * codec.network.synthesis_halo
    part = codec.decode(forged, region=(352, 0, 64, height))
    np.testing.assert_array_equal(part, expected[:height, 352:416])
    with pytest.raises(FormatError, match="chunk 4"):
        codec.decode(forged, region=(352, 0, 64, height + 1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_region_of_a_turned_picture(codec: Codec, chunked: bytes, orientation: int) -> None:
    """It is the crop of the upright picture, and decodes no more than it needs there, too."""
    file = container.parse(chunked)
    turned = replace(file, header=replace(file.header, orientation=orientation))
    upright = codec.decode(turned)
    assert upright.shape[:2] == ((256, 384) if orientation < 5 else (384, 256))
    part = codec.decode(turned, region=(130, 200, 100, 50))
    np.testing.assert_array_equal(part, upright[200:250, 130:230])
    assert any(_decodes_without(codec, turned, i) for i in range(6))
    with pytest.raises(InputError, match="region"):
        codec.decode(turned, region=(0, 0, 257, 257))


def _decodes_without(codec: Codec, file: container.AecFile, lost: int) -> bool:
    wrong = container.Chunk(b"\x01\x02\x03", 0)
    chunks = tuple(wrong if i == lost else c for i, c in enumerate(file.chunks))
    try:
        codec.decode(replace(file, chunks=chunks), region=(5, 5, 20, 20))
    except FormatError:
        return False
    return True


@pytest.mark.parametrize("region", [(0, 0, 0, 5), (-1, 0, 5, 5), (380, 0, 5, 5), (0, 0, 400, 300)])
def test_bad_regions(codec: Codec, chunked: bytes, region: tuple[int, int, int, int]) -> None:
    with pytest.raises(InputError, match="384 x 256"):
        codec.decode(chunked, region=region)


def test_one_damaged_chunk_costs_one_chunk(codec: Codec, chunked: bytes, whole) -> None:  # type: ignore[no-untyped-def]
    entry = container.parse_header(chunked).entries[4]
    damaged = bytearray(chunked)
    damaged[entry.offset + 5] ^= 1
    calls: list[tuple[int, int]] = []
    image, lost = codec.recover(
        bytes(damaged), progress=lambda done, expected: calls.append((done, expected))
    )
    assert lost == [4]
    assert calls[0] == (0, 384 * 256) and calls[-1] == (384 * 256, 384 * 256)
    assert (image[128:, 128:256] == 128).all()
    np.testing.assert_array_equal(image[:32, :], whole[:32, :])
    np.testing.assert_array_equal(image[:, :32], whole[:, :32])
    assert np.abs(image[:128].astype(int) - whole[:128]).mean() < 2


def test_nothing_lost_is_a_plain_decode(codec: Codec, chunked: bytes, whole) -> None:  # type: ignore[no-untyped-def]
    image, lost = codec.recover(chunked)
    assert lost == []
    np.testing.assert_array_equal(image, whole)


@settings(max_examples=10)
@given(st.floats(0, 1))
def test_a_file_cut_short_shows_its_beginning(codec, chunked, whole, share) -> None:  # type: ignore[no-untyped-def]
    entries = container.parse_header(chunked).entries
    end = entries[0].offset + int(share * (len(chunked) - entries[0].offset))
    image, lost = codec.recover(chunked[:end])
    assert lost == [i for i, e in enumerate(entries) if e.offset + e.length > end]
    assert image.shape == whole.shape


def test_a_damaged_header_is_not_recovered(codec: Codec, chunked: bytes) -> None:
    damaged = bytearray(chunked)
    damaged[25] ^= 1
    with pytest.raises(FormatError):
        codec.recover(bytes(damaged))


def test_on_the_command_line(chunked: bytes, tmp_path: Path, run: Run) -> None:
    good, bad = tmp_path / "good.aec", tmp_path / "bad.aec"
    good.write_bytes(chunked)
    entry = container.parse_header(chunked).entries[1]
    bad.write_bytes(chunked[: entry.offset + 4] + b"\0" + chunked[entry.offset + 5 :])
    done = run("decompress", good, tmp_path / "part.png", "--region", "10,20,64,48")
    assert done.returncode == 0, done.stderr
    assert "64 x 48 RGB" in done.stderr
    with Image.open(tmp_path / "part.png") as image:
        assert image.size == (64, 48)
    assert run("decompress", good, tmp_path / "no.png", "--region", "1,2,3").returncode == 2
    assert run("decompress", bad, tmp_path / "no.png").returncode == 4
    assert not (tmp_path / "no.png").exists()
    done = run("decompress", bad, tmp_path / "rescued.png", "--best-effort")
    assert done.returncode == 7
    assert "chunks lost: 1" in done.stderr
    with Image.open(tmp_path / "rescued.png") as image:
        assert image.size == (384, 256)
    bad.write_bytes(chunked[:-1])  # the end marker is missing: who knows what else
    done = run("decompress", bad, tmp_path / "rescued.png", "--best-effort", "-f", "--json")
    assert done.returncode == 7
    assert "metadata may be lost" in done.stderr
    found = json.loads(done.stdout)
    assert (found["status"], found["lost_chunks"], found["lost_metadata"]) == ("done", [], True)


def test_a_rescued_picture_keeps_its_metadata(
    photo: np.ndarray, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    items = (
        container.Metadata(container.ICC, b"profile"),
        container.Metadata(container.XMP, b"<x/>"),
    )
    data = aecodec.encode(photo[:64, :64], 30, metadata=items)
    cases = {
        "whole": (data, {"icc_profile", "xmp"}, False, ""),
        "longer": (data + b"more", {"icc_profile", "xmp"}, False, "the picture is whole"),
        "cut": (data[:-6], {"icc_profile"}, True, "are lost"),
        "length": (data.replace(b"xMP \x04", b"xMP \xff"), {"icc_profile"}, True, "are lost"),
    }
    for name, (damaged, kept, lost, said) in cases.items():
        path = tmp_path / f"{name}.aec"
        path.write_bytes(damaged)
        caplog.clear()
        with caplog.at_level("INFO", "aecodec"):
            found = rescue(path, tmp_path / f"{name}.webp")
        assert (found.lost, found.lost_metadata) == ((), lost)
        assert said in caplog.text
        assert bool(said) == bool(caplog.text)
        with Image.open(tmp_path / f"{name}.webp") as image:
            assert {"icc_profile", "xmp"} & set(image.info) == kept
    rescue(tmp_path / "whole.aec", tmp_path / "bare.webp", strip=True)
    with Image.open(tmp_path / "bare.webp") as image:
        assert not {"icc_profile", "xmp"} & set(image.info)


@pytest.mark.parametrize("region", [(1, 2, 3), (0.5, 0, 5, 5), "abcd"])
def test_what_is_no_region(chunked: bytes, region: object) -> None:
    with pytest.raises(InputError, match="in whole pixels"):
        aecodec.decode(chunked, region=region)  # type: ignore[arg-type]


def test_in_the_flat_api(chunked: bytes, whole: np.ndarray) -> None:
    part = aecodec.decode(chunked, region=(5, 6, 7, 8))
    assert part.shape == (8, 7, 3)
    assert aecodec.recover(chunked)[1] == []
