"""Random patches of images that are held decoded in memory, cropped and flipped on the device."""

from __future__ import annotations

import fnmatch
import hashlib
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aecodec.depth import LARGEST, filled
from aecodec.errors import InputError, MissingDependencyError
from aecodec.train.prepare import DataConfig, load

log = logging.getLogger(__name__)

_EIGHT_BITS = DataConfig()


def split_by_name(paths: list[Path], fraction: float) -> tuple[list[Path], list[Path]]:
    """Split into (training, validation) by a hash of the file name: stable for ever."""

    def held_out(path: Path) -> bool:
        digest = hashlib.sha256(os.fsencode(path.name)).digest()
        return int.from_bytes(digest[:4], "big") < fraction * 2**32

    return [p for p in paths if not held_out(p)], [p for p in paths if held_out(p)]


def load_image(path: Path, data: DataConfig) -> np.ndarray | None:
    """Decode to (H, W, 3) uint8; or, as `data` has 16 bits, to (H, W, 1) float32.

    Of depth maps (`invalid = 0`) holes are filled as the codec does it. What is over the
    maximum counts as a hole here, so that it is not learned; the codec keeps such readings,
    up to twice the maximum. A file that cannot be used is logged and gives None.
    """
    try:
        samples = load(path, data)
    except (InputError, MissingDependencyError) as error:
        log.warning("skipped: %s", error)
        return None
    if data.bits == 8:
        rgb = samples[:, :, None].repeat(3, axis=2) if samples.ndim == 2 else samples
        return np.ascontiguousarray(rgb)
    if samples.ndim != 2:
        log.warning("skipped: %s: 16 bits a sample in colour", path)
        return None
    if data.invalid == 0:
        samples = filled(np.where(samples > data.maximum, 0, samples), LARGEST)
    return samples[:, :, None].astype(np.float32)


class PatchSource:
    """Random crops with flips and transposes from images held in memory.

    Args:
        paths: image files; those smaller than a patch are skipped.
        patch: side of a patch in pixels.
        sampling: file-name pattern -> weight; an image that matches none weighs 1.
        device: where the pixels live and the crops are made.
        seed: of the sequence of patches.
        data: bits a sample, and the sample value that becomes +0.5.

    Raises:
        InputError: no image is large enough, or none has a weight.
    """

    def __init__(
        self,
        paths: list[Path],
        patch: int,
        sampling: dict[str, float],
        device: torch.device,
        seed: int,
        data: DataConfig = _EIGHT_BITS,
    ) -> None:
        with ThreadPoolExecutor() as pool:
            images = list(pool.map(partial(load_image, data=data), paths))
        kept = [
            (path, image)
            for path, image in zip(paths, images, strict=True)
            if image is not None and min(image.shape[:2]) >= patch
        ]
        if not kept:
            raise InputError(
                f"none of {len(paths)} images can be used: "
                f"they must have {data.bits} bits a sample and at least {patch} pixels each way"
            )
        if len(kept) < len(paths):
            log.warning("%d of %d images skipped", len(paths) - len(kept), len(paths))
        self.patch = patch
        self.device = device
        self._maximum = data.maximum
        sizes = torch.tensor([image.shape[:2] for _, image in kept])
        self._starts = (sizes.prod(dim=1).cumsum(0) - sizes.prod(dim=1)).to(device)
        self._sizes = sizes.to(device)
        weights = [float(_weight(path.name, sampling)) for path, _ in kept]
        if not any(weights):
            raise InputError("[sampling] gives every image a weight of 0")
        self._weights = torch.tensor(weights, device=device)
        flat = np.concatenate([image.reshape(-1, image.shape[2]) for _, image in kept])
        self._pixels = torch.from_numpy(flat).to(device)
        self.generator = torch.Generator(device=device).manual_seed(seed)
        self.count = len(kept)

    def batch(self, size: int) -> Tensor:
        """(size, 3, patch, patch) float32 in [-0.5, 0.5], channels last."""
        rng, p = self.generator, self.patch
        which = torch.multinomial(self._weights, size, replacement=True, generator=rng)
        room = (self._sizes[which] - p + 1).float()
        corner = (torch.rand(size, 2, device=self.device, generator=rng) * room).long()
        corner = torch.minimum(corner, self._sizes[which] - p)
        turn = torch.rand(size, 3, device=self.device, generator=rng) < 0.5
        ramp = torch.arange(p, device=self.device)
        rows = torch.where(turn[:, :1], ramp.flip(0), ramp)[:, :, None]
        cols = torch.where(turn[:, 1:2], ramp.flip(0), ramp)[:, None, :]
        swap = turn[:, 2, None, None]
        rows, cols = (
            torch.where(swap, cols.transpose(1, 2), rows),
            torch.where(swap, rows.transpose(1, 2), cols),
        )
        y = corner[:, 0, None, None] + rows
        x = corner[:, 1, None, None] + cols
        index = self._starts[which][:, None, None] + y * self._sizes[which][:, 1, None, None] + x
        picked = self._pixels.index_select(0, index.flatten()).view(size, p, p, -1)
        # (B, p, p, 3) permuted to (B, 3, p, p) is channels last already
        picked = picked.expand(-1, -1, -1, 3).permute(0, 3, 1, 2)
        return picked.float().div(self._maximum).sub_(0.5)


def _weight(name: str, sampling: dict[str, float]) -> float:
    for pattern, weight in sampling.items():
        if fnmatch.fnmatch(name, pattern):
            return weight
    return 1.0


def validation_batches(
    paths: list[Path], patch: int, device: torch.device, data: DataConfig = _EIGHT_BITS
) -> list[Tensor]:
    """Centre crops of the validation images, in batches of 8, scaled like training."""
    crops = []
    for path in paths:
        image = load_image(path, data)
        if image is None or min(image.shape[:2]) < patch:
            continue
        top, left = ((side - patch) // 2 for side in image.shape[:2])
        crops.append(torch.from_numpy(image[top : top + patch, left : left + patch].copy()))
    if not crops:
        return []
    stack = torch.stack(crops).expand(-1, -1, -1, 3).permute(0, 3, 1, 2)
    stack = stack.float().div(data.maximum).sub_(0.5)
    return [part.to(device) for part in torch.split(stack, 8)]
