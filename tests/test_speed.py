"""What the programs in `benchmarks` write belongs together. No times are judged."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

from conftest import ROOT
from depth_scenes import scene
from PIL import Image


def outcome(name: str, out: Path, *arguments: object) -> tuple[Any, str, str]:
    """Run a program of `benchmarks`; gives its JSON, its Markdown and what it printed."""
    command = [sys.executable, ROOT / "benchmarks" / f"{name}.py", *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    data = json.loads((out / f"{name}.json").read_text(encoding="utf-8"))
    return data, (out / f"{name}.md").read_text(encoding="utf-8"), done.stdout


def test_a_quick_run(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    data, text, printed = outcome("speed", out, out, "--quick")
    assert printed == text + "\n"

    own, *peers = data["warm"]
    assert (own["codec"], own["precision"], own["threads"]) == ("aecodec", "float32", 1)
    assert {"jpeg", "webp", "avif-s6"} <= {peer["codec"] for peer in peers}
    for peer in peers:
        assert 0.8 * own["bytes"] < peer["bytes"] <= own["bytes"]
    for one in data["warm"]:
        assert one["megapixels"] == 256 * 192 / 1e6
        assert one["encode_mp_per_s"] == one["megapixels"] / one["encode_s"][0]
        speed = f"{one['encode_mp_per_s']:.2f}"
        assert one["encode_fastest_mp_per_s"] == one["encode_mp_per_s"]  # of a single time
        assert f"| {one['bytes']} | {speed} ({speed}) |" in text
    assert {"aecodec compress", "aecodec decompress"} < set(data["cold_s"])
    assert all(f"| {name} | {one[0]:.2f} |" in text for name, one in data["cold_s"].items())
    assert data["machine"]["cores"] >= 1 and data["versions"]["torch"]


def test_previews_of_a_small_picture(tmp_path: Path) -> None:
    small = ("--megapixels", 0.05, "--repeats", 1, "--threads", 1)
    data, text, printed = outcome("preview", tmp_path, tmp_path, *small)
    assert printed in text
    full, made, stored = data["rows"]
    assert full["psnr"] is None and made["psnr"] > 30 and stored["psnr"] > 20
    assert full["bytes"] == made["bytes"] < stored["bytes"]
    assert f"| full | {full['seconds']:.3f} | 1.0 |  | {full['bytes']} |" in text
    assert data["settings"]["repeats"] == 1 and "threads 1, cpu " in text


def test_time_and_memory_of_a_small_picture(tmp_path: Path) -> None:
    data, text, printed = outcome("scaling", tmp_path, tmp_path, "--megapixels", 0.05)
    assert printed in text
    (row,) = data["rows"]
    assert row["megapixels"] == 224**2 / 1e6
    assert 0 < row["bytes"] < 224**2 and min(row["compress_peak"], row["decompress_peak"]) > 1e8
    assert f"| {row['compress_seconds']:.1f} |" in text


def test_depth_maps_beside_other_codecs(tmp_path: Path) -> None:
    depths = tmp_path / "depths"
    depths.mkdir()
    for seed in range(2):
        Image.fromarray(scene(48, 64, seed)).save(depths / f"{seed}.png")
    few = ("--bounds", 0, 5, "--qualities", 20, 80, "--threads", 1)
    data, text, printed = outcome("depth", tmp_path, depths, "--out", tmp_path, *few)
    assert printed == text + "\n"
    assert data["images"] == 2 and (tmp_path / "depth.png").stat().st_size > 10000
    sizes = {}
    for line in data["bounded"]:
        assert line["max"] <= line["bound"]
        sizes.setdefault(line["codec"], []).append(line["bpp"])
    assert len(sizes) == 5
    for codec, (exact, near) in sizes.items():
        assert near <= exact
        assert f"| {codec} | {exact:.3f} | {near:.3f} |" in text


def test_an_effort_without_a_bd_rate_has_a_line() -> None:
    effort = runpy.run_path(str(ROOT / "benchmarks" / "effort.py"))
    row = {"effort": 0, "quality": 15, "seconds": 2.0, "pixels": 1000000, "bpp": 0.2, "psnr": 30.0}
    rows = [row, row | {"quality": 40, "bpp": 0.5, "psnr": float("inf")}]
    (line,) = effort["summary"](rows, [0])
    assert line["bd_rate"] is None
    assert "| 0 | 2.00 | – |" in effort["markdown"]([line])
