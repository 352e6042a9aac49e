"""What the programs in `benchmarks` write belongs together. No times are judged."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

from conftest import ROOT


def test_a_quick_run(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "speed.py"), str(tmp_path / "new" / "out")]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*command, "--quick"], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    data = json.loads((tmp_path / "new" / "out" / "speed.json").read_text(encoding="utf-8"))
    text = (tmp_path / "new" / "out" / "speed.md").read_text(encoding="utf-8")
    assert done.stdout == text + "\n"

    own, *peers = data["warm"]
    assert (own["codec"], own["precision"], own["threads"]) == ("aecodec", "float32", 1)
    assert {"jpeg", "webp", "avif-s6"} <= {peer["codec"] for peer in peers}
    for peer in peers:
        assert 0.8 * own["bytes"] < peer["bytes"] <= own["bytes"]
    for one in data["warm"]:
        assert one["megapixels"] == 256 * 192 / 1e6
        assert one["encode_mp_per_s"] == one["megapixels"] / one["encode_s"][0]
        assert f"| {one['bytes']} | {one['encode_mp_per_s']:.2f} |" in text
    assert {"aecodec compress", "aecodec decompress"} < set(data["cold_s"])
    assert all(f"| {name} | {one[0]:.2f} |" in text for name, one in data["cold_s"].items())
    assert data["machine"]["cores"] >= 1 and data["versions"]["torch"]


def test_an_effort_without_a_bd_rate_has_a_line() -> None:
    effort = runpy.run_path(str(ROOT / "benchmarks" / "effort.py"))
    row = {"effort": 0, "quality": 15, "seconds": 2.0, "pixels": 1000000, "bpp": 0.2, "psnr": 30.0}
    rows = [row, row | {"quality": 40, "bpp": 0.5, "psnr": float("inf")}]
    (line,) = effort["summary"](rows, [0])
    assert line["bd_rate"] is None
    assert "| 0 | 2.00 | – |" in effort["markdown"]([line])
