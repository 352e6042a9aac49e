"""The search space of `aecodec tune`: the section [tune] of a config, checked."""

from __future__ import annotations

import difflib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aecodec.errors import AecError, TrainingError
from aecodec.train.config import TrainConfig

if TYPE_CHECKING:
    from optuna import Trial

#: Keys that decide what is trained on or measured: trials could not be compared.
_FIXED = ("family", "patch", "validation_fraction")
_FIXED_SECTIONS = ("data", "sampling")
_FIXED_OF_MODEL = ("height", "width", "channels", "bits")

_SPEC = ("low", "high", "log", "step", "choices")
_COMBINATIONS = 500  # looked at, at most, to see whether a value can be used at all


@dataclass(frozen=True)
class Parameter:
    """One dotted key of the config, and the values it may take.

    Attributes:
        key: such as "model.latent_dim".
        low, high: the range, both ends included; None with choices.
        whole: whether the values of the range are whole numbers.
        log: whether the range is sampled by its logarithm.
        step: the distance between values of the range; None: any.
        choices: the values; empty with a range.
    """

    key: str
    low: float | None = None
    high: float | None = None
    whole: bool = False
    log: bool = False
    step: float | None = None
    choices: tuple[Any, ...] = ()

    def suggest(self, trial: Trial) -> Any:
        """The value that a trial of Optuna gets."""
        if self.low is None or self.high is None:
            names = [_name(choice) for choice in self.choices]
            return self.value(trial.suggest_categorical(self.key, names))
        if self.whole:
            low, high, step = int(self.low), int(self.high), int(self.step or 1)
            return trial.suggest_int(self.key, low, high, step=step, log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, step=self.step, log=self.log)

    def value(self, stored: Any) -> Any:
        """The value in the config, of the one that Optuna stores."""
        if not self.choices:
            return stored
        return next(choice for choice in self.choices if _name(choice) == stored)

    def extremes(self) -> tuple[Any, ...]:
        """The choices, or the ends of the range."""
        return self.choices or (self.low, self.high)


def _name(choice: Any) -> Any:
    """A choice as Optuna can store it: lists as text."""
    return json.dumps(choice) if isinstance(choice, list) else choice


def parameters(config: TrainConfig) -> tuple[Parameter, ...]:
    """The search space of a config.

    Raises:
        TrainingError: no [tune], an unknown key (the nearest valid one is given), or values that
            the key cannot have.
    """
    if not config.tune:
        raise TrainingError("there is no section [tune], which says what to try")
    known = _flat(config.to_dict())
    found = tuple(
        _parameter(key, spec, _default(key, known)) for key, spec in _entries(config.tune)
    )
    for parameter in found:
        for value in parameter.extremes():
            _check_usable(config, found, parameter, value)
    return found


def apply(config: TrainConfig, values: Mapping[str, Any]) -> TrainConfig:
    """The config with other values for some dotted keys, and without its search space.

    Raises:
        TrainingError: the values do not go together.
    """
    changed = {key: value for key, value in config.to_dict().items() if key != "tune"}
    for key, value in values.items():
        section, _, name = key.rpartition(".")
        if section:
            changed[section] = {**changed[section], name: value}
        else:
            changed[name] = value
    return TrainConfig.from_dict(changed)


def metrics(config: TrainConfig, space: Sequence[Parameter]) -> list[str]:
    """What validations measure with some of the values of a search space."""
    from aecodec.train.tasks import metrics as measured

    found = dict.fromkeys(measured(config))
    for one in space:
        for value in one.extremes():
            with suppress(TrainingError):  # it may need another value of another key
                found |= dict.fromkeys(measured(apply(config, {one.key: value})))
    return list(found)


def _entries(tune: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys, be they written as `"model.latent_dim" = …` or without the quotes."""
    for key, value in tune.items():
        nested = isinstance(value, Mapping) and any(isinstance(v, Mapping) for v in value.values())
        if nested:
            yield from _entries(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """All keys of a config that can be tuned, dotted, with their present values."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if not prefix and key in ("tune", *_FIXED, *_FIXED_SECTIONS):
            continue
        if prefix == "model." and key in _FIXED_OF_MODEL:
            continue
        if isinstance(value, Mapping):
            found |= _flat(value, f"{key}.")
        else:
            found[prefix + key] = value
    return found


def _default(key: str, known: Mapping[str, Any]) -> Any:
    if key in known:
        return known[key]
    section, _, name = key.rpartition(".")
    fixed = key in _FIXED or section in _FIXED_SECTIONS
    if fixed or (section == "model" and name in _FIXED_OF_MODEL):
        raise TrainingError(f"'{key}' in [tune]: trials would be measured on other images")
    # a key without its section is nearest to the one with it
    same = [one for one in known if one.rpartition(".")[2] == name]
    close = same or difflib.get_close_matches(key, known, n=1, cutoff=0)
    raise TrainingError(f"unknown key '{key}' in [tune]; did you mean '{close[0]}'?")


def _parameter(key: str, spec: Any, default: Any) -> Parameter:
    where = f"'{key}' in [tune]"
    if not isinstance(spec, Mapping):
        raise TrainingError(f"{where} needs {{low = …, high = …}} or {{choices = […]}}")
    for name in spec:
        if name not in _SPEC:
            close = difflib.get_close_matches(name, _SPEC, n=1, cutoff=0)[0]
            raise TrainingError(f"{where}: unknown '{name}'; did you mean '{close}'?")
    if "choices" in spec:
        choices = spec["choices"]
        if len(spec) > 1 or not isinstance(choices, list) or not choices:
            raise TrainingError(f"{where}: choices are a list, without low, high, log or step")
        return Parameter(key, choices=tuple(choices))
    return _range(key, dict(spec), default, where)


def _range(key: str, spec: dict[str, Any], default: Any, where: str) -> Parameter:
    whole = type(default) is int
    if type(default) not in (int, float):
        raise TrainingError(f"{where} is no number: give choices")
    if "low" not in spec or "high" not in spec:
        raise TrainingError(f"{where} needs both low and high")
    low, high, step = spec["low"], spec["high"], spec.get("step")
    log = spec.get("log", False)
    for name, value in (("low", low), ("high", high), ("step", step)):
        wanted = (int,) if whole else (int, float)
        if value is not None and type(value) not in wanted:
            kind = "a whole number" if whole else "a number"
            raise TrainingError(f"{where}: {name} must be {kind}, not {value!r}")
    problems = {
        "low is above high": low > high,
        "log is true or false": type(log) is not bool,
        "step must be positive": step is not None and step <= 0,
        "log and step exclude each other": bool(log) and step is not None,
        "log needs low above 0": bool(log) and low <= 0,
    }
    for problem, there in problems.items():
        if there:
            raise TrainingError(f"{where}: {problem}")
    return Parameter(key, low, high, whole, log, step)


def _check_usable(
    config: TrainConfig, space: tuple[Parameter, ...], parameter: Parameter, value: Any
) -> None:
    """A value must be fine with the config as it is, or with some values of other keys.

    Raises:
        TrainingError: it never is.
    """
    others = [one for one in space if one is not parameter]
    problem: AecError | None = None
    combinations = itertools.product(*(one.extremes() for one in others))
    first: tuple[Any, ...] = ()
    for chosen in itertools.islice(itertools.chain([first], combinations), _COMBINATIONS):
        values = {one.key: v for one, v in zip(others, chosen, strict=False)}
        try:
            apply(config, {**values, parameter.key: value})
        except AecError as error:
            problem = problem or error
        else:
            return
    raise TrainingError(f"'{parameter.key}' in [tune] cannot be {value!r}: {problem}")
