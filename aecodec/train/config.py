"""Training configs: TOML in, one frozen dataclass out."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aecodec.errors import InputError, TrainingError, cause_of
from aecodec.model.bottleneck_config import FAMILY as BOTTLENECK
from aecodec.model.bottleneck_config import BottleneckConfig
from aecodec.model.config import FAMILY as HYPERPRIOR
from aecodec.model.config import ModelConfig
from aecodec.train import toml
from aecodec.train.augment import AugmentConfig
from aecodec.train.losses import LossConfig
from aecodec.train.prepare import DataConfig
from aecodec.train.sections import build, check_names, typed

FAMILIES = (HYPERPRIOR, BOTTLENECK)
OPTIMISERS = ("muon", "adamw", "adam", "sgd", "lion")
SCHEDULES = ("cosine", "constant", "step", "plateau")
PRECISIONS = ("auto", "float32", "bfloat16")

#: Keys that mean nothing to the other family, and are refused there.
_OF_FAMILY = {
    HYPERPRIOR: (
        "patch",
        "table_rate",
        "linear_rate",
        "deadzone",
        "quality_power",
        "sampling",
        "validation_fraction",
    ),
    BOTTLENECK: ("augment",),
}
_PATCHES_DATA = ("bits", "maximum", "invalid")  # of [data], what the hyperprior looks at
_SECTIONS = {"data": DataConfig, "augment": AugmentConfig, "loss": LossConfig}
_SHARED = ("height", "width", "channels", "bits")  # by [data] and the [model] of a bottleneck
_MOST_WEIGHT = 1_000_000_000  # of an image in [sampling]; what draws them computes in float32
_POSITIVE = (
    "steps",
    "batch",
    "validate_every",
    "plateau_patience",
    "learning_rate",
    "quality_power",
)
_NOT_NEGATIVE = (
    "minutes",
    "weight_decay",
    "final_learning_rate",
    "decay",
    "warmup",
    "table_rate",
    "linear_rate",
    "clip",
    "early_stopping",
    "checkpoint_minutes",
    "checkpoint_every",
    "keep_checkpoints",
)


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training run, apart from the images and the clock.

    Raises:
        TrainingError: a value out of its range, or two that do not go together.
    """

    family: str = HYPERPRIOR  # or "bottleneck"
    model: ModelConfig | BottleneckConfig = field(default_factory=ModelConfig)
    seed: int = 1
    steps: int = 200_000  # length of the schedule, unless minutes are given
    minutes: float = 0.0  # length of the schedule in minutes of training; 0: steps count
    batch: int = 8  # images a step, of each process
    patch: int = 256  # side of a patch in pixels, a multiple of 64; hyperprior
    optimiser: str = "muon"  # with Adam for the rest; or "adamw", "adam", "sgd", "lion"
    learning_rate: float = 6e-4  # of Muon and Adam alike
    momentum: float = 0.9  # of SGD
    weight_decay: float = 0.0  # decoupled (but of SGD), on weights with two or more dimensions
    schedule: str = "cosine"  # or "constant", "step", "plateau"
    final_learning_rate: float = 0.02  # where cosine and plateau end at the latest, as a fraction
    milestones: tuple[float, ...] = (0.5, 0.75)  # of the run's length, where "step" cuts
    decay: float = 0.1  # "step" and "plateau" cut the learning rate to this fraction
    plateau_patience: int = 5  # validations without improvement before "plateau" cuts
    warmup: int = 100  # steps
    table_rate: float = 8.0  # times the learning rate, for per-quality tables and the z prior
    linear_rate: float = 0.5  # times the learning rate, for the linear path
    train_only: tuple[str, ...] = ()  # how names of parameters begin that are trained; (): all
    deadzone: float = 0.0  # how strongly residuals round to zero, as by an encoder; hyperprior
    quality_power: float = 1.0  # qualities are 7 uᵖ, u uniform: over 1, more low ones; hyperprior
    clip: float = 1.0  # global gradient norm; 0: none
    ema: float = 0.999  # decay of the moving average of the weights; 0: none
    precision: str = "auto"  # "float32", "bfloat16", or "auto": bfloat16 where it is fast
    validate_every: int = 1000  # steps
    early_stopping: int = 0  # validations without improvement before it stops; 0: never
    checkpoint_minutes: float = 5.0  # between two `last.safetensors`
    checkpoint_every: int = 10_000  # steps between two `checkpoint-STEP.safetensors`; 0: none
    keep_checkpoints: int = 3  # of the latter, the newest
    sampling: dict[str, float] = field(default_factory=dict)  # name pattern -> weight (else 1)
    validation_fraction: float = 0.02  # of the images, by hash of the name; hyperprior
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    tune: dict[str, Any] = field(default_factory=dict)  # search space, see `aecodec tune`

    def __post_init__(self) -> None:
        for name, known in (
            ("family", FAMILIES),
            ("optimiser", OPTIMISERS),
            ("schedule", SCHEDULES),
            ("precision", PRECISIONS),
        ):
            if getattr(self, name) not in known:
                raise TrainingError(
                    f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}"
                )
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise TrainingError(f"{name} must be positive, not {getattr(self, name)}")
        for name in _NOT_NEGATIVE:
            if not getattr(self, name) >= 0:
                raise TrainingError(f"{name} must not be negative, not {getattr(self, name)}")
        for name in ("ema", "validation_fraction", "momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise TrainingError(f"{name} must be from 0 to below 1, not {getattr(self, name)}")
        if not 0 <= self.deadzone <= 1:
            raise TrainingError(f"deadzone must be from 0 to 1, not {self.deadzone}")
        if self.patch % 64 or self.patch <= 0:
            raise TrainingError(f"patch must be a positive multiple of 64, not {self.patch}")
        self._check_family()

    def _check_family(self) -> None:
        """Refuse keys that the family would not look at."""
        fields = {f.name: f for f in dataclasses.fields(self)}
        for family, names in _OF_FAMILY.items():
            for name in names if family != self.family else ():
                make = fields[name].default_factory
                default = fields[name].default if make is dataclasses.MISSING else make()
                if getattr(self, name) != default:
                    raise TrainingError(f"'{name}' is for the family {family}, not {self.family}")
        for f in dataclasses.fields(DataConfig) if self.family == HYPERPRIOR else ():
            if f.name not in _PATCHES_DATA and getattr(self.data, f.name) != f.default:
                raise TrainingError(
                    f"'{f.name}' in [data] is for the family {BOTTLENECK}, not {HYPERPRIOR}"
                )
        if self.family == HYPERPRIOR:
            _check_scale(self.data)
        if self.loss.kl and not getattr(self.model, "variational", False):
            raise TrainingError("'kl' in [loss] needs a bottleneck with variational = true")

    def to_dict(self) -> dict[str, Any]:
        """The keys that the family looks at, as `from_dict` takes them."""
        other = next(family for family in FAMILIES if family != self.family)
        values = dataclasses.asdict(self)
        return {key: value for key, value in values.items() if key not in _OF_FAMILY[other]}

    def to_json(self) -> str:
        """Serialise as one line of JSON, for the metadata of a checkpoint."""
        return json.dumps(self.to_dict(), sort_keys=True)

    def to_toml(self) -> str:
        """Serialise as a config file, which `load` gives back."""
        return toml.dumps(self.to_dict())

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Build from a mapping.

        Raises:
            TrainingError: an unknown key (the nearest valid name is given) or a bad value.
        """
        values = dict(values)
        check_names(values, [f.name for f in dataclasses.fields(cls)])
        family = values.get("family", HYPERPRIOR)
        if family not in FAMILIES:  # before its sections are taken for another's
            raise TrainingError(f"family must be one of {', '.join(FAMILIES)}, not {family!r}")
        if family == BOTTLENECK:
            model, values["data"] = _shared(values.get("model", {}), values.get("data", {}))
            values["model"] = build(BottleneckConfig, model, "model")
        else:
            values["model"] = build(ModelConfig, values.get("model", {}), "model")
        for name, section in _SECTIONS.items():
            values[name] = build(section, values.get(name, {}), name)
        sampling = values.get("sampling", {})
        if not isinstance(sampling, Mapping) or not all(
            type(weight) in (int, float) and 0 <= weight <= _MOST_WEIGHT
            for weight in sampling.values()
        ):
            raise TrainingError(
                f"[sampling] gives each pattern of file names a weight from 0 to {_MOST_WEIGHT:,}"
            )
        return cls(**typed(cls, values))

    @classmethod
    def load(cls, path: Path) -> TrainConfig:
        """Read a TOML file.

        Raises:
            InputError: the file cannot be read.
            TrainingError: it is not TOML, or has bad keys.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {cause_of(error)}") from error
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not a text file") from error
        try:
            return cls.from_dict(toml.loads(text))
        except (ValueError, TrainingError) as error:
            raise TrainingError(f"{path}: {error}") from error


def _check_scale(data: DataConfig) -> None:
    """Refuse a scale of samples that the codec would not code images of the hyperprior at.

    Raises:
        TrainingError: a maximum or an invalid value, but not of depth; see `aecodec.depth`.
    """
    if data.bits == 16 and data.invalid == 0:
        return
    for key, given, taken in (
        ("maximum", data.maximum, 2**data.bits - 1),
        ("invalid", data.invalid, -1),
    ):
        if given != taken:
            raise TrainingError(
                f"'{key}' in [data] is {given}, which the family {HYPERPRIOR} takes only of "
                f"depth, with bits = 16 and invalid = 0; of all else it is {taken}"
            )


def _shared(model: Any, data: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Sections [model] and [data] of a bottleneck, each with the size that either gives.

    Raises:
        TrainingError: they contradict each other.
    """
    for name, section in (("model", model), ("data", data)):
        if not isinstance(section, Mapping):
            raise TrainingError(f"[{name}] must be a section of keys, not {section!r}")
    model, data = dict(model), dict(data)
    for key in _SHARED:
        default = getattr(BottleneckConfig, key)
        of_data = data.get(key) or model.get(key, default)  # a height of 0 leaves it open
        if model.setdefault(key, of_data) != of_data:
            raise TrainingError(
                f"{key} is {model[key]!r} in [model], but {of_data!r} in [data]; say it once"
            )
        data[key] = of_data
    return model, data
