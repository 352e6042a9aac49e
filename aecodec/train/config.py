"""Training configs: TOML in, one frozen dataclass out."""

from __future__ import annotations

import dataclasses
import difflib
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import MissingDependencyError, TrainingError
from ..model.config import ModelConfig


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training run, apart from the images and the clock."""

    model: ModelConfig = field(default_factory=ModelConfig)
    seed: int = 1
    steps: int = 200_000  # length of the schedule, unless minutes are given
    batch: int = 8  # patches a step
    patch: int = 256  # side of a patch in pixels, a multiple of 64
    learning_rate: float = 6e-4  # of Muon and Adam alike
    final_learning_rate: float = 0.02  # where the cosine ends, as a fraction
    warmup: int = 100  # steps
    table_rate: float = 8.0  # times the learning rate, for per-quality tables and the z prior
    linear_rate: float = 0.5  # times the learning rate, for the linear path
    clip: float = 1.0  # global gradient norm
    ema: float = 0.999
    precision: str = "auto"  # "float32", "bfloat16", or "auto": bfloat16 where it is fast
    validate_every: int = 1000  # steps
    checkpoint_minutes: float = 5.0
    sampling: dict[str, float] = field(default_factory=dict)  # name pattern -> weight (else 1)
    validation_fraction: float = 0.02  # of the images, by hash of the name

    def to_json(self) -> str:
        """Serialise as one line of JSON, for the metadata of a checkpoint."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainConfig:
        """Build from a mapping.

        Raises:
            TrainingError: an unknown key (the nearest valid name is given) or a bad value.
        """
        values = dict(values)
        known = [f.name for f in dataclasses.fields(cls)]
        for key in values:
            if key not in known:
                close = difflib.get_close_matches(key, known, n=1, cutoff=0)
                raise TrainingError(f"unknown config key '{key}'; did you mean '{close[0]}'?")
        values["model"] = ModelConfig.from_dict(values.get("model", {}))
        config = cls(**values)
        if config.patch % 64 or config.patch <= 0:
            raise TrainingError(f"patch must be a positive multiple of 64, not {config.patch}")
        if config.precision not in ("auto", "float32", "bfloat16"):
            raise TrainingError(f"unknown precision '{config.precision}'")
        return config

    @classmethod
    def load(cls, path: Path) -> TrainConfig:
        """Read a TOML file.

        Raises:
            TrainingError: the file is missing, not TOML, or has bad keys.
        """
        try:
            text = path.read_text()
        except OSError as error:
            raise TrainingError(f"{path}: cannot be read: {error.strerror}") from error
        try:
            return cls.from_dict(_parse_toml(text))
        except (ValueError, TrainingError) as error:
            raise TrainingError(f"{path}: {error}") from error


def _parse_toml(text: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        try:
            import tomli as tomllib
        except ImportError as error:
            raise MissingDependencyError(
                "reading TOML on Python 3.10 needs tomli: pip install 'aecodec[train]'"
            ) from error
    return dict(tomllib.loads(text))
