"""Read and write TOML; the standard library only reads it, and not before Python 3.11."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from typing import Any

from aecodec.errors import needing


def loads(text: str) -> dict[str, Any]:
    """Parse TOML.

    Raises:
        ValueError: not TOML.
        MissingDependencyError: on Python 3.10 without tomli.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        with needing("train", "reading TOML on Python 3.10"):
            import tomli as tomllib
    return dict(tomllib.loads(text))


def dumps(values: Mapping[str, Any]) -> str:
    """Write a config as TOML: plain keys first, then one section for every mapping.

    Knows what configs hold: text, numbers, booleans, lists and mappings.
    """
    sections = {key: value for key, value in values.items() if isinstance(value, Mapping)}
    lines = [f"{_key(k)} = {_value(v)}" for k, v in values.items() if k not in sections]
    for name, section in sections.items():
        if not section:
            continue
        lines += ["", f"[{_key(name)}]", *(f"{_key(k)} = {_value(v)}" for k, v in section.items())]
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _text(name)


def _text(value: str) -> str:
    # JSON escapes all that TOML wants escaped, but for this one
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)  # of a float it is the shortest text that gives it back, also inf and nan
