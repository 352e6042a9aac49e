"""The shape of a model, as one dataclass that its weights carry along."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from aecodec.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

Number = TypeVar("Number", float, "Tensor")

FAMILY = "hyperprior"

QUALITY_ROWS = 8
"""Anchor rows of every per-quality table; quality runs continuously over [0, 7]."""

SCALE_LEVELS = 64
"""Number of scale indices, and of frequency tables for the residuals of y."""

_LEAST = {
    **dict.fromkeys(("analysis_blocks", "synthesis_blocks", "context_blocks"), 0),
    **dict.fromkeys(("synthesis_inner", "context_inner", "scale_context_width"), 0),
    **dict.fromkeys(("width_8", "width_16", "hyper_width", "context_width"), 2),  # halved
}
"""The least that whole numbers of a config may be, where it is not 1."""


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides the shape of a model's tensors.

    Strides are fixed: features live on grids of 1/8 and 1/16 of the picture, y on
    1/16, z on 1/64.
    """

    latent_channels: int = 320  # channels of y
    hyper_channels: int = 128  # channels of z
    width_8: int = 128  # features at 1/8 resolution
    width_16: int = 256  # features at 1/16 resolution
    analysis_blocks: tuple[int, int] = (4, 3)  # residual blocks at 1/8 and at 1/16
    synthesis_blocks: tuple[int, int] = (5, 3)  # the same, on the way back
    synthesis_inner: tuple[int, int] = (0, 0)  # inner width of these; 0: half of the features
    hyper_width: int = 128  # hidden width of the hyper transforms
    context_width: int = 192
    context_blocks: tuple[int, ...] = (1, 1, 1, 1)  # residual blocks in each context pass
    context_inner: int = 0  # inner width of these; 0: half of context_width
    scale_width: int = 96  # hidden width of the exact scale head
    scale_context_width: int = 0  # of its context passes; 0: scales come from ẑ alone
    lambda_min: float = 0.0005  # rate-distortion trade-off at quality 0
    lambda_max: float = 0.32  # and at quality 7
    scale_min: float = 0.11  # standard deviation at scale index 0
    scale_max: float = 256.0  # and at the last index

    @property
    def passes(self) -> int:
        """Number of context passes: 1, 2 or 4."""
        return len(self.context_blocks)

    @property
    def scale_passes(self) -> int:
        """Number of groups that y is coded in, each with scales of its own."""
        return self.passes if self.scale_context_width else 1

    @property
    def log_scale_step(self) -> float:
        """Distance of two neighbouring scale indices in natural-log units."""
        return math.log(self.scale_max / self.scale_min) / (SCALE_LEVELS - 1)

    def lambda_at(self, quality: Number) -> Number:
        """λ at continuous qualities in [0, 7]; the loss is λ·255²·MSE + bits per pixel."""
        ratio = self.lambda_max / self.lambda_min
        found: Number = self.lambda_min * ratio ** (quality / (QUALITY_ROWS - 1))
        return found

    def to_json(self) -> str:
        """Serialise as one line of JSON, for the metadata of a weights file."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """Build from a mapping as read from JSON or TOML.

        Raises:
            WeightsError: unknown names, numbers that are too small, a number of passes that is
                not 1, 2 or 4, channels of y that are not a multiple of it, not both of a pair,
                or a range without width.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise WeightsError(f"model config has unknown keys: {', '.join(unknown)}")
        fixed: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in values.items()
        }
        _check_numbers(fixed)
        for name in ("analysis_blocks", "synthesis_blocks", "synthesis_inner"):
            value = fixed.get(name, (0, 0))
            if not isinstance(value, tuple) or len(value) != 2:
                raise WeightsError(f"{name} must have 2 entries, at 1/8 and at 1/16")
        config = cls(**fixed)
        if config.passes not in (1, 2, 4):
            raise WeightsError(f"context_blocks must have 1, 2 or 4 entries, not {config.passes}")
        if config.latent_channels % config.passes:
            raise WeightsError(f"latent_channels must be a multiple of {config.passes} passes")
        for low, high in (("scale_min", "scale_max"), ("lambda_min", "lambda_max")):
            if not getattr(config, low) < getattr(config, high) < math.inf:
                raise WeightsError(f"{high} must be a number above {low}")
        return config

    @classmethod
    def from_json(cls, text: str) -> ModelConfig:
        """Parse what `to_json` wrote.

        Raises:
            WeightsError: not JSON, not an object, or unknown names.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise WeightsError(f"model config is not JSON: {error}") from error
        if not isinstance(values, dict):
            raise WeightsError("model config is not a JSON object")
        return cls.from_dict(values)


def _check_numbers(values: dict[str, Any]) -> None:
    for name, value in values.items():
        for number in value if isinstance(value, tuple) else (value,):
            least = _LEAST.get(name, 1)
            if isinstance(number, int) and number < least:
                raise WeightsError(f"{name} must be at least {least}, not {number}")
            if isinstance(number, float) and not number > 0:
                raise WeightsError(f"{name} must be positive, not {number}")
