"""The measuring loop: every image through every codec at every quality, in memory."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from aecodec.errors import AecError, InputError, naming
from aecodec.measure.bdrate import Curve, mean_point
from aecodec.measure.metrics import RGB, decibels, ms_ssim, psnr
from aecodec.measure.peers import Peer
from aecodec.pixels import read_image, read_shape
from aecodec.samples import bit_depth, colour, has_alpha

log = logging.getLogger(__name__)

METRICS = ("psnr", "ms_ssim_db")

T = TypeVar("T")


@dataclass(frozen=True)
class Measurement:
    """One image, encoded and decoded by one codec at one quality."""

    image: str
    codec: str
    setting: float
    width: int
    height: int
    bytes: int
    bpp: float
    psnr: float
    """In dB; inf when the codec returned the same samples."""
    ms_ssim: float | None
    """None for images too small for it."""
    encode_s: float | None
    """Median seconds; None when times were not taken."""
    decode_s: float | None


def check_images(paths: Sequence[Path]) -> None:
    """Find out from their headers, before hours of work, that images cannot be measured.

    Raises:
        InputError: as `load_image`.
    """
    for path in paths:
        _check_bits(path, read_shape(path)[2])


def _check_bits(path: Path, bits: int) -> None:
    if bits > 8:
        raise InputError(f"{path}: {bits} bits a sample; only 8 are measured")


def load_image(path: Path) -> RGB:
    """An image file's samples as 8-bit RGB, upright; alpha is dropped.

    Raises:
        InputError: not an image, more than 8 bits a sample, or over the default limits.
    """
    read = read_image(path)
    samples = colour(read)
    _check_bits(path, bit_depth(samples))
    if has_alpha(read):
        log.warning("%s: with alpha, measured without", path)
    if samples.ndim == 2:
        log.warning("%s: gray, measured as RGB", path)
        return np.repeat(samples[:, :, None], 3, axis=2)
    return np.ascontiguousarray(samples)


def timed(work: Callable[[], T], repeats: int) -> tuple[T, float]:
    """The result of `work`, and the median seconds of `repeats` calls."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
    return result, statistics.median(seconds)


def measure_one(
    image: RGB, name: str, peer: Peer, setting: float, repeats: int = 1, clock: bool = True
) -> Measurement:
    """Encode and decode one image `repeats` times, and compare.

    Args:
        image: (H, W, 3) `uint8`.
        name: of the image, for messages and the result.
        peer: the codec.
        setting: its quality.
        repeats: how often; the times are medians.
        clock: whether the times are kept.

    Raises:
        InputError: the codec refuses the image or the setting.
        AecError: what it decodes is no picture of the same size.
    """
    height, width = image.shape[:2]
    try:
        with naming(name):
            data, encode_s = timed(lambda: peer.encode(image, setting), repeats)
            decoded, decode_s = timed(lambda: peer.decode(data), repeats)
    except (OSError, ValueError) as error:
        raise InputError(f"{peer.name} at quality {setting:g} failed on {name}: {error}") from error
    if decoded.shape != image.shape or decoded.dtype != np.uint8:
        raise AecError(f"{peer.name} decoded {name} to {decoded.dtype} {decoded.shape}")
    return Measurement(
        image=name,
        codec=peer.name,
        setting=setting,
        width=width,
        height=height,
        bytes=len(data),
        bpp=8 * len(data) / (width * height),
        psnr=psnr(image, decoded),
        ms_ssim=ms_ssim(image, decoded),
        encode_s=encode_s if clock else None,
        decode_s=decode_s if clock else None,
    )


def run(
    paths: Sequence[Path],
    peers: Sequence[Peer],
    points: Mapping[str, Sequence[float]],
    *,
    repeats: int = 1,
    clock: bool = True,
) -> Iterator[Measurement]:
    """Measure everything, image by image, taking turns between the codecs.

    Turns make a passing disturbance of the machine hit all codecs alike. Each codec
    works once on a small picture before, so that no time includes loading libraries.
    """
    if clock:
        for peer in peers:
            measure_one(
                np.zeros((64, 64, 3), np.uint8), "a black square", peer, points[peer.name][0]
            )
    for path in paths:
        image = load_image(path)
        for turn in range(max(len(points[peer.name]) for peer in peers)):
            for peer in peers:
                if turn < len(points[peer.name]):
                    setting = points[peer.name][turn]
                    yield measure_one(image, path.name, peer, setting, repeats, clock)


def by_setting(results: Sequence[Measurement], codec: str) -> dict[float, list[Measurement]]:
    """One codec's measurements, grouped by quality setting in rising order."""
    groups: dict[float, list[Measurement]] = {}
    for result in results:
        if result.codec == codec:
            groups.setdefault(result.setting, []).append(result)
    return dict(sorted(groups.items()))


def average(results: Sequence[Measurement], codec: str, metric: str) -> Curve:
    """A codec's curve: rate and quality averaged over the images at each setting.

    MS-SSIM is averaged as it is and put in dB afterwards, over the images that have it.
    """
    bpp, quality = [], []
    for group in by_setting(results, codec).values():
        point = mean_point((r.bpp, r.psnr if metric == "psnr" else r.ms_ssim) for r in group)
        if point is not None:
            bpp.append(point[0])
            quality.append(point[1] if metric == "psnr" else decibels(point[1]))
    return Curve(codec, metric, tuple(bpp), tuple(quality))


def speed(results: Sequence[Measurement], codec: str) -> tuple[float, float] | None:
    """Encoding and decoding seconds per megapixel over all images and settings."""
    own = [r for r in results if r.codec == codec]
    encode = [r.encode_s for r in own if r.encode_s is not None]
    decode = [r.decode_s for r in own if r.decode_s is not None]
    if not own or len(encode) < len(own):
        return None
    megapixels = sum(r.width * r.height for r in own) / 1e6
    return sum(encode) / megapixels, sum(decode) / megapixels
