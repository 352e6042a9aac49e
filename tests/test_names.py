"""Names of files are bytes, and not always text."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from PIL import Image
from train_files import BOTTLENECK, HYPERPRIOR

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")

NAMES = (b"\xff 1.png", b"a\xe9b.png", rb"$\frac{$.png", "ä\u2028b.png".encode())


@pytest.fixture
def folder(photo: np.ndarray, tmp_path: Path) -> Path:
    images = tmp_path / os.fsdecode(b"im\xffages")
    images.mkdir()
    for i, name in enumerate(NAMES):
        Image.fromarray(photo[i * 20 : i * 20 + 176, :200]).save(images / os.fsdecode(name))
    return images


@pytest.fixture
def does(run: Run) -> Callable[..., None]:
    """Run a command, which is to succeed."""

    def succeeding(*args: object) -> None:
        done = run(*args)
        assert done.returncode == 0, done.stderr

    return succeeding


def in_json(path: Path) -> set[bytes]:
    rows = json.loads(path.read_text(encoding="utf-8"))["results"]
    return {os.fsencode(row["image"]) for row in rows}


def test_reports_of_any_names(folder: Path, tmp_path: Path, does: Callable[..., None]) -> None:
    out = tmp_path / "out"
    does("evaluate", "photo", folder, "--quality", 30, "--out", out / "evaluation")
    assert in_json(out / "evaluation" / "evaluation.json") == set(NAMES)
    does("bench", folder, "--codecs", "aecodec,jpeg", "--qualities", 2, "--out", out / "bench")
    assert in_json(out / "bench" / "results.json") == set(NAMES)
    assert all(name in (out / "bench" / "results.csv").read_bytes() for name in NAMES)
    for ending in ("npz", "npy"):
        does("explore", "latents", "photo", folder, "--out", out / f"latents.{ending}")
        does("explore", "project", out / f"latents.{ending}", "--out", out / f"{ending}.png")
    page = out / "page.html"
    does("compare", *sorted(folder.iterdir()), "--codecs", "jpeg", "-o", page)
    assert page.stat().st_size > 10_000


def test_training_on_any_names(folder: Path, tmp_path: Path, does: Callable[..., None]) -> None:
    config = tmp_path / "config.toml"
    config.write_text(HYPERPRIOR.format(steps=2))
    does("train", config, "--data", folder, "--out", tmp_path / "photos")
    config.write_text(BOTTLENECK.format(steps=2).replace("test = 0.2", "test = 0.38"))
    out = tmp_path / "vectors"
    does("train", config, "--data", folder, "--out", out)
    left_out = out / "test_files.txt"
    assert left_out.read_bytes() == NAMES[2] + b"\n" + NAMES[0] + b"\n"
    does("evaluate", out, folder, "--test-files", left_out, "--out", tmp_path / "evaluation")
    assert in_json(tmp_path / "evaluation" / "evaluation.json") == {NAMES[2], NAMES[0]}
