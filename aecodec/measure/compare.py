"""One picture through several codecs at the same number of bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aecodec.errors import AecError, InputError, naming
from aecodec.measure.metrics import RGB, ms_ssim, psnr
from aecodec.measure.peers import Peer

PEER_SETTINGS = (0, 100)
"""Lowest and highest quality that is tried of a peer."""


@dataclass(frozen=True)
class Coded:
    """A picture as one codec gives it back, and what its file costs."""

    codec: str
    label: str
    setting: float
    bytes: int
    bpp: float
    psnr: float
    """In dB; inf when the codec returned the same samples."""
    ms_ssim: float | None
    """None for pictures too small for it."""
    fits: bool
    """False where even the codec's smallest file is larger than aecodec's."""
    pixels: RGB


@dataclass(frozen=True)
class Comparison:
    """All codecs at one size; the first is aecodec, whose size it is."""

    quality: float
    coded: list[Coded]


@dataclass(frozen=True)
class Picture:
    """An original and its comparisons."""

    name: str
    bytes: int
    """Size of the original's own file."""
    pixels: RGB
    comparisons: list[Comparison]


def compare(image: RGB, name: str, own: Peer, peers: Sequence[Peer], quality: float) -> Comparison:
    """Code an image with aecodec at a quality, and with each peer at the same size.

    Args:
        image: (H, W, 3) uint8.
        name: what to call it in error messages.
        own: aecodec.
        peers: the others.
        quality: of aecodec, 1 to 100.

    Raises:
        InputError: a codec cannot code this image.
    """
    try:
        with naming(name):
            target = own.encode(image, quality)
            coded = [_judge(image, own, quality, target, True)]
            for peer in peers:
                setting, data = same_size(peer, image, len(target))
                coded.append(_judge(image, peer, setting, data, len(data) <= len(target)))
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: {error}") from error
    return Comparison(quality, coded)


def same_size(peer: Peer, image: RGB, target: int) -> tuple[float, bytes]:
    """The quality of a peer whose file is the largest of at most `target` bytes.

    By bisection over whole qualities, so it relies on files growing with the quality.

    Returns:
        The quality and the file; the lowest quality's if that is larger than `target`.
    """
    below, above = PEER_SETTINGS[0] - 1, PEER_SETTINGS[1] + 1
    best: tuple[float, bytes] | None = None
    while above - below > 1:
        setting = (below + above) // 2
        data = peer.encode(image, setting)
        if len(data) > target:
            above = setting
            continue
        below = setting
        if best is None or len(data) >= len(best[1]):
            best = setting, data
    return best or (setting, data)  # if nothing fitted, the lowest quality was the last tried


def _judge(image: RGB, peer: Peer, setting: float, data: bytes, fits: bool) -> Coded:
    decoded = peer.decode(data)
    if decoded.shape != image.shape or decoded.dtype != image.dtype:
        raise AecError(f"{peer.name} decoded to {decoded.dtype} {decoded.shape}")
    return Coded(
        codec=peer.name,
        label=peer.label,
        setting=setting,
        bytes=len(data),
        bpp=8 * len(data) / (image.shape[0] * image.shape[1]),
        psnr=psnr(image, decoded),
        ms_ssim=ms_ssim(image, decoded),
        fits=fits,
        pixels=decoded,
    )
