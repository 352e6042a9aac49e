"""Pictures, and the command line as a real process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

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
