"""What each effort costs and brings: seconds per megapixel, and BD-rate against effort 0.

    python benchmarks/effort.py IMAGES --out benchmarks/results/effort
        [--efforts 0 1 2 4 6 9] [--qualities 15 40 65 90] [--crop 256] [--count 8] [--threads 2]

Real files, decoded again. Each image's efforts follow one another, so that they meet the
same machine; with --crop the middle of every image is coded.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from aecodec import Codec
from aecodec.imagefiles import find_images, spread
from aecodec.jsontext import as_json
from aecodec.measure.bdrate import Curve, bd_rate, clean
from aecodec.measure.environment import machine, versions
from aecodec.measure.metrics import psnr
from aecodec.measure.report import table


def middle(image: np.ndarray, side: int | None) -> np.ndarray:
    """The middle of an image, or all of it."""
    if side is None:
        return image
    top, left = (max(length - side, 0) // 2 for length in image.shape[:2])
    return np.ascontiguousarray(image[top : top + side, left : left + side])


def measure(codec: Codec, image: np.ndarray, quality: float, effort: int) -> dict[str, float]:
    """One encoding: seconds, bits per pixel, PSNR."""
    start = time.perf_counter()
    data = codec.encode(image, quality=quality, effort=effort)
    seconds = time.perf_counter() - start
    back = codec.decode(data)
    pixels = image.shape[0] * image.shape[1]
    return {
        "effort": effort,
        "quality": quality,
        "pixels": pixels,
        "seconds": seconds,
        "bpp": 8 * len(data) / pixels,
        "psnr": psnr(image, back),
    }


def summary(rows: list[dict[str, float]], efforts: list[int]) -> list[dict[str, float | None]]:
    """A line for each effort: medians of time, BD-rate of the mean curve."""

    def curve(effort: int) -> Curve:
        qualities = sorted({row["quality"] for row in rows})
        points = [
            [r for r in rows if (r["effort"], r["quality"]) == (effort, q)] for q in qualities
        ]
        bpp = tuple(statistics.mean(r["bpp"] for r in point) for point in points)
        return Curve(
            str(effort),
            "psnr",
            bpp,
            tuple(statistics.mean(r["psnr"] for r in point) for point in points),
        )

    curves = {effort: clean(curve(effort))[0] for effort in efforts}
    lines = []
    for effort in efforts:
        times = [r["seconds"] / r["pixels"] * 1e6 for r in rows if r["effort"] == effort]
        percent = bd_rate(curves[effort], curves[efforts[0]]).percent
        seconds = statistics.median(times)
        lines.append({"effort": effort, "seconds_per_megapixel": seconds, "bd_rate": percent})
    return lines


def markdown(lines: list[dict[str, float | None]]) -> str:
    """The summary as a table."""
    rows = []
    for line in lines:
        percent = line["bd_rate"]
        bd = "–" if percent is None else f"{percent:+.1f} %".replace("-", "−")
        rows.append((f"{line['effort']}", f"{line['seconds_per_megapixel']:.2f}", bd))
    return "\n".join(table(("effort", "s/MP", "BD-rate against effort 0"), rows)) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--efforts", type=int, nargs="+", default=[0, 1, 2, 4, 6, 9])
    parser.add_argument("--qualities", type=float, nargs="+", default=[15, 40, 65, 90])
    parser.add_argument("--crop", type=int)
    parser.add_argument("--count", type=int, help="code only so many images, evenly chosen")
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    paths = spread(find_images(args.images, below=False), args.count)
    codec = Codec(threads=args.threads)
    rows: list[dict[str, float]] = []
    jobs = [(path, quality) for path in paths for quality in args.qualities]
    for path, quality in tqdm(jobs, unit="point"):
        image = middle(np.asarray(Image.open(path).convert("RGB")), args.crop)
        for effort in args.efforts:
            rows.append({"image": path.name, **measure(codec, image, quality, effort)})
    lines = summary(rows, args.efforts)
    args.out.mkdir(parents=True, exist_ok=True)
    result = {
        "model": codec.model_id,
        "images": len(paths),
        "crop": args.crop,
        "qualities": args.qualities,
        "threads": args.threads,
        "machine": machine(),
        "versions": versions(),
        "summary": lines,
        "points": rows,
    }
    (args.out / "effort.json").write_text(as_json(result), encoding="utf-8")
    text = markdown(lines)
    (args.out / "effort.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
