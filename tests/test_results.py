"""The committed results: made with these weights, told truly in the README, and in order."""

from __future__ import annotations

import csv
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from aecodec.model.weights import read_info

ROOT = Path(__file__).resolve().parent.parent
KODAK = ROOT / "benchmarks" / "results" / "kodak"


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    return dict(json.loads((KODAK / "results.json").read_text()))


def test_depth_keeps_its_bounds_in_the_smallest_files() -> None:
    data = json.loads((KODAK.parent / "depth" / "depth.json").read_text())
    assert data["model"] == read_info(ROOT / "weights" / "depth.safetensors").id
    for row in data["points"]:
        assert row["max"] <= row.get("bound", 65535)
    for bound in {line["bound"] for line in data["bounded"]}:
        sizes = {x["codec"]: x["bpp"] for x in data["bounded"] if x["bound"] == bound}
        assert min(sizes, key=sizes.__getitem__) == "aecodec"


def curves_by_image() -> dict[str, list[tuple[float, int, float]]]:
    """Quality, bytes and PSNR of every image, by rising quality."""
    found: dict[str, list[tuple[float, int, float]]] = {}
    with (KODAK / "results.csv").open() as file:
        for row in csv.DictReader(file):
            if row["codec"] == "aecodec":
                point = (float(row["setting"]), int(row["bytes"]), float(row["psnr"]))
                found.setdefault(row["image"], []).append(point)
    return {image: sorted(points) for image, points in found.items()}


def test_results_are_those_of_the_weights(results: dict[str, Any]) -> None:
    info = read_info(ROOT / "weights" / "photo.safetensors")
    assert [c["description"] for c in results["codecs"] if c["name"] == "aecodec"] == [
        f"model {info.id}"
    ]


def test_higher_quality_is_larger_and_better_on_every_image() -> None:
    curves = curves_by_image()
    assert len(curves) == 24
    for image, points in curves.items():
        assert len(points) == 8
        for (_, bytes_low, psnr_low), (quality, bytes_high, psnr_high) in pairwise(points):
            assert bytes_low < bytes_high, (image, quality)
            assert psnr_low < psnr_high, (image, quality)


def test_the_scale_reaches_from_small_to_close(results: dict[str, Any]) -> None:
    (curve,) = (c for c in results["curves"] if (c["codec"], c["metric"]) == ("aecodec", "psnr"))
    assert min(curve["bpp"]) <= 0.06
    assert max(curve["quality"]) >= 42
    steps = [high - low for low, high in pairwise(curve["quality"])]
    assert max(steps) < 2 * min(steps)  # equal steps of quality look alike


def test_the_readme_tells_what_was_measured(results: dict[str, Any]) -> None:
    """BD-rates and times of its table, to the digit."""
    told = {}
    for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip().replace("−", "-") for cell in line.strip("|").split("|")]
        if len(cells) == 5 and re.fullmatch(r"aecodec|.*[-+][\d.]+ %", "".join(cells[:2])):
            told[cells[0].removesuffix(" (published)")] = cells[1:]
    codecs = {c["label"]: c["name"] for c in results["codecs"]}
    speeds = results["speed_s_per_megapixel"]
    assert len(told) >= 9
    for label, cells in told.items():
        name = codecs.get(label, label)
        rates = {
            rate["metric"]: f"{rate['percent']:+.1f} %"
            for rate in results["bd_rates"]
            if (rate["codec"], rate["anchor"]) == ("aecodec", name) and rate["percent"] is not None
        }
        rate = ["", ""] if name == "aecodec" else [rates["psnr"], rates.get("ms_ssim_db", "–")]
        times = [f"{speeds[name][way]:.3f}" for way in ("encode", "decode") if name in speeds]
        assert cells == rate + (times or ["", ""]), label


def test_the_readme_tells_what_effort_brought() -> None:
    data = json.loads((KODAK.parent / "kodak-effort" / "results.json").read_text())
    info = read_info(ROOT / "weights" / "photo.safetensors")
    assert data["model"] == info.id
    labels = {c["name"]: c["label"] for c in data["codecs"]}
    measured = {
        labels.get(rate["anchor"], rate["anchor"]): f"{rate['percent']:+.1f}"
        for rate in data["bd_rates"]
        if rate["codec"] == "aecodec" and rate["metric"] == "psnr"
    }
    text = (ROOT / "README.md").read_text()
    part = text[text.index("With `--effort 6`") :].split("\n\n")[0].replace("\n", " ")
    told = {
        name.removesuffix(" (published)"): percent.replace("−", "-")
        for percent, name in re.findall(r"([−+][\d.]+) % against ([^,]+?)[,.] ", part)
    }
    assert len(told) == 5
    assert {name: measured.get(name) for name in told} == told
