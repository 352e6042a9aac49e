"""Fills in what the manual takes from the repository: measured numbers, help texts."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from aecodec.cli.explore import COMMANDS as EXPLORE
from aecodec.cli.main import COMMANDS, cli

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace markers; MkDocs calls this for every page."""
    fillings = {
        "kodak-table": kodak_table,
        "effort-table": partial(effort_table, "effort"),
        "effort-whole-table": partial(effort_table, "effort-whole"),
        "depth-table": depth_table,
        "commands": commands,
    }
    for name, text in fillings.items():
        if f"<!-- {name} -->" in markdown:
            markdown = markdown.replace(f"<!-- {name} -->", text())
    return markdown


def kodak_table() -> str:
    """Rate and distortion of aecodec at every measured quality."""
    data = json.loads((RESULTS / "kodak" / "results.json").read_text(encoding="utf-8"))
    (settings,) = (codec["settings"] for codec in data["codecs"] if codec["name"] == "aecodec")
    curves = {c["metric"]: c for c in data["curves"] if c["codec"] == "aecodec"}
    psnr, ssim = curves["psnr"], curves["ms_ssim_db"]
    lines = [
        f"Mean of the {len(data['images'])} Kodak images, model `{data['model']}`.",
        "",
        "| quality | bpp | PSNR, dB | MS-SSIM, dB |",
        "| ---: | ---: | ---: | ---: |",
    ]
    rows = zip(settings, psnr["bpp"], psnr["quality"], ssim["quality"], strict=True)
    lines += [f"| {q:g} | {bpp:.3f} | {db:.2f} | {similar:.2f} |" for q, bpp, db, similar in rows]
    return "\n".join(lines)


def effort_table(result: str) -> str:
    """What every measured effort costs and brings, once that has been measured."""
    table = RESULTS / result / "effort.md"
    return table.read_text(encoding="utf-8") if table.exists() else ""


def depth_table() -> str:
    """Depth maps beside other codecs."""
    return (RESULTS / "depth" / "depth.md").read_text(encoding="utf-8")


def commands() -> str:
    """The help of every command, as a terminal shows it."""
    parts = []
    for name in ("", *COMMANDS, *(f"explore {name}" for name in EXPLORE)):
        arguments = [*name.split(), "--help"]
        done = CliRunner().invoke(cli, arguments, prog_name="aecodec", terminal_width=80)
        parts.append(f"## aecodec {name}\n\n```text\n{done.output}```\n")
    return "\n".join(parts)
