"""How fast aecodec codes, beside other codecs at the same size of file, all in one run.

    python benchmarks/speed.py OUT_DIR [--images FILE...] [--quality 57] [--repeats 5]
        [--threads 1 2] [--seconds 60] [--burst 1] [--no-cold] [--quick]

Warm: in one process that has coded before, from arrays to files in memory and back. Cold: a
process of its own from its start to its end, reading and writing files. Codecs take turns, so
that whatever else the machine does hits all alike; in its turn each codes a picture again and
again for a second, then decodes it. Numbers are medians, and beside them the fastest: where
cores are shared, that is what they can do while nobody else computes. Writes speed.json and
speed.md. Without --images, two pictures are made of photographs that come with scikit-learn.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import aecodec
from aecodec.codec import Codec
from aecodec.measure import environment
from aecodec.measure.compare import same_size
from aecodec.measure.metrics import RGB
from aecodec.measure.peers import PEERS, Peer, make_peers
from aecodec.measure.report import table
from aecodec.measure.runner import load_image
from aecodec.model.precision import has_fast_bfloat16

ROOT = Path(aecodec.__file__).resolve().parent.parent
SIZES = {"Kodak size": (512, 768), "12 megapixels": (3000, 4000)}
QUICK_SIZE = (192, 256)
PEERS_MEASURED = ("jpeg", "webp", "avif-s4", "avif-s6", "jxl")
THREADED = ("avif-s4", "avif-s6", "jxl")
YARDSTICK = "avif-s6"


@dataclass
class Entrant:
    """A codec at a precision and a number of threads."""

    codec: str
    label: str
    precision: str
    threads: int
    encode: Callable[[RGB], bytes]
    decode: Callable[[bytes], RGB]


@dataclass
class Timing:
    """Seconds of every call of one entrant on one picture."""

    entrant: Entrant
    picture: str
    megapixels: float
    bytes: int = 0
    encode_s: list[float] = field(default_factory=list)
    decode_s: list[float] = field(default_factory=list)
    encode_cpu_s: list[float] = field(default_factory=list)
    decode_cpu_s: list[float] = field(default_factory=list)

    def speed(self, direction: str) -> float:
        """Megapixels a second, of the median."""
        return self.megapixels / statistics.median(getattr(self, f"{direction}_s"))

    def fastest(self, direction: str) -> float:
        """Megapixels a second, of the shortest time."""
        return self.megapixels / min(getattr(self, f"{direction}_s"))

    def as_dict(self) -> dict[str, Any]:
        """For the JSON file."""
        one = self.entrant
        values = {k: v for k, v in vars(self).items() if k != "entrant"}
        speeds = {f"{d}_mp_per_s": self.speed(d) for d in ("encode", "decode")}
        best = {f"{d}_fastest_mp_per_s": self.fastest(d) for d in ("encode", "decode")}
        head = {"codec": one.codec, "precision": one.precision, "threads": one.threads}
        return {**head, **values, **speeds, **best}


# ---- pictures and codecs ----


def generated(height: int, width: int) -> RGB:
    """A picture of any size from two photographs, mirrored at their edges but not resized."""
    from sklearn.datasets import load_sample_images

    pair = np.concatenate(load_sample_images().images, axis=1)
    missing = [max(size - have, 0) for size, have in zip((height, width), pair.shape, strict=False)]
    large = np.pad(pair, [(0, missing[0]), (0, missing[1]), (0, 0)], mode="reflect")
    return np.ascontiguousarray(large[:height, :width])


def entrants(image: RGB, threads: Sequence[int], quality: float, quick: bool) -> list[Entrant]:
    """All that are measured; the peers at the quality that comes nearest to aecodec's size."""
    found = []
    for precision in ("float32",) if quick else ("float32", "bfloat16"):
        for count in threads:
            codec = Codec(precision=precision, threads=count)
            found.append(_own(codec, precision, count, quality))
    target = len(found[0].encode(image))
    names = [n for n in PEERS_MEASURED if PEERS[n].available() and not (quick and n == "avif-s4")]
    for name in names:
        for count in threads if name in THREADED else (1,):
            (peer,) = make_peers([name])
            _encoding_threads(peer, count)  # first: AVIF files depend on their number
            setting, _ = same_size(peer, image, target)
            found.append(_peer(peer, setting, count))
    return found


