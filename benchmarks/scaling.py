"""Seconds and peak memory of `aecodec compress` and `decompress` from 1 to 100 megapixels.

    python benchmarks/scaling.py OUT [--megapixels 1 4 16 64 100] [--quality 75] [--threads N]

Every command is a process of its own: what is timed includes its start and the loading of
the model. Pictures are mosaics of photographs, read and written as PPM, which costs next to
nothing. Writes OUT/scaling.json and OUT/scaling.md.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

# This process imports nothing large: on Linux, the peak of a child begins with its parent's.

COMMAND = """
import json, resource, sys, time
start = time.perf_counter()
from aecodec.cli.main import run
code = run(sys.argv[1:])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
bytes_a_unit = 1 if sys.platform == "darwin" else 1024
print(json.dumps({"seconds": time.perf_counter() - start, "peak": peak * bytes_a_unit}))
sys.exit(code)
"""


def mosaic(side: int, path: Path) -> None:
    """A square picture of photographs, each 1000 pixels wide and high, as PPM."""
    import numpy as np
    from PIL import Image
    from skimage import data
    from sklearn.datasets import load_sample_image

    photos = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket()]
    photos += [load_sample_image("china.jpg"), load_sample_image("flower.jpg")]
    tiles = [np.asarray(Image.fromarray(p).resize((1000, 1000), 3)) for p in photos]
    picture = Image.new("RGB", (side, side))
    for number, (y, x) in enumerate(
        (y, x) for y in range(0, side, 1000) for x in range(0, side, 1000)
    ):
        tile = tiles[number % len(tiles)]
        flip = number // len(tiles) % 4
        picture.paste(Image.fromarray(tile[:: (-1) ** flip, :: (-1) ** (flip // 2)]), (x, y))
    picture.save(path)


def measure(*arguments: object) -> dict[str, float]:
    """Run an aecodec command; gives its seconds and its peak resident memory in bytes."""
    command = [sys.executable, "-c", COMMAND, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout))


def versions() -> dict[str, str]:
    """What the numbers depend on; asked in a process of its own, see above."""
    code = "import json; from aecodec.measure.environment import machine, versions; "
    code += "print(json.dumps(machine() | {'torch': versions()['torch']}))"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout))


def table(rows: list[dict[str, float]]) -> str:
    """The measurements as Markdown."""
    lines = [
        "| megapixels | file, kB | compress, s | s/MP | peak, MB "
        "| decompress, s | s/MP | peak, MB |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        cells = [f"{row['megapixels']:.0f}", f"{row['bytes'] / 1e3:.0f}"]
        for name in ("compress", "decompress"):
            seconds = row[f"{name}_seconds"]
            cells += [f"{seconds:.1f}", f"{seconds / row['megapixels']:.2f}"]
            cells += [f"{row[f'{name}_peak'] / 1e6:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--megapixels", type=float, nargs="+", default=[1, 4, 16, 64, 100])
    parser.add_argument("--quality", type=float, default=75)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    threads = ["--threads", args.threads] if args.threads else []
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        ppm, aec, back = (Path(folder) / name for name in ("a.ppm", "a.aec", "b.ppm"))
        for megapixels in args.megapixels:
            side = round(math.sqrt(megapixels * 1e6))
            subprocess.run([sys.executable, __file__, "--mosaic", str(side), ppm], check=True)
            coded = measure("compress", ppm, aec, "-f", "-q", args.quality, *threads)
            decoded = measure("decompress", aec, back, "-f", *threads)
            row: dict[str, float] = {"megapixels": side * side / 1e6, "bytes": aec.stat().st_size}
            for name, found in (("compress", coded), ("decompress", decoded)):
                row |= {f"{name}_{key}": value for key, value in found.items()}
            rows.append(row)
            print(table([row]).splitlines()[-1], flush=True)
    settings = {"quality": args.quality, "threads": args.threads, **versions()}
    args.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"settings": settings, "rows": rows}, indent=2) + "\n"
    (args.out / "scaling.json").write_text(text)
    notes = ", ".join(f"{key} {value}" for key, value in settings.items())
    (args.out / "scaling.md").write_text(f"# Time and memory by size\n\n{table(rows)}\n{notes}\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--mosaic"]:
        mosaic(int(sys.argv[2]), Path(sys.argv[3]))
    else:
        main()
