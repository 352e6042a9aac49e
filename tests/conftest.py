"""Pictures, and the command line as a real process."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell starts what ends in &
    signal.signal(signal.SIGINT, signal.default_int_handler)  # children get Ctrl-C again

settings.register_profile("default", deadline=None, max_examples=40)
settings.load_profile("default")

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = ROOT / "weights" / "photo.safetensors"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """A real photograph, (256, 384, 3) uint8: flowers, out of focus behind."""
    from sklearn.datasets import load_sample_image

    return np.ascontiguousarray(load_sample_image("flower.jpg")[80:336, 120:504])


@pytest.fixture(scope="session")
def cat() -> np.ndarray:
    """A real photograph with odd sides, (181, 243, 3) uint8."""
    from skimage import data

    return np.ascontiguousarray(data.chelsea()[40:221, 60:303])


@pytest.fixture
def photo_file(tmp_path: Path, photo: np.ndarray) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(photo).save(path)
    return path


@pytest.fixture(scope="session")
def run() -> Run:
    """Run `python -m aecodec` with arguments, as a process of its own."""

    def run(*args: object, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "aecodec", *map(str, args)],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(ROOT), **env},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.fixture(scope="session")
def coded(tmp_path_factory: pytest.TempPathFactory, photo: np.ndarray, run: Run) -> Path:
    """A folder with photo.png and the photo.aec made of it. Not to be changed."""
    folder = tmp_path_factory.mktemp("coded")
    Image.fromarray(photo).save(folder / "photo.png")
    done = run("compress", folder / "photo.png")
    assert done.returncode == 0, done.stderr
    return folder


def only(folder: Path) -> set[str]:
    """The names of what lies in a folder."""
    return {path.name for path in folder.iterdir()}


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal to noise ratio of two uint8 arrays, in dB."""
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-10)))


@contextmanager
def chunks_of(log2: int) -> Iterator[None]:
    """Encode with another chunk side, 2**log2 pixels."""
    from aecodec.container import Header

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aecodec.codec.Header", lambda **kw: Header(**kw, chunk_log2=log2))
        yield


def cmyk_profile(cyan: tuple[float, float, float]) -> bytes:
    """An ICC profile for CMYK that says which Lab colour full cyan is; the rest is gray.

    Version 2, class "prtr", one `A2B0` of type `mft1`: 4 inputs, 2 grid points, 3 outputs.
    """

    def lab8(lightness: float, a: float, b: float) -> bytes:
        return bytes((round(lightness * 2.55), round(a) + 128, round(b) + 128))

    identity = bytes(range(256))
    matrix = struct.pack(">9I", *(0x10000 if i % 4 == 0 else 0 for i in range(9)))
    grid = b""
    for index in range(16):  # C varies slowest, K fastest
        inks = bin(index).count("1")
        grid += lab8(*cyan) if index == 8 else lab8(100 - 25 * inks, 0, 0)
    tables = 4 * identity + grid + 3 * identity
    a2b0 = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + matrix + tables
    text = b"made for a test\0"
    desc = b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78)
    white = b"XYZ " + bytes(4) + struct.pack(">3I", 0xF6D6, 0x10000, 0xD32D)
    tags, body, offset = b"", b"", 132 + 12 * 4
    for name, data in (
        (b"A2B0", a2b0),
        (b"desc", desc),
        (b"wtpt", white),
        (b"cprt", b"text" + bytes(4) + b"none\0"),
    ):
        data += bytes(-len(data) % 4)
        tags += name + struct.pack(">II", offset + len(body), len(data))
        body += data
    size = offset + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"test", 0x02400000, b"prtr", b"CMYK", b"Lab ")
    head += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += struct.pack(">3I", 0xF6D6, 0x10000, 0xD32D)
    return head.ljust(128, b"\0") + struct.pack(">I", 4) + tags + body
