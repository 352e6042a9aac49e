"""Previews: one eighth of the picture, stored or made from the latents, and through Pillow."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from conftest import Run, chunks_of, psnr
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import aecodec
import aecodec.plugins.pillow
from aecodec import container
from aecodec.codec import Codec
from aecodec.errors import FormatError, InputError
from aecodec.layout import PREVIEW, Metadata
from aecodec.samples import reduced


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(precision="float32")


def eighth(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).reduce(8))


@pytest.fixture(scope="module")
def photographs() -> list[np.ndarray]:
    from skimage import data
    from sklearn.datasets import load_sample_image

    loaded = [data.astronaut(), data.coffee(), load_sample_image("flower.jpg")]
    return [np.ascontiguousarray(image[:320, 100:420]) for image in loaded]


@pytest.mark.parametrize("quality", [20, 50, 75, 95])
def test_from_latents(codec: Codec, photographs: list[np.ndarray], quality: int) -> None:
    """Close to the full decode, however good that is."""
    for image in photographs:
        data = codec.encode(image, quality=quality)
        assert psnr(eighth(codec.decode(data)), codec.decode(data, preview=True)) > 36


def test_stored(codec: Codec, photographs: list[np.ndarray]) -> None:
    for image in photographs:
        plain = codec.encode(image, quality=75)
        data = codec.encode(image, quality=75, preview=True)
        assert len(data) < 1.05 * len(plain)
        np.testing.assert_array_equal(codec.decode(data), codec.decode(plain))
        assert psnr(eighth(codec.decode(data)), codec.decode(data, preview=True)) > 27


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (8, 9), (63, 17), (181, 243)])
def test_any_size(codec: Codec, cat: np.ndarray, shape: tuple[int, int], stored: bool) -> None:
    for image in (cat[: shape[0], : shape[1]], cat[: shape[0], : shape[1], 0]):
        data = codec.encode(image, quality=80, preview=stored)
        preview = codec.decode(data, preview=True)
        assert preview.shape == eighth(image).shape
        assert np.abs(preview.astype(int) - eighth(image)).mean() < 12


def test_many_chunks(codec: Codec, photo: np.ndarray) -> None:
    with chunks_of(6):
        data = codec.encode(photo, quality=75)
    assert psnr(eighth(codec.decode(data)), codec.decode(data, preview=True)) > 36


@pytest.mark.parametrize("stored", [False, True])
def test_turned(codec: Codec, cat: np.ndarray, stored: bool) -> None:
    file = container.parse(codec.encode(cat, quality=60, preview=stored))
    turned = dataclasses.replace(file, header=dataclasses.replace(file.header, orientation=6))
    upright = codec.decode(file, preview=True)
    np.testing.assert_array_equal(codec.decode(turned, preview=True), np.rot90(upright, -1))


def test_not_of_a_region(codec: Codec, cat: np.ndarray) -> None:
    with pytest.raises(InputError, match="region"):
        codec.decode(codec.encode(cat), preview=True, region=(0, 0, 8, 8))


def test_a_wrong_preview_is_refused(codec: Codec, cat: np.ndarray) -> None:
    """One of another size, of another kind, or none at all; the picture is not concerned."""
    file = container.parse(codec.encode(cat, quality=30))
    small = codec.encode(eighth(cat))
    turned = container.parse(small)
    turned = dataclasses.replace(turned, header=dataclasses.replace(turned.header, orientation=2))
    for wrong in (
        b"",
        small[:-5],
        codec.encode(cat[:16, :16]),
        codec.encode(eighth(cat)[:, :, 0]),
        container.serialise(turned),
    ):
        forged = dataclasses.replace(file, metadata=(Metadata(PREVIEW, wrong),))
        with pytest.raises(FormatError, match=r"x\.aec: the stored preview"):
            codec.decode(container.serialise(forged), preview=True, name="x.aec")
        assert codec.decode(forged).shape == cat.shape


def test_on_the_command_line(photo_file: Path, tmp_path: Path, run: Run) -> None:
    coded = tmp_path / "photo.aec"
    done = run("compress", photo_file, coded, "--preview")
    assert done.returncode == 0, done.stderr
    done = run("decompress", coded, tmp_path / "small.png", "--preview")
    assert (done.returncode, "note" in done.stderr) == (0, False)
    assert "48 x 32 RGB" in done.stderr
    with Image.open(tmp_path / "small.png") as image:
        assert image.size == (48, 32)


@pytest.mark.parametrize("stored", [False, True])
def test_pillow_drafts(codec: Codec, photo: np.ndarray, stored: bool) -> None:
    data = aecodec.encode(photo, 60, preview=stored)
    preview = aecodec.decode(data, preview=True)
    image = Image.open(io.BytesIO(data))
    assert image.draft("RGB", (48, 33)) is None  # larger than an eighth
    assert image.size == (384, 256)
    assert image.draft("RGB", (48, 32)) == ("RGB", (0, 0, 48.0, 32.0))
    assert image.size == (48, 32)
    assert image.draft("RGB", (1, 1)) is None  # once is enough
    np.testing.assert_array_equal(np.asarray(image), preview)


def test_pillow_thumbnails(codec: Codec, cat: np.ndarray) -> None:
    """As of the whole picture, but faster; as Pillow does with JPEG."""
    data = aecodec.encode(cat, 60)
    whole = Image.open(io.BytesIO(data))
    whole.load()
    whole.thumbnail((15, 15))
    quick = Image.open(io.BytesIO(data))
    quick.thumbnail((15, 15))
    assert quick.size == whole.size
    assert psnr(np.asarray(whole), np.asarray(quick)) > 30


def test_imageio_reads_and_writes_through_pillow(photo: np.ndarray, tmp_path: Path) -> None:
    import imageio.v3 as iio

    path = tmp_path / "photo.aec"
    iio.imwrite(path, photo, plugin="pillow", extension=".aec", quality=60)
    assert path.read_bytes() == aecodec.encode(photo, 60)
    np.testing.assert_array_equal(
        iio.imread(path, plugin="pillow"), aecodec.decode(path.read_bytes())
    )
    assert iio.improps(path, plugin="pillow").shape == (256, 384, 3)


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("kind", ["LA", "RGBA", "deep", "deep RGBA"])
def test_every_mode(codec: Codec, cat: np.ndarray, kind: str, stored: bool) -> None:
    """The preview has the channels and the depth of its picture."""
    crop = cat[:163, :150]
    mask = np.zeros((*crop.shape[:2], 1), np.uint8)
    mask[40:120, 30:110] = 255
    image = crop[:, :, :1] if kind == "LA" else crop
    if kind != "deep":
        image = np.concatenate([image, mask], axis=2)
    if kind.startswith("deep"):
        image = image.astype(np.uint16) * 257
    whole = codec.encode(image, quality=75, preview=stored)
    small = codec.decode(whole, preview=True)
    assert small.dtype == image.dtype
    assert small.shape == (21, 19, *image.shape[2:])
    if kind != "deep":  # alpha is exact: means of its squares
        top = np.iinfo(image.dtype).max
        assert small[9, 8, -1] == top and small[0, 0, -1] == 0
        assert small[:20, :18, -1].mean() == pytest.approx(image[:160, :144, -1].mean(), rel=1e-3)


@given(st.integers(1, 40), st.integers(1, 1200), st.integers(0, 2**32 - 1))
def test_means_are_pillows(width: int, height: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert np.abs(reduced(image, 8).astype(int) - eighth(image)).max() <= 1


def test_hidden_colour_does_not_bleed() -> None:
    image = np.full((16, 16, 4), 255, np.uint8)
    image[:, :4] = (10, 20, 30, 255)
    image[:, 4:, 3] = 0  # white that nobody sees
    small = reduced(image, 8)
    assert small[:, 0].tolist() == [[10, 20, 30, 128]] * 2
    assert small[:, 1, 3].tolist() == [0, 0]