def _own(codec: Codec, precision: str, threads: int, quality: float) -> Entrant:
    def encode(image: RGB) -> bytes:
        return codec.encode(image, quality=quality)

    return Entrant("aecodec", f"aecodec {precision}", precision, threads, encode, codec.decode)


def _peer(peer: Peer, setting: float, threads: int) -> Entrant:
    """A peer at a quality, that decodes on a number of threads."""

    def decode(data: bytes) -> RGB:
        _decoding_threads(peer.name, threads)
        return peer.decode(data)

    label = f"{peer.label}, quality {setting:g}"
    return Entrant(peer.name, label, "", threads, lambda image: peer.encode(image, setting), decode)


def _encoding_threads(peer: Peer, threads: int) -> None:
    """Where its library lets one choose."""
    if peer.name in THREADED:
        key = "num_threads" if peer.name == "jxl" else "max_threads"
        peer.options = {**peer.options, key: threads}  # type: ignore[attr-defined]


def _decoding_threads(name: str, threads: int) -> None:
    """Both plugins have this as a variable of their module."""
    if name == "jxl":
        from pillow_jxl import JpegXLImagePlugin

        JpegXLImagePlugin.DECODE_THREADS = threads
    elif name in THREADED:
        from PIL import AvifImagePlugin

        AvifImagePlugin.DEFAULT_MAX_THREADS = threads


# ---- measuring ----


def clocked(work: Callable[[], Any], burst: float, walls: list[float], cpus: list[float]) -> Any:
    """Work once, and again until `burst` seconds are over.

    Args:
        work: the same each time.
        burst: seconds.
        walls: gets the seconds of each time on the wall.
        cpus: gets those of all this process's threads.

    Returns:
        What the work returns.
    """
    end = time.perf_counter() + burst
    while True:
        wall, cpu = time.perf_counter(), time.process_time()
        result = work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
        if time.perf_counter() >= end:
            return result


def warm(
    name: str,
    image: RGB,
    codecs: Sequence[Entrant],
    repeats: int,
    seconds: float,
    burst: float,
) -> list[Timing]:
    """Time every codec on a picture, in turns; slow ones stop after `seconds` in all."""
    timings = [Timing(c, name, image.shape[0] * image.shape[1] / 1e6) for c in codecs]
    for one in timings:  # once for nothing, on a part
        one.entrant.decode(one.entrant.encode(image[:256, :256]))
    for turn in range(repeats):
        for one in timings:
            if turn and sum(one.encode_s) + sum(one.decode_s) > seconds * turn / repeats:
                continue
            encode, decode = partial(one.entrant.encode, image), one.entrant.decode
            data = clocked(encode, burst, one.encode_s, one.encode_cpu_s)
            one.bytes = len(data)
            clocked(partial(decode, data), burst, one.decode_s, one.decode_cpu_s)
            print(f"{name}, turn {turn + 1}: {one.entrant.label}", file=sys.stderr)
    return timings


SAVE = "import sys; from PIL import Image; Image.open(sys.argv[1]).save(sys.argv[2], {})"
OPTIONS = {
    "JPEG": ("jpg", "quality=75"),
    "WebP (m6)": ("webp", "quality=75, method=6"),
    "AVIF (speed 6)": ("avif", "quality=65, speed=6, subsampling='4:4:4'"),
}


def commands(picture: Path) -> Iterator[tuple[str, list[str]]]:
    """What is started cold, by what the report calls it."""
    own = [sys.executable, "-m", "aecodec"]
    coded, back = picture.with_suffix(".aec"), picture.with_name("back.ppm")
    yield "aecodec compress", [*own, "compress", str(picture), str(coded), "--force"]
    yield "aecodec decompress", [*own, "decompress", str(coded), str(back), "--force"]
    for label, (ending, options) in OPTIONS.items():
        output = str(picture.with_suffix(f".{ending}"))
        script = SAVE.format(options)
        yield f"Python, {label} by Pillow", [sys.executable, "-c", script, str(picture), output]
    yield "python -c 'import torch'", [sys.executable, "-c", "import torch"]
    yield "python -c pass", [sys.executable, "-c", "pass"]


