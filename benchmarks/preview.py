"""How much faster a preview is than the picture, warm and side by side, and how close.

    python benchmarks/preview.py OUT [--megapixels 4] [--quality 75] [--repeats 5] [--threads N]

Decodes the same mosaic of photographs in turns: in full, its preview made from the latents,
and its preview stored in the file. Writes OUT/preview.json and OUT/preview.md.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scaling import mosaic

from aecodec import Codec
from aecodec.measure.environment import machine
from aecodec.measure.metrics import psnr
from aecodec.measure.report import table


def picture(megapixels: float) -> np.ndarray:
    """A square mosaic of photographs, (side, side, 3) uint8."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mosaic.ppm"
        mosaic(round(math.sqrt(megapixels * 1e6)), path)
        return np.asarray(Image.open(path))


def measure(codec: Codec, image: np.ndarray, quality: float, repeats: int) -> list[dict[str, Any]]:
    """A row for each way to decode: median seconds, speed beside the whole picture, PSNR, bytes."""
    plain = codec.encode(image, quality=quality)
    with_preview = codec.encode(image, quality=quality, preview=True)
    ways = {
        "full": lambda: codec.decode(plain),
        "from latents": lambda: codec.decode(plain, preview=True),
        "stored": lambda: codec.decode(with_preview, preview=True),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    pictures = {}
    for _ in range(repeats):
        for name, decode in ways.items():
            start = time.perf_counter()
            pictures[name] = decode()
            seconds[name].append(time.perf_counter() - start)
    exact = np.asarray(Image.fromarray(pictures["full"]).reduce(8))
    full = statistics.median(seconds["full"])
    rows = []
    for name in ways:
        median = statistics.median(seconds[name])
        close = None if name == "full" else psnr(exact, pictures[name])
        size = len(with_preview if name == "stored" else plain)
        rows.append(
            {"way": name, "seconds": median, "times": full / median, "psnr": close, "bytes": size}
        )
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    """The rows as a table."""
    lines = [
        (
            row["way"],
            f"{row['seconds']:.3f}",
            f"{row['times']:.1f}",
            "" if row["psnr"] is None else f"{row['psnr']:.1f}",
            str(row["bytes"]),
        )
        for row in rows
    ]
    head = ("decode", "s", "times as fast", "dB to the picture at one eighth", "bytes")
    return "\n".join(table(head, lines))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--megapixels", type=float, default=4)
    parser.add_argument("--quality", type=float, default=75)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int)
    return parser.parse_args()


def main() -> None:
    """Measure and write the report."""
    args = arguments()
    image = picture(args.megapixels)
    rows = measure(Codec(threads=args.threads), image, args.quality, args.repeats)
    settings = {k: v for k, v in vars(args).items() if k != "out"} | machine()
    text = markdown(rows)
    print(text)
    args.out.mkdir(parents=True, exist_ok=True)
    result = {"settings": settings, "rows": rows}
    (args.out / "preview.json").write_text(json.dumps(result, indent=2) + "\n")
    notes = ", ".join(f"{key} {value}" for key, value in settings.items())
    (args.out / "preview.md").write_text(f"# Speed of previews\n\n{text}\n\n{notes}\n")


if __name__ == "__main__":
    main()
