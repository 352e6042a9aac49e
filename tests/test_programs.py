"""What programs hand to the library, and how they run it."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Run, psnr
from PIL import Image

import aecodec
from aecodec.batch import compress_many
from aecodec.container import Metadata, parse
from aecodec.errors import InputError
from aecodec.metadata import ICC
from aecodec.pixels import read_image_file


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.float16])
def test_bounds_of_small_numpy_numbers(kind: type) -> None:
    """They are numbers like others, though twice 100 is beyond some of them."""
    y, x = np.mgrid[:70, :90]
    depth = ((x * 37 + y * 91) % 4000 + 1).astype(np.uint16)
    data = aecodec.encode(depth, model="depth", max_error=kind(100))
    assert data == aecodec.encode(depth, model="depth", max_error=100)
    assert np.abs(aecodec.decode(data).astype(int) - depth).max() <= 100


def test_targets_of_small_numpy_numbers(photo: np.ndarray) -> None:
    data = aecodec.encode(photo, target_bpp=np.float16(0.25))
    assert len(data) * 8 <= 0.25 * photo.shape[0] * photo.shape[1]


def test_levels_win_where_they_are_predicted_exactly() -> None:
    """A plane costs nothing without loss, and a looser bound must not cost more."""
    y, x = np.mgrid[:120, :160]
    plane = (1000 + x * 3 + y * 2).astype(np.uint16)
    sizes = [len(aecodec.encode(plane, model="depth", max_error=e)) for e in (0, 2, 5)]
    assert max(sizes) == sizes[0]


@pytest.mark.parametrize("again", [False, True])
def test_a_preview_of_another_picture_is_left_out(photo: np.ndarray, again: bool) -> None:
    before = parse(aecodec.encode(photo, 30, preview=True)).metadata
    data = aecodec.encode(255 - photo, 30, metadata=before, preview=again)
    assert len(parse(data).metadata) == again
    shown = aecodec.decode(data, preview=True)
    assert abs(shown.mean() - (255 - photo).mean()) < 4


def test_no_number_of_threads_is_too_large(photo_file: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "x.aec"
    run("compress", photo_file, out, "--threads", 100_000)
    assert psnr(np.asarray(Image.open(photo_file)), aecodec.decode(out.read_bytes())) > 30


def test_codecs_are_pickled_and_copied(photo: np.ndarray) -> None:
    codec = aecodec.Codec(threads=1)
    data = codec.encode(photo, quality=30)
    for other in (pickle.loads(pickle.dumps(codec)), copy.deepcopy(codec)):
        assert other.threads == 1
        assert other.encode(photo, quality=30) == data


FORKED = """
import multiprocessing, numpy, aecodec
image = numpy.zeros((300, 300, 3), numpy.uint8)
codec = aecodec.Codec(threads=2)
data = codec.encode(image)
codec.decode(data)
child = multiprocessing.get_context("fork").Process(target=lambda: codec.decode(data))
child.start()
child.join(60)
print(child.exitcode)
child.kill()
"""


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="no forks on this system"
)
def test_forked_processes_decode() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True)
    assert done.stdout == "0\n", done.stderr


def test_pixels_of_16_bits_have_8_a_sample(tmp_path: Path) -> None:
    width, height = 8, 4
    path = tmp_path / "565.bmp"
    pixels = (np.arange(width * height) * 2000).astype("<u2").tobytes()
    masks = struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 16, 3, len(pixels), 0, 0, 0, 0)
    start = struct.pack("<HI4xI", 0x4D42, 66 + len(pixels), 66)
    path.write_bytes(start + info + masks + pixels)
    assert read_image_file(path).pixels.dtype == np.uint8


def test_aec_files_are_not_coded_again(photo: np.ndarray, tmp_path: Path) -> None:
    aecodec.register_pillow()
    path = tmp_path / "x.aec"
    path.write_bytes(aecodec.encode(photo, 30))
    with pytest.raises(InputError, match=r"is an \.aec file already"):
        aecodec.compress(path, tmp_path / "y.aec")


def test_patterns_do_not_lead_out(
    photo_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub" / "a").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="leads out"):
        list(compress_many(f"sub/*/../../{photo_file.name}", "out"))
    assert not photo_file.with_suffix(".aec").exists()


def test_a_gray_profile_is_not_put_into_a_colour_tiff(tmp_path: Path) -> None:
    gray = np.random.default_rng(1).integers(0, 65536, (32, 32, 2)).astype(np.uint16)
    profile = bytearray(128)
    profile[16:20] = b"GRAY"
    data = aecodec.encode(gray, 50, metadata=(Metadata(ICC, bytes(profile)),))
    (tmp_path / "x.aec").write_bytes(data)
    aecodec.decompress(tmp_path / "x.aec", tmp_path / "x.tif")
    with Image.open(tmp_path / "x.tif") as image:
        assert "icc_profile" not in image.info
