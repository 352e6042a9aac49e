"""The shape of a bottleneck autoencoder, as one dataclass that its weights carry along."""

from __future__ import annotations

import dataclasses
import difflib
import json
from dataclasses import dataclass
from typing import Any

from aecodec.errors import WeightsError

FAMILY = "bottleneck"

BLOCKS = ("plain", "separable", "dilated")
NORMS = ("none", "batch", "group")
UPSAMPLING = ("transposed", "shuffle")

_MIN_SIDE, _MAX_SIDE = 8, 4096


@dataclass(frozen=True)
class BottleneckConfig:
    """Everything that decides the shape of a model's tensors and what it takes and gives.

    Every stage halves both sides; images whose sides are no multiple of 2^stages are
    padded inside.

    Raises:
        WeightsError: a value out of its range, or two that exclude each other.
    """

    height: int = 64  # of the images, in pixels
    width: int = 64
    channels: int = 3  # 1 (gray) or 3 (RGB)
    bits: int = 8  # bits a sample of the images it codes, 8 or 16
    latent_dim: int = 128  # length of the latent vector
    widths: tuple[int, ...] = (32, 64, 128, 256)  # features of each stage; their number is free
    residual_blocks: int = 1  # in each stage, each way
    block: str = "plain"  # two 3×3; "separable": depthwise; "dilated": three dilations side by side
    norm: str = "none"  # "batch" or "group" normalisation in stages and blocks
    attention: bool = False  # self-attention over the positions of the smallest feature map
    upsampling: str = "transposed"  # kernel 4, stride 2; or "shuffle": pixel shuffle
    bottleneck_features: int = 8192  # at most so many values meet the linear map to the vector
    variational: bool = False  # a distribution over vectors instead of a vector
    skips: bool = False  # from encoder to decoder, past the vector: for reconstruction only

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            _within(name, getattr(self, name), _MIN_SIDE, _MAX_SIDE)
        _one_of("channels", self.channels, (1, 3))
        _one_of("bits", self.bits, (8, 16))
        _within("latent_dim", self.latent_dim, 1, 65536)
        _within("number of widths", len(self.widths), 1, 8)
        for width in self.widths:
            _within("widths", width, 1, 4096)
        _within("residual_blocks", self.residual_blocks, 0, 64)
        _within("bottleneck_features", self.bottleneck_features, 1, 1 << 20)
        _one_of("block", self.block, BLOCKS)
        _one_of("norm", self.norm, NORMS)
        _one_of("upsampling", self.upsampling, UPSAMPLING)
        if self.skips and self.variational:
            raise WeightsError("skips and variational exclude each other: skips bypass the vector")

    @property
    def stride(self) -> int:
        """Pixels of the image per position of the smallest feature map, each way."""
        return int(2 ** len(self.widths))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images."""
        return self.channels, self.height, self.width

    def to_json(self) -> str:
        """Serialise as one line of JSON, with the family, for the metadata of a weights file."""
        return json.dumps({"family": FAMILY, **dataclasses.asdict(self)}, sort_keys=True)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> BottleneckConfig:
        """Build from a mapping as read from JSON or TOML.

        Raises:
            WeightsError: an unknown key (the nearest valid name is given) or a bad value.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        fixed: dict[str, Any] = {}
        for key, value in values.items():
            if key not in fields:
                close = difflib.get_close_matches(key, fields, n=1, cutoff=0)
                raise WeightsError(f"unknown key '{key}' in [model]; did you mean '{close[0]}'?")
            fixed[key] = _typed(key, value, str(fields[key].type))
        return cls(**fixed)

    @classmethod
    def from_json(cls, text: str) -> BottleneckConfig:
        """Parse what `to_json` wrote.

        Raises:
            WeightsError: not JSON, another family, or as `from_dict`.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise WeightsError(f"model config is not JSON: {error}") from error
        if not isinstance(values, dict) or values.pop("family", None) != FAMILY:
            raise WeightsError(f"model config is not one of the {FAMILY} family")
        return cls.from_dict(values)


def _typed(key: str, value: Any, wanted: str) -> Any:
    """The value as its field wants it; TOML and JSON know lists alone."""
    if wanted.startswith("tuple"):
        if isinstance(value, list | tuple) and all(type(v) is int for v in value):
            return tuple(value)
        raise WeightsError(f"{key} in [model] must be a list of integers, not {value!r}")
    if type(value).__name__ != wanted:
        raise WeightsError(f"{key} in [model] must be of type {wanted}, not {value!r}")
    return value


def _within(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise WeightsError(f"{name} in [model] must lie within {low}..{high}, not {value}")


def _one_of(name: str, value: object, known: tuple[object, ...]) -> None:
    if value not in known:
        names = ", ".join(map(str, known))
        raise WeightsError(f"{name} in [model] must be one of {names}, not {value!r}")
