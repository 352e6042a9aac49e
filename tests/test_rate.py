"""The quality scale and the search for a target size, rate or PSNR."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Run, psnr
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import aecodec
from aecodec.errors import InputError
from aecodec.rate import (
    mixed_row,
    prior_row,
    psnr_index,
    quality_from_index,
    quality_index,
    size_index,
)


@given(st.floats(1, 100))
def test_qualities_survive_the_file(quality: float) -> None:
    assert abs(quality_from_index(quality_index(quality)) - quality) < 0.07
    assert 0 <= prior_row(quality_index(quality)) <= 7


def test_the_scale_has_its_ends() -> None:
    assert (quality_index(1), quality_index(100)) == (0, 3584)


@given(st.floats(0.2, 3), st.integers(2000, 10**7), st.floats(0.01, 0.99))
def test_size_search_on_any_curve(power: float, largest: int, where: float) -> None:
    def size_at(index: int) -> int:
        return int(500 + (largest - 500) * (index / 3584) ** power)

    target = int(size_at(0) + where * (largest - size_at(0)))
    found = size_index(size_at, target)
    assert size_at(found) <= target
    assert size_at(found) >= 0.99 * target or size_at(found + 1) > target


@given(st.floats(0.3, 3), st.floats(0.01, 0.99))
def test_psnr_search_on_any_curve(power: float, where: float) -> None:
    def psnr_at(index: int) -> float:
        return 22 + 20 * (index / 3584) ** power

    target = 22 + 20 * where
    found = psnr_index(psnr_at, target)
    assert psnr_at(found) >= target
    assert psnr_at(found) <= target + 0.05 or psnr_at(found - 1) < target


def test_searches_are_short() -> None:
    calls = []

    def size_at(index: int) -> int:
        calls.append(index)
        return int(math.exp(8 + index / 900))

    size_index(size_at, 50_000)
    assert len(calls) <= 8


@pytest.mark.parametrize("share", [0.3, 0.7, 1.5])
def test_target_size(photo: np.ndarray, share: float) -> None:
    target = int(share * len(aecodec.encode(photo, 50)))
    size = len(aecodec.encode(photo, target_size=target))
    assert 0.99 * target <= size <= target


def test_target_bpp(photo: np.ndarray) -> None:
    size = len(aecodec.encode(photo, target_bpp=0.6))
    bpp = 8 * size / (photo.shape[0] * photo.shape[1])
    assert 0.594 <= bpp <= 0.6


@pytest.mark.parametrize("target", [30.0, 34.0])
def test_target_psnr(photo: np.ndarray, target: float) -> None:
    decoded = aecodec.decode(aecodec.encode(photo, target_psnr=target))
    assert target - 0.001 <= psnr(photo, decoded) <= target + 0.05


def test_targets_for_gray(photo: np.ndarray) -> None:
    gray = np.asarray(Image.fromarray(photo).convert("L"))
    decoded = aecodec.decode(aecodec.encode(gray, target_psnr=35))
    assert 34.999 <= psnr(gray, decoded) <= 35.05


def test_targets_out_of_reach_name_the_range(photo: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"takes \d+ to \d+ bytes"):
        aecodec.encode(photo, target_size=50)
    with pytest.raises(InputError, match=r"takes \d+ to \d+ bytes"):
        aecodec.encode(photo, target_bpp=20)
    with pytest.raises(InputError, match=r"decodes to \d+\.\d+ to \d+\.\d+ dB"):
        aecodec.encode(photo, target_psnr=70)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["target_size", "target_bpp", "target_psnr", "max_error"])
def test_aims_that_are_no_numbers(photo: np.ndarray, name: str, value: float) -> None:
    with pytest.raises(InputError, match=name):
        aecodec.encode(photo, **{name: value})


def test_one_aim_at_a_time(photo: np.ndarray) -> None:
    with pytest.raises(InputError, match="one of"):
        aecodec.encode(photo, 50, target_psnr=35)
    with pytest.raises(InputError, match="one of"):
        aecodec.encode(photo, target_size=5000, target_psnr=35)


def test_on_the_command_line(photo_file: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "out.aec"
    done = run("compress", photo_file, out, "--target-size", "9kB")
    assert done.returncode == 0, done.stderr
    assert 8910 <= out.stat().st_size <= 9000
    done = run("compress", photo_file, out, "-f", "--target-size", "9 boxes")
    assert done.returncode == 2
    done = run("compress", photo_file, out, "-f", "--target-psnr", "90")
    assert done.returncode == 3
    assert "out of reach" in done.stderr
    assert 8910 <= out.stat().st_size <= 9000


def test_rows_are_mixed_in_integers() -> None:
    """Golden: what is decoded depends on it, of negative numbers too, in arrays and tensors."""
    table = np.array([[-7, 3 * row * row - 40, -(2**30) // (row + 1)] for row in range(8)])
    golden = {
        0: [-7, -40, -1073741824],
        255: [-7, -39, -806354944],
        256: [-7, -38, -805306368],
        257: [-7, -38, -804257792],
        3071: [-7, 68, -153441622],
        3584: [-7, 107, -134217728],
    }
    for quality, row in golden.items():
        assert mixed_row(table, quality).tolist() == row
        assert mixed_row(torch.from_numpy(table), quality).tolist() == row
