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

import numpy as np
from PIL import Image
from scaling import mosaic

from aecodec import Codec
from aecodec.measure.environment import machine
from aecodec.measure.metrics import psnr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--megapixels", type=float, default=4)
    parser.add_argument("--quality", type=float, default=75)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mosaic.ppm"
        mosaic(round(math.sqrt(args.megapixels * 1e6)), path)
        image = np.asarray(Image.open(path))
    codec = Codec(threads=args.threads)
    plain = codec.encode(image, quality=args.quality)
    with_preview = codec.encode(image, quality=args.quality, preview=True)
    ways = {
        "full": lambda: codec.decode(plain),
        "from latents": lambda: codec.decode(plain, preview=True),
        "stored": lambda: codec.decode(with_preview, preview=True),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    pictures = {}
    for _ in range(args.repeats):
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
    lines = ["| decode | s | times as fast | dB to the picture at one eighth | bytes |"]
    lines.append("|---|---:|---:|---:|---:|")
    for row in rows:
        decibels = "" if row["psnr"] is None else f"{row['psnr']:.1f}"
        numbers = f"{row['seconds']:.3f} | {row['times']:.1f} | {decibels} | {row['bytes']}"
        lines.append(f"| {row['way']} | {numbers} |")
    settings = {k: v for k, v in vars(args).items() if k != "out"} | machine()
    text = "\n".join(lines)
    print(text)
    args.out.mkdir(parents=True, exist_ok=True)
    result = {"settings": settings, "rows": rows}
    (args.out / "preview.json").write_text(json.dumps(result, indent=2) + "\n")
    notes = ", ".join(f"{key} {value}" for key, value in settings.items())
    (args.out / "preview.md").write_text(f"# Speed of previews\n\n{text}\n\n{notes}\n")


if __name__ == "__main__":
    main()
