"""Sections of a config: mappings in, dataclasses out, and every mistake named."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from aecodec.errors import AecError, TrainingError

T = TypeVar("T")


def build(cls: type[T], values: object, section: str) -> T:
    """A dataclass from the keys of one section.

    Args:
        cls: a dataclass; one with `from_dict` is built by that, so that it checks itself.
        values: mapping of field names, as TOML or JSON give it.
        section: what messages call it.

    Raises:
        TrainingError: an unknown key (the nearest valid name is given), or a value of the
            wrong type or out of range.
    """
    fixed = typed(cls, values, section)
    try:
        made: T = getattr(cls, "from_dict", lambda known: cls(**known))(fixed)
    except TrainingError:
        raise
    except AecError as error:  # of the models' own errors, which are about weights files
        raise TrainingError(str(error)) from error
    return made


def typed(cls: type, values: object, section: str = "") -> dict[str, Any]:
    """The values as the fields of a dataclass want them, each name and type checked.

    Raises:
        TrainingError: see `build`.
    """
    if not isinstance(values, Mapping):
        raise TrainingError(f"[{section}] must be a section of keys, not {values!r}")
    check_names(values, [field.name for field in dataclasses.fields(cls)], section)
    hints = typing.get_type_hints(cls)
    where = f" in [{section}]" if section else ""
    return {key: _typed(value, hints[key], f"{key}{where}") for key, value in values.items()}


def check_names(given: Iterable[str], known: list[str], section: str = "") -> None:
    """Refuse a name that is not among the known ones, and say which is nearest.

    Raises:
        TrainingError: an unknown name.
    """
    for key in given:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1, cutoff=0)
            where = f" in [{section}]" if section else ""
            raise TrainingError(f"unknown config key '{key}'{where}; did you mean '{close[0]}'?")


def _typed(value: Any, wanted: Any, name: str) -> Any:
    """The value as its field wants it: TOML has no tuples, and writes 1 for 1.0."""
    origin = typing.get_origin(wanted)
    if origin is tuple:
        item = typing.get_args(wanted)[0]
        if isinstance(value, list | tuple):
            return tuple(_typed(v, item, f"each of {name}") for v in value)
        raise TrainingError(f"{name} must be a list, not {value!r}")
    if wanted is float and type(value) is int:
        return float(value)
    expected = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    if wanted in expected and type(value) is not wanted:
        raise TrainingError(f"{name} must be {expected[wanted]}, not {value!r}")
    return value
