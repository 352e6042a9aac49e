"""Depth maps beside PNG, JPEG XL, JPEG-LS and JPEG 2000: size at a largest error, error at a size.

    python benchmarks/depth.py DEPTH --out benchmarks/results/depth
        [--model depth] [--bounds 0 1 2 5 10 20] [--qualities 1 20 40 60 80 100] [--threads 2]

DEPTH is a folder of 16-bit gray images in millimetres, 0 for no reading. Every file is decoded
again and checked: a hole must come back as 0 and a reading not as 0, and no reading may be off
by more than the bound. JPEG XL is lossless, of depths rounded to multiples of 2E + 1 for a bound
E. JPEG-LS and JPEG 2000 know nothing of holes: they get them filled as aecodec fills them, and
a lossless JPEG XL bitmap that says where they are; JPEG 2000 at the lowest rate that keeps the
bound. Needs aecodec[deep,bench].
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image
from tqdm import tqdm

from aecodec import Codec
from aecodec.depth import filled
from aecodec.measure.environment import machine, versions

Coded = tuple[int, np.ndarray]
"""Bytes, and the depth map that comes back."""


def png(depth: np.ndarray, bound: int) -> Coded:
    """PNG as Pillow optimises it, of rounded depths."""
    buffer = io.BytesIO()
    Image.fromarray(rounded(depth, bound)).save(buffer, "PNG", optimize=True)
    return buffer.tell(), np.asarray(Image.open(buffer))


def jpeg_xl(depth: np.ndarray, bound: int) -> Coded:
    """Lossless JPEG XL at effort 9, of rounded depths."""
    data = imagecodecs.jpegxl_encode(rounded(depth, bound), lossless=True, effort=9)
    return len(data), imagecodecs.jpegxl_decode(data)


def jpeg_ls(depth: np.ndarray, bound: int) -> Coded:
    """Near-lossless JPEG-LS, which has a bound of its own."""
    shown, extra = without_holes(depth)
    data = imagecodecs.jpegls_encode(shown, level=bound)
    return len(data) + extra, masked(imagecodecs.jpegls_decode(data), depth)


def jpeg_2000(depth: np.ndarray, bound: int) -> Coded:
    """JPEG 2000 at the lowest rate that keeps the bound; or lossless, if that is smaller."""
    shown, extra = without_holes(depth)
    lossless = imagecodecs.jpeg2k_encode(shown, reversible=True, level=0)
    best = (len(lossless) + extra, depth)
    low, high = 40.0, 130.0  # dB
    while bound and high - low > 0.25:
        level = (low + high) / 2
        size, back = jpeg_2000_at(depth, level)
        if largest(depth, back) > bound:
            low = level
        else:
            high, best = level, min(best, (size, back), key=lambda found: found[0])
    return best


def jpeg_2000_at(depth: np.ndarray, level: float) -> Coded:
    """Lossy JPEG 2000 at a PSNR."""
    shown, extra = without_holes(depth)
    data = imagecodecs.jpeg2k_encode(shown, reversible=False, level=level)
    return len(data) + extra, masked(imagecodecs.jpeg2k_decode(data), depth)


PEERS: dict[str, Callable[[np.ndarray, int], Coded]] = {
    "PNG": png,
    "JPEG XL": jpeg_xl,
    "JPEG-LS": jpeg_ls,
    "JPEG 2000": jpeg_2000,
}


def rounded(depth: np.ndarray, bound: int) -> np.ndarray:
    """Readings as the nearest multiples of 2E + 1; none becomes 0."""
    step = 2 * bound + 1
    near = np.clip((depth.astype(np.int64) + bound) // step * step, 1, 65535)
    return np.where(depth > 0, near, 0).astype(np.uint16)


def without_holes(depth: np.ndarray) -> tuple[np.ndarray, int]:
    """A depth map with its holes filled, and the bytes of a lossless image that says where."""
    return _without_holes(depth.tobytes(), depth.shape)


@lru_cache(maxsize=1)
def _without_holes(data: bytes, shape: tuple[int, int]) -> tuple[np.ndarray, int]:
    depth = np.frombuffer(data, np.uint16).reshape(shape)
    seen = (depth > 0).astype(np.uint8)
    size = 0 if seen.all() else len(imagecodecs.jpegxl_encode(seen, lossless=True, effort=9))
    return filled(depth, 65535), size


def masked(shown: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """A decoded picture with the holes that the bitmap says."""
    return np.where(depth > 0, np.maximum(shown, 1), 0).astype(np.uint16)


def largest(depth: np.ndarray, back: np.ndarray) -> int:
    """The largest error of a reading; holes must be the same."""
    if not np.array_equal(back > 0, depth > 0):
        raise SystemExit("a hole came back as a reading, or a reading as a hole")
    return int(np.abs(back.astype(np.int64) - depth).max())


def errors(depth: np.ndarray, size: int, back: np.ndarray) -> dict[str, float]:
    """Bits a pixel, and errors of the readings in millimetres."""
    worst = largest(depth, back)
    error = (back.astype(np.float64) - depth)[depth > 0]
    rmse = float(np.sqrt(np.square(error).mean())) if error.size else 0.0
    mae = float(np.abs(error).mean()) if error.size else 0.0
    return {"bpp": 8 * size / depth.size, "rmse": rmse, "mae": mae, "max": worst}


def measure(
    codec: Codec, depths: dict[str, np.ndarray], bounds: list[int], qualities: list[float]
) -> list[dict[str, object]]:
    """A row for each image, codec and setting."""
    rows: list[dict[str, object]] = []
    for name, depth in tqdm(depths.items(), unit="image"):
        for bound in bounds:
            start = time.perf_counter()
            data = codec.encode(depth, max_error=bound)
            middle = time.perf_counter()
            found = {"aecodec": errors(depth, len(data), codec.decode(data))}
            found["aecodec"]["encode_seconds"] = middle - start
            found["aecodec"]["decode_seconds"] = time.perf_counter() - middle
            for peer, code in PEERS.items():
                found[peer] = errors(depth, *code(depth, bound))
            for peer, values in found.items():
                if values["max"] > bound:
                    raise SystemExit(f"{name}: {peer} is off by {values['max']}, over {bound}")
                rows.append({"image": name, "codec": peer, "bound": bound, **values})
        for quality in qualities:
            data = codec.encode(depth, quality=quality)
            values = errors(depth, len(data), codec.decode(data))
            rows.append({"image": name, "codec": "aecodec", "quality": quality, **values})
        for level in (50, 54, 58, 62, 66, 70, 74, 78):
            values = errors(depth, *jpeg_2000_at(depth, level))
            rows.append({"image": name, "codec": "JPEG 2000", "quality": level, **values})
    return rows


def means(rows: list[dict[str, object]], key: str) -> list[dict[str, object]]:
    """Means over the images, for each codec and value of a key."""
    found = []
    for codec, value in dict.fromkeys((r["codec"], r[key]) for r in rows if key in r):
        group = [r for r in rows if r["codec"] == codec and r.get(key) == value]
        line = {k: statistics.mean(r[k] for r in group) for k in ("bpp", "rmse", "mae", "max")}
        found.append({"codec": codec, key: value, **line})
    return found


def table(bounded: list[dict[str, object]], plain: list[dict[str, object]]) -> str:
    """Both results in Markdown."""
    bounds = list(dict.fromkeys(line["bound"] for line in bounded))
    text = [
        "Bits a pixel at a largest error, in mm; 0 is lossless:\n",
        "| codec | " + " | ".join(f"{bound} mm" for bound in bounds) + " |",
        "|---|" + "---:|" * len(bounds),
    ]
    for codec in ("aecodec", *PEERS):
        sizes = [f"{line['bpp']:.3f}" for line in bounded if line["codec"] == codec]
        text.append(f"| {codec} | " + " | ".join(sizes) + " |")
    text += [
        "\nWithout a bound, errors of the readings in mm:\n",
        "| codec | setting | bpp | RMSE | MAE | largest |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for line in plain:
        text.append(
            f"| {line['codec']} | {line['quality']:g} | {line['bpp']:.3f} | {line['rmse']:.1f} | "
            f"{line['mae']:.1f} | {line['max']:.0f} |"
        )
    return "\n".join(text) + "\n"


def plot(bounded: list[dict[str, object]], plain: list[dict[str, object]], path: Path) -> None:
    """Size against the bound, and RMSE against size."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    colours = ("#0072B2", "#999999", "#D55E00", "#CC79A7", "#009E73")  # Okabe and Ito
    for codec, colour, mark in zip(("aecodec", *PEERS), colours, "osD^v", strict=True):
        style = {"color": colour, "marker": mark, "label": codec}
        lines = [line for line in bounded if line["codec"] == codec]
        left.plot([x["bound"] for x in lines], [x["bpp"] for x in lines], **style)
        lines = [line for line in plain if line["codec"] == codec]
        if lines:
            right.plot([x["bpp"] for x in lines], [x["rmse"] for x in lines], **style)
    left.set(
        xscale="symlog",
        yscale="log",
        xlabel="largest error of a reading [mm], 0: lossless",
        ylabel="size [bits per pixel]",
        title="Size at a bound of the error",
    )
    bounds = sorted({line["bound"] for line in bounded})
    left.set_xticks(bounds, [str(bound) for bound in bounds])
    right.set(
        yscale="log",
        xlabel="size [bits per pixel]",
        ylabel="RMSE of readings [mm]",
        title="Error without a bound",
    )
    for axes in (left, right):
        axes.grid(True, which="both", alpha=0.25)
        axes.legend()
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="depth")
    parser.add_argument("--bounds", type=int, nargs="+", default=[0, 1, 2, 5, 10, 20])
    parser.add_argument("--qualities", type=float, nargs="+", default=[1, 20, 40, 60, 80, 100])
    parser.add_argument("--count", type=int, help="code only so many images, the first ones")
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    paths = sorted(p for p in args.images.iterdir() if p.suffix.lower() in (".png", ".tif"))
    depths = {p.name: np.asarray(Image.open(p)).astype(np.uint16) for p in paths[: args.count]}
    if not depths:
        raise SystemExit(f"{args.images}: no .png or .tif files in it")
    codec = Codec(args.model, threads=args.threads)
    rows = measure(codec, depths, args.bounds, args.qualities)
    bounded, plain = means(rows, "bound"), means(rows, "quality")
    plain.sort(key=lambda line: (str(line["codec"]), line["quality"]))
    args.out.mkdir(parents=True, exist_ok=True)
    result = {
        "model": codec.model_id,
        "images": len(depths),
        "threads": args.threads,
        "machine": machine(),
        "versions": {**versions(), "imagecodecs": imagecodecs.__version__},
        "bounded": bounded,
        "plain": plain,
        "points": rows,
    }
    (args.out / "depth.json").write_text(json.dumps(result, indent=1) + "\n")
    (args.out / "depth.md").write_text(table(bounded, plain))
    plot(bounded, plain, args.out / "depth.png")
    print(table(bounded, plain))


if __name__ == "__main__":
    main()
