"""See it work: one photograph at three qualities, beside JPEG and WebP of the same size.

Writes `demo/`: the files themselves and `comparison.png`, an enlarged crop of each.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import aecodec
from aecodec.measure.metrics import psnr

QUALITIES = (10, 30, 60)
CROP = (96, 56, 256, 176)  # left, top, right, bottom: the cat's eye
ZOOM = 2
GAP, LABEL = 8, 40


@dataclass
class Result:
    """One coded picture: what by, its bytes, and its pixels decoded again."""

    codec: str
    quality: float
    size: int
    image: np.ndarray
    psnr: float


def photograph() -> np.ndarray:
    """A photograph of a cat, (300, 451, 3) uint8, that comes with scikit-image (CC0)."""
    from skimage import data

    return np.asarray(data.chelsea())


def with_pillow(kind: str, **options: object) -> Callable[[np.ndarray, int], bytes]:
    """A peer: pixels and a quality to bytes."""

    def encode(image: np.ndarray, quality: int) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, kind, quality=quality, **options)
        return buffer.getvalue()

    return encode


PEERS = {
    "JPEG": with_pillow("JPEG", optimize=True, progressive=True),
    "WebP": with_pillow("WEBP", method=6),
}


def same_size(encode: Callable[[np.ndarray, int], bytes], image: np.ndarray, size: int) -> int:
    """The lowest quality of a peer that takes at least that many bytes, by bisection."""
    low, high = 1, 100
    while low < high:
        middle = (low + high) // 2
        if len(encode(image, middle)) >= size:
            high = middle
        else:
            low = middle + 1
    return low


def measure(image: np.ndarray, folder: Path) -> list[list[Result]]:
    """A row of results for each quality: ours through real files, then the peers'."""
    original = folder / "original.png"
    Image.fromarray(image).save(original)
    rows = []
    for quality in QUALITIES:
        coded, decoded = folder / f"quality-{quality}.aec", folder / f"quality-{quality}.png"
        size = aecodec.compress(original, coded, quality=quality, overwrite=True).bytes
        aecodec.decompress(coded, decoded, overwrite=True)
        back = np.asarray(Image.open(decoded))
        row = [Result("aecodec", quality, size, back, psnr(back, image))]
        for name, encode in PEERS.items():
            best = same_size(encode, image, size)
            data = encode(image, best)
            back = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
            row.append(Result(name, best, len(data), back, psnr(back, image)))
        rows.append(row)
    return rows


def table(rows: list[list[Result]], pixels: int) -> str:
    """The numbers as text, a block for each quality."""
    lines = [f"{'codec':<8} {'quality':>7} {'bytes':>7} {'bpp':>6} {'PSNR/dB':>8}"]
    for row in rows:
        lines.append("")
        for one in row:
            lines.append(
                f"{one.codec:<8} {one.quality:>7g} {one.size:>7} {8 * one.size / pixels:>6.3f} "
                f"{one.psnr:>8.2f}"
            )
    return "\n".join(lines)


def comparison(image: np.ndarray, rows: list[list[Result]]) -> Image.Image:
    """Original and results side by side, enlarged; one row for each quality."""
    width, height = ZOOM * (CROP[2] - CROP[0]), ZOOM * (CROP[3] - CROP[1])
    columns = 1 + len(rows[0])
    sheet = Image.new(
        "RGB", (columns * (width + GAP) + GAP, len(rows) * (height + LABEL + GAP) + GAP), "white"
    )
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(15)
    raw = image.size
    for y, row in enumerate(rows):
        cells = [("original", f"{raw} bytes", image)] + [
            (
                f"{one.codec}, quality {one.quality:g}",
                f"{one.size} bytes, {one.psnr:.2f} dB",
                one.image,
            )
            for one in row
        ]
        top = GAP + y * (height + LABEL + GAP)
        for x, (title, numbers, pixels) in enumerate(cells):
            left = GAP + x * (width + GAP)
            draw.text((left, top), title, "black", font)
            draw.text((left, top + 18), numbers, "dimgray", font)
            crop = Image.fromarray(pixels).crop(CROP)
            sheet.paste(crop.resize((width, height), Image.Resampling.BICUBIC), (left, top + LABEL))
    return sheet


def main() -> None:
    """Measure, print the table, write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder to write to")
    folder: Path = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    image = photograph()
    start = time.perf_counter()
    rows = measure(image, folder)
    comparison(image, rows).save(folder / "comparison.png")
    print(f"A photograph of {image.shape[1]} x {image.shape[0]} pixels; peers at the same size")
    print("or just above.\n")
    print(table(rows, image.shape[0] * image.shape[1]))
    print(f"\n{time.perf_counter() - start:.1f} s. See {folder / 'comparison.png'}")


if __name__ == "__main__":
    main()
