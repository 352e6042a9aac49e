"""Results as JSON: plain values, and null for numbers that JSON has no word for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def plain(value: Any, digits: int | None = None) -> Any:
    """The same as JSON takes it: arrays become lists, paths text, NaN and infinities None.

    Args:
        value: mappings, sequences, arrays, paths, numbers, text, None.
        digits: significant ones that are kept of floats; None keeps all.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item, digits) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist(), digits)
    if isinstance(value, list | tuple):
        return [plain(item, digits) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return value if digits is None else float(f"{value:.{digits}g}")
    return value


def as_json(value: Any, digits: int | None = None) -> str:
    """JSON with a final newline; see `plain`."""
    text = json.dumps(plain(value, digits), indent=1, allow_nan=False, ensure_ascii=False)
    return text.encode(errors="backslashreplace").decode() + "\n"  # \udcff: no text, but JSON
