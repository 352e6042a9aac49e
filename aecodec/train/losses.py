"""Distortions between images, each per image, weighted and added up as the config says."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aecodec.errors import TrainingError, needing

_MS_SSIM_LEVELS = 5
_MS_SSIM_WINDOW = 11


@dataclass(frozen=True)
class LossConfig:
    """Weights of the parts of the loss; the section [loss]. A weight of 0 leaves a part out.

    Samples are scaled to a range of 1, so an MSE of 0.001 is a PSNR of 30 dB.

    Raises:
        TrainingError: a weight is negative, or all are 0.
    """

    mse: float = 1.0  # mean squared error
    l1: float = 0.0  # mean absolute error
    ms_ssim: float = 0.0  # 1 - MS-SSIM (Wang, Simoncelli and Bovik 2003)
    lpips: float = 0.0  # perceptual distance (Zhang et al. 2018)
    kl: float = 0.0  # nats an image, from the posterior to the standard normal prior
    kl_warmup: int = 0  # steps over which the weight of `kl` grows from 0

    def __post_init__(self) -> None:
        weights = {name: getattr(self, name) for name in ("mse", "l1", "ms_ssim", "lpips", "kl")}
        for name, weight in {**weights, "kl_warmup": self.kl_warmup}.items():
            if not 0 <= weight < math.inf:
                raise TrainingError(f"{name} in [loss] must not be negative, not {weight}")
        if not any(weight for name, weight in weights.items() if name != "kl"):
            raise TrainingError("[loss] needs a weight over 0 for mse, l1, ms_ssim or lpips")

    @property
    def measured(self) -> tuple[str, ...]:
        """The parts that `Distortion` gives."""
        return ("mse", "l1", *(name for name in ("ms_ssim", "lpips") if getattr(self, name)))

    def kl_weight(self, step: int) -> float:
        """Weight of the KL divergence at a step: linear warm-up (Sønderby et al. 2016)."""
        return self.kl * min(1.0, (step + 1) / max(self.kl_warmup, 1))


class Distortion:
    """The weighted distortion of reconstructions.

    Args:
        config: the weights.
        shape: height and width of the images, in pixels.
        device: where they are.

    Raises:
        TrainingError: images too small for a part; no weights for the perceptual distance.
        MissingDependencyError: a part needs a package that is not there.
    """

    def __init__(self, config: LossConfig, shape: tuple[int, int], device: torch.device) -> None:
        parts: dict[str, tuple[float, Callable[[Tensor, Tensor, Tensor | None], Tensor]]] = {
            "mse": (config.mse, mse),
            "l1": (config.l1, l1),
        }
        if config.ms_ssim:
            parts["ms_ssim"] = (config.ms_ssim, ms_ssim(min(shape)))
        if config.lpips:
            parts["lpips"] = (config.lpips, perceptual(device))
        self._parts = {name: part for name, part in parts.items() if part[0]}

    def __call__(
        self, pixels: Tensor, x: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compare images.

        Args:
            pixels: (N, C, H, W) reconstructions, of any float dtype.
            x: (N, C, H, W) float32 in [-0.5, 0.5].
            mask: (N, 1, H, W) bool, which pixels count; None: all. MS-SSIM and LPIPS see
                the others as perfect.

        Returns:
            (N,) the weighted sum; and its parts, unweighted and detached, (N,) each. MSE
            and L1 are always among them.
        """
        pixels = pixels.float()
        total: Tensor | None = None
        parts: dict[str, Tensor] = {}
        for name, (weight, measure) in self._parts.items():
            value = measure(pixels, x, mask)
            parts[name] = value.detach()
            total = weight * value if total is None else total + weight * value
        assert total is not None  # the config has seen to that
        with torch.no_grad():
            for name, measure in (("mse", mse), ("l1", l1)):
                if name not in parts:
                    parts[name] = measure(pixels, x, mask)
        return total, parts


def mse(pixels: Tensor, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared error of the valid samples of each image, (N,); 0 if it has none."""
    return _mean((pixels - x).square(), mask)


def l1(pixels: Tensor, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean absolute error of the valid samples of each image, (N,); 0 if it has none."""
    return _mean((pixels - x).abs(), mask)


def _mean(error: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return error.mean(dim=(1, 2, 3))
    valid = mask.sum(dim=(1, 2, 3)) * error.shape[1]
    # where, not a product: an error that is not finite must not leak from a masked pixel
    inside = torch.where(mask, error, 0).sum(dim=(1, 2, 3))
    return inside / valid.clamp(min=1)


def _filled(pixels: Tensor, x: Tensor, mask: Tensor | None) -> Tensor:
    return pixels if mask is None else torch.where(mask, pixels, x)


def ms_ssim(side: int) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    """1 - MS-SSIM of each image, (N,); the window shrinks for images under 161 pixels.

    Args:
        side: the shorter side of the images in pixels.

    Raises:
        TrainingError: the images are too small for five scales.
        MissingDependencyError: pytorch-msssim is not installed.
    """
    with needing("train", "ms_ssim in [loss]"):
        from pytorch_msssim import ms_ssim as library
    # the library wants side > (window - 1) · 2^4
    largest = -(-side // 2 ** (_MS_SSIM_LEVELS - 1))
    window = min(_MS_SSIM_WINDOW, largest - (largest + 1) % 2)
    if window < 3:
        raise TrainingError(
            f"ms_ssim in [loss] needs images of at least 33 pixels each way, not {side}"
        )

    def measure(pixels: Tensor, x: Tensor, mask: Tensor | None) -> Tensor:
        pixels = _filled(pixels, x, mask)
        if pixels.requires_grad:
            # at a contrast below zero, as of noise, its gradient is infinity times zero
            pixels = pixels.view_as(pixels)
            pixels.register_hook(_without_infinities)  # type: ignore[no-untyped-call]
        same: Tensor = library(
            pixels + 0.5, x + 0.5, data_range=1.0, size_average=False, win_size=window
        )
        return 1 - same

    return measure


def _without_infinities(gradient: Tensor) -> Tensor:
    return torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0)


def perceptual(device: torch.device) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    """LPIPS with AlexNet features of each image, (N,).

    Raises:
        TrainingError: the backbone's weights are neither on this machine nor to be had.
        MissingDependencyError: lpips is not installed.
    """
    with needing("perceptual", "lpips in [loss]"):
        import lpips
    try:
        network: Any = lpips.LPIPS(net="alex", verbose=False)
    except (OSError, RuntimeError) as error:  # no network, or a broken download
        raise TrainingError(
            "lpips in [loss] needs the weights of AlexNet, which could not be downloaded "
            f'({error}); on a machine with internet, run `python -c "import lpips; '
            "lpips.LPIPS(net='alex')\"` and copy its ~/.cache/torch/hub/checkpoints here, "
            "or leave lpips out"
        ) from error
    network = network.to(device).eval().requires_grad_(False)

    def measure(pixels: Tensor, x: Tensor, mask: Tensor | None) -> Tensor:
        pair = [(2 * t).expand(-1, 3, -1, -1) for t in (_filled(pixels, x, mask), x)]
        with torch.autocast(device.type, enabled=False):
            distance: Tensor = network(*pair)
        return distance.flatten()

    return measure


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence to the standard normal of each image in nats, (N, D) twice -> (N,)."""
    mean, log_variance = mean.float(), log_variance.float()
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)
