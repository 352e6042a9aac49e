"""Pictures of many chunks: no seams, bounded memory, any number of threads, progress."""

from __future__ import annotations

import io
import time
import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch
from conftest import chunks_of
from hypothesis import given, settings
from hypothesis import strategies as st

import aecodec
from aecodec import container, tiles
from aecodec.cli.options import progress_bar
from aecodec.codec import Codec
from aecodec.errors import FormatError, InputError
from aecodec.layout import Margins, Rect
from aecodec.rate import Aim


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(precision="float32")


@pytest.fixture(scope="module")
def photographs() -> list[np.ndarray]:
    """Three photographs of about 400 x 600 pixels."""
    from skimage import data
    from sklearn.datasets import load_sample_image

    loaded = [load_sample_image("china.jpg"), load_sample_image("flower.jpg")]
    return [image[:400] for image in (*loaded, data.coffee())]


def coded(codec: Codec, image: np.ndarray, log2: int, **options: float) -> bytes:
    with chunks_of(log2):
        return codec.encode(image, **options)  # type: ignore[arg-type]


@given(
    st.integers(1, 5000),
    st.integers(1, 5000),
    st.integers(6, 13),
    st.integers(0, 20),
)
def test_windows_cover_every_pixel_once(width: int, height: int, log2: int, halo: int) -> None:
    header = container.Header(width, height, bytes(8), 0, chunk_log2=log2)
    rows, cols = -(-height // 16), -(-width // 16)
    area = positions = 0
    for number, chunk in enumerate(container.chunk_grid(header).rects):
        for window in tiles.windows(chunk, header, halo):
            area += tiles.area(window.rect)
            positions += tiles.area(window.core)
            assert tiles.overlap(window.rect, chunk) == window.rect
            assert max(tiles.size(window.rect)) <= 1024
            assert window.core == tiles.positions(window.rect)
            left, top, right, bottom = window.core
            reach = Rect(left - halo, top - halo, right + halo, bottom + halo)
            assert window.outer == tiles.overlap(reach, Rect(0, 0, cols, rows))
            assert number in tiles.chunks_under(window.outer, header)
    assert (area, positions) == (width * height, rows * cols)


def test_no_seams(codec: Codec, photographs: list[np.ndarray]) -> None:
    """Along chunk borders the error is what it is there without chunks, to 0.1 dB.

    Errors are a little larger at multiples of 16 pixels in any case, and photographs are
    not the same everywhere, so both pictures are compared in the same places.
    """
    border: list[list[float]] = [[], []]
    rest: list[list[float]] = [[], []]
    for image in photographs:
        near = np.zeros(image.shape[:2], bool)
        for side in range(128, max(image.shape), 128):
            near[side - 2 : side + 2] = near[:, side - 2 : side + 2] = True
        for which, log2 in enumerate((7, 10)):
            decoded = codec.decode(coded(codec, image, log2, quality=60))
            error = np.square(image.astype(float) - decoded).sum(axis=2)
            border[which].append(error[near].mean())
            rest[which].append(error[~near].mean())
    chunked, whole = (np.mean(b) / np.mean(r) for b, r in zip(border, rest, strict=True))
    assert abs(10 * np.log10(chunked / whole)) < 0.1


@settings(max_examples=10)
@given(st.builds(Margins, *[st.integers(0, 9)] * 2, *[st.integers(0, 6)] * 2))
def test_margins_change_nothing_but_what_comes_back(
    codec: Codec, photo: np.ndarray, margins: Margins
) -> None:
    """What is cut off on the way is not seen from what is wanted."""
    rows, cols = slice(margins.top, 16 - margins.bottom), slice(margins.left, 24 - margins.right)
    with torch.inference_mode():
        y = codec.network.analyse(photo)
        torch.testing.assert_close(codec.network.analyse(photo, margins), y[:, rows, cols])
        whole = codec.network.synthesise(y, 3.0)
        part = codec.network.synthesise(y, 3.0, margins=margins)
    shown = [slice(16 * side.start, 16 * side.stop) for side in (rows, cols)]
    assert np.abs(whole[tuple(shown)].astype(int) - part).max() <= 1


@pytest.mark.parametrize("log2", [6, 7])
def test_tiled_or_whole_within_a_level(codec: Codec, photo: np.ndarray, log2: int) -> None:
    """One synthesis of the whole latent grid gives what the windows of the chunks give."""
    data = coded(codec, photo, log2, quality=70)
    file = container.parse(data)
    y = torch.zeros(codec.network.config.latent_channels, 16, 24)
    with torch.inference_mode():
        grid = container.chunk_grid(file.header).rects
        for chunk, s in zip(grid, codec.symbols(file), strict=True):
            core = tiles.latents_within(tiles.positions(chunk), Rect(0, 0, 24, 16))
            y[core] = codec.network.quantiser.dequantise(s.z, s.q, file.header.quality)
        whole = codec.network.synthesise(y, file.header.q)
    assert np.abs(codec.decode(file).astype(int) - whole).max() <= 1


def test_large_chunks_have_several_windows(
    codec: Codec, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = codec.encode(photo, quality=70)
    whole = codec.decode(data)
    monkeypatch.setattr(tiles, "WINDOW", 128)
    assert np.abs(codec.decode(data).astype(int) - whole).max() <= 1
    again = codec.decode(codec.encode(photo, quality=70))
    assert np.abs(again.astype(int) - whole).mean() < 0.5


@pytest.mark.parametrize("log2", [7, 10])
def test_bytes_are_the_same_for_any_number_of_threads(
    photographs: list[np.ndarray], log2: int
) -> None:
    """At the highest quality, where the last bit of a sum decides a rounding now and then."""
    image = photographs[0]
    one, two, four = (Codec(precision="float32", threads=n) for n in (1, 2, 4))
    before = torch.get_num_threads()
    expected = coded(one, image, log2, quality=100)
    assert coded(two, image, log2, quality=100) == expected
    assert coded(four, image, log2, quality=100) == expected
    pixels = one.decode(expected).astype(int)
    assert np.abs(two.decode(expected) - pixels).max() <= 1
    assert np.abs(four.decode(expected) - pixels).max() <= 1
    assert torch.get_num_threads() == before


def test_errors_in_threads_name_the_first_damaged_chunk(photo: np.ndarray) -> None:
    codec = Codec(precision="float32", threads=4)
    file = container.parse(coded(codec, photo, 6, quality=60))
    wrong = container.Chunk(b"\1\2\3", 0)
    chunks = [wrong if number in (3, 5, 11) else c for number, c in enumerate(file.chunks)]
    forged = container.AecFile(file.header, tuple(chunks))
    with pytest.raises(FormatError, match=r"x\.aec: chunk 3:"):
        codec.decode(forged, name="x.aec")
    with pytest.raises(InputError, match="threads"):
        aecodec.encode(photo, threads=0)


def test_a_search_gives_the_bytes_of_its_quality(codec: Codec, photo: np.ndarray) -> None:
    """Latents that were kept and latents made anew are the same."""
    data = coded(codec, photo, 7, target_size=9000)
    index = container.parse_header(data).header.quality
    with chunks_of(7):
        again = codec.encode_to(Aim(quality=1 + 99 * index / 3584), photo)
    assert again == data


def test_progress_reaches_its_end(codec: Codec, photo: np.ndarray) -> None:
    seen: list[tuple[int, int]] = []
    with chunks_of(7):
        data = codec.encode(photo, progress=lambda *now: seen.append(now))
    area = photo.shape[0] * photo.shape[1]
    assert seen[0] == (0, area)
    assert seen[-1] == (area, area)
    assert seen == sorted(seen)
    assert len(seen) == 7  # as the work begins, then one for each of 6 chunks
    seen.clear()
    codec.decode(data, region=(100, 100, 200, 100), progress=lambda *now: seen.append(now))
    assert seen[-1] == (200 * 100, 200 * 100)
    seen.clear()
    codec.encode(photo, target_bpp=0.6, progress=lambda *now: seen.append(now))
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] > 2 * area


class Alive:
    """Counts how many tensors that a function returned are there at the same time."""

    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        self.function = function
        self.given: list[weakref.ref[torch.Tensor]] = []
        self.most = 0

    def __call__(self, *args: object) -> torch.Tensor:
        result = self.function(*args)
        self.given.append(weakref.ref(result))
        self.most = max(self.most, sum(ref() is not None for ref in self.given))
        return result


@pytest.mark.parametrize("threads", [1, 2])
def test_latents_do_not_pile_up(
    photo: np.ndarray, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    """24 rows of 2 chunks, of which a window of 4 positions and its halo touch 5 rows."""
    codec = Codec(precision="float32", threads=threads)
    tall = np.tile(photo[:, :128], (6, 1, 1))
    coding = Alive(codec.network.analyse)
    monkeypatch.setattr(codec.network, "analyse", coding)
    data = coded(codec, tall, 6, quality=40)
    assert len(coding.given) == 48
    assert coding.most <= 2 * threads + 1
    decoding = Alive(codec.network.quantiser.reconstruct)
    monkeypatch.setattr(codec.network.quantiser, "reconstruct", decoding)
    codec.decode(data)
    assert len(decoding.given) == 48
    assert decoding.most <= 5 * 2 + 3 * threads


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_on_terminals_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    for stream, quiet in ((Terminal(), False), (Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr("sys.stderr", stream)
        with progress_bar(quiet) as progress:
            progress(0, 200)
            time.sleep(1.1)  # quick work shows no bar
            progress(100, 200)
        shown.append(stream.getvalue())
    assert "50%" in shown[0]
    assert shown[1:] == ["", ""]


def test_batches_are_the_single_files(codec: Codec, photo: np.ndarray) -> None:
    batch = np.stack([photo[:64, :96], photo[64:128, 96:192], photo[128:192, 192:288]])
    files = codec.encode_batch(batch, quality=40)
    assert files == [codec.encode(image, quality=40) for image in batch]
    np.testing.assert_array_equal(
        np.stack(codec.decode_batch(files)), np.stack([codec.decode(f) for f in files])
    )
    mixed = [photo[:50, :70], photo[:30, :30, 0]]
    assert [d.shape for d in codec.decode_batch(codec.encode_batch(mixed))] == [
        (50, 70, 3),
        (30, 30),
    ]
    assert codec.encode_batch([]) == []
    with pytest.raises(InputError, match="image 1"):
        codec.encode_batch([photo[:16, :16], np.zeros((4, 4, 7), np.uint8)])