def cold(image: RGB, repeats: int) -> dict[str, list[float]]:
    """Seconds of whole processes, in turns."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.png"
        Image.fromarray(image).save(picture)
        for _ in range(repeats):
            for name, command in commands(picture):
                start = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True, env=env, cwd=folder)
                seconds.setdefault(name, []).append(time.perf_counter() - start)
    return seconds


# ---- the report ----


def ratio(one: Timing, timings: Sequence[Timing], direction: str) -> str:
    """How many times as fast as the yardstick with as many threads on the same picture."""
    for other in timings:
        same = (other.picture, other.entrant.threads) == (one.picture, one.entrant.threads)
        if same and other.entrant.codec == YARDSTICK:
            return f"{one.speed(direction) / other.speed(direction):.2f}"
    return "–"


def markdown(header: dict[str, Any], timings: Sequence[Timing], starts: dict[str, Any]) -> str:
    """Tables of both."""
    machine = header["machine"]
    lines = [
        "# Speed",
        "",
        f"{header['date']}, {machine['cpu']}, {machine['cores']} cores, torch "
        f"{header['versions']['torch']}, load {header['load']}: `{header['command']}`",
        "",
        "Warm: medians, and the fastest in brackets. Ratios of medians: times as fast as AVIF "
        "(speed 6) with as many threads, in the same run.",
        "",
        f"bfloat16 in hardware: {'yes' if header['fast_bfloat16'] else 'no'}.",
        "",
    ]
    head = ("codec", "threads", "bytes", "encoding, MP/s", "decoding, MP/s", "encoding, ratio")
    for picture in dict.fromkeys(one.picture for one in timings):
        own = [one for one in timings if one.picture == picture]
        lines += [f"## {picture}, {own[0].megapixels:.2f} megapixels", ""]
        rows = [
            (
                one.entrant.label,
                str(one.entrant.threads),
                str(one.bytes),
                f"{one.speed('encode'):.2f} ({one.fastest('encode'):.2f})",
                f"{one.speed('decode'):.2f} ({one.fastest('decode'):.2f})",
                ratio(one, own, "encode"),
                ratio(one, own, "decode"),
            )
            for one in own
        ]
        lines += [*table((*head, "decoding, ratio"), rows), ""]
    if starts:
        rows = [(name, f"{statistics.median(s):.2f}") for name, s in starts.items()]
        lines += ["## Cold: whole processes, Kodak size", "", *table(("process", "s"), rows), ""]
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, metavar="OUT_DIR")
    parser.add_argument("--images", type=Path, nargs="+", default=[], help="instead of made ones")
    parser.add_argument("--quality", type=float, default=57, help="of aecodec")
    parser.add_argument("--repeats", type=int, default=5, help="turns of every codec")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=60, help="about as long for each, at most")
    parser.add_argument("--burst", type=float, default=1, help="seconds each way in a turn")
    parser.add_argument("--no-cold", action="store_true", help="start no processes")
    parser.add_argument("--quick", action="store_true", help="a small picture, once: a check")
    args = parser.parse_args()
    if args.quick:
        args.repeats, args.threads, args.burst = 1, [1], 0
    return args


def main() -> None:
    """Measure and write the report."""
    import torch  # after aecodec, which says how its threads are to wait

    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    sizes = {"small": QUICK_SIZE} if args.quick else SIZES
    pictures = {path.name: load_image(path) for path in args.images} or {
        name: generated(*size) for name, size in sizes.items()
    }
    first = next(iter(pictures.values()))
    codecs = entrants(first, args.threads, args.quality, args.quick)
    timings = [
        timing
        for name, image in pictures.items()
        for timing in warm(name, image, codecs, args.repeats, args.seconds, args.burst)
    ]
    size = QUICK_SIZE if args.quick else SIZES["Kodak size"]
    starts = {} if args.no_cold else cold(generated(*size), args.repeats)
    header = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": " ".join(["python", "benchmarks/speed.py", *sys.argv[1:]]),
        "quality": args.quality,
        "machine": environment.machine(),
        "versions": environment.versions(),
        "load": load,
        "fast_bfloat16": has_fast_bfloat16(torch.device("cpu")),
    }
    data = {**header, "warm": [one.as_dict() for one in timings], "cold_s": starts}
    (args.out / "speed.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    text = markdown(header, timings, starts)
    (args.out / "speed.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
