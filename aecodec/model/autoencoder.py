"""The whole network: what training optimises and what the codec runs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aecodec.model.blocks import QualityGain
from aecodec.model.config import QUALITY_ROWS, SCALE_LEVELS, ModelConfig
from aecodec.model.hyperprior import (
    ContextPass,
    HyperAnalysis,
    HyperPrior,
    HyperSynthesis,
    ScaleContext,
    ScaleHead,
    magnitude_level,
)
from aecodec.model.likelihood import gaussian_bits
from aecodec.model.passes import pass_index
from aecodec.model.rounding import (
    round_ste,
    round_towards_zero,
    straight_through,
    thresholds_by_index,
)
from aecodec.model.transforms import Analysis, Synthesis


@dataclass
class Output:
    """What one training step needs, each per image."""

    pixels: Tensor  # (B, 3, H, W), same range as the input
    y_bits: Tensor  # (B,)
    z_bits: Tensor  # (B,)


class Autoencoder(nn.Module):
    """Variable-rate mean-scale hyperprior autoencoder.

    Pixels are RGB in [-0.5, 0.5]; quality is a continuous number in [0, 7]. Without
    `scale_head` the model only runs: its scales come from the integer head instead.

    Attributes:
        deadzone: strength of rounding towards zero, 0 to 1, for what is decoded from; as
            encoders round, see `Quantiser`.
    """

    def __init__(self, config: ModelConfig, *, scale_head: bool = True) -> None:
        super().__init__()
        self.config = config
        self.deadzone = 0.0
        self.analysis = Analysis(config)
        self.synthesis = Synthesis(config)
        rows = torch.tensor([self._start_gain(config, q) for q in range(QUALITY_ROWS)])
        start = rows.log()[:, None].repeat(1, config.latent_channels)
        self.encoder_gain = QualityGain(start.clone())
        self.decoder_gain = QualityGain(-start)
        self.hyper_analysis = HyperAnalysis(config)
        self.hyper_synthesis = HyperSynthesis(config)
        self.prior = HyperPrior(config)
        if scale_head:
            self.scale_head = ScaleHead(config)
            self.scale_context = nn.ModuleList(
                ScaleContext(config) for _ in range(1, config.scale_passes)
            )
        self.context = nn.ModuleList(
            ContextPass(config, count, first=p == 0)
            for p, count in enumerate(config.context_blocks)
        )

    @staticmethod
    def _start_gain(config: ModelConfig, quality: float) -> float:
        """1/Δ for the uniform step Δ that is optimal at high rate for an orthonormal y."""
        return math.sqrt(config.lambda_at(quality) * 255**2 * 2 * math.log(2) / 36)

    def log_scale_bounds(self) -> tuple[float, float]:
        """Natural logarithms of the smallest and largest σ the tables cover."""
        return math.log(self.config.scale_min), math.log(self.config.scale_max)

    @torch.no_grad()
    def start_scales(self, x: Tensor) -> None:
        """Set the scale head's biases from the spread of y over a batch of patches."""
        y = self.analysis(x)
        spread = y.abs().mean(dim=(0, 2, 3)).clamp(min=1e-4)
        low, high = self.log_scale_bounds()
        self.scale_head.biases[2].copy_(
            (spread.log()[None] + self.encoder_gain.log_rows).clamp(low, high)
        )

    def forward(self, x: Tensor, quality: Tensor) -> Output:
        """Pixels and bits; in training mode the rate is that of y with uniform noise.

        Everything that reaches the synthesis or the context is rounded, straight-through.

        Args:
            x: (B, 3, H, W) in [-0.5, 0.5], sides multiples of 64.
            quality: (B,) in [0, 7].
        """
        gain = self.encoder_gain(quality)
        inverse = self.decoder_gain(quality)
        y = self.analysis(x) * gain
        z = self.hyper_analysis(y).float()
        z_hat = round_ste(z)
        z_bits = self.prior.bits(self._relaxed(z), quality)
        features = self.hyper_synthesis(z_hat, quality)
        scale_features = self.scale_head.features(z_hat, quality)
        base = log_scale = self.scale_head(scale_features, quality)

        index = pass_index(y.shape[1], len(self.context), y.shape[2], y.shape[3]).to(y.device)
        mean = self.context[0](features, None) * gain
        for p in range(1, len(self.context)):
            known = index < p
            rounded = self._rounded(y - mean, log_scale)
            if self.scale_context:
                level = magnitude_level(rounded.detach()) * known
                correction = self.scale_context[p - 1](level, scale_features, quality)
                log_scale = torch.where(index == p, base + correction, log_scale)
            latents = (rounded + mean) * inverse * known
            mean = torch.where(known, mean, self.context[p](features, latents) * gain)
        residual = y - mean
        rounded = self._rounded(residual, log_scale)
        y_hat = rounded + mean
        low, high = self.log_scale_bounds()
        measured = self._relaxed(residual) if self.training else rounded
        y_bits = gaussian_bits(measured, log_scale.clamp(low, high))
        pixels = self.synthesis(y_hat * inverse, quality)
        return Output(pixels, y_bits.sum(dim=(1, 2, 3)), z_bits)

    def _relaxed(self, x: Tensor) -> Tensor:
        """What the rate is measured on: x plus uniform noise in training, x rounded else."""
        return x + torch.rand_like(x) - 0.5 if self.training else x.round()

    def _rounded(self, residual: Tensor, log_scale: Tensor) -> Tensor:
        """Residuals as encoders round them; the gradient passes straight through."""
        if not self.deadzone:
            return round_ste(residual)
        with torch.no_grad():
            low, step = self.log_scale_bounds()[0], self.config.log_scale_step
            index = ((log_scale - low) / step).round_().clamp_(0, SCALE_LEVELS - 1).long()
            threshold = thresholds_by_index(self.config).to(index.device)[index] * self.deadzone
            rounded = round_towards_zero(residual, threshold)
        return straight_through(residual, rounded)
