"""What models are read from besides weights files: the checkpoints of training, in run folders.

Their tensors are `model.*` and, averaged over the last steps, `ema.*`; all else that they
hold is for `aecodec.train.checkpoint`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from aecodec.errors import UnknownModelError, WeightsError

if TYPE_CHECKING:
    from torch import Tensor

_CHECKPOINTS = ("best.safetensors", "last.safetensors")


def checkpoint_in(path: Path) -> Path:
    """The model of a run folder: its `best.safetensors`, else its `last.safetensors`.

    Args:
        path: the folder; any other path is given back as it is.

    Raises:
        UnknownModelError: the folder has neither.
    """
    for name in _CHECKPOINTS:
        if (path / name).is_file():
            return path / name
    if path.is_dir():
        raise UnknownModelError(f"{path}: neither {' nor '.join(_CHECKPOINTS)} is in this folder")
    return path


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file; tensors are not read.

    Raises:
        WeightsError: it cannot be read, or is not such a file.
    """
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: not a usable safetensors file: {error}") from error


def read_tensors(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """The tensors of a safetensors file whose names begin with the prefix, which is removed.

    Raises:
        WeightsError: it cannot be read, or is not such a file.
    """
    try:
        with safe_open(path, "pt") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
            return {name[len(prefix) :]: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: not a usable safetensors file: {error}") from error


def training_of(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """What a checkpoint says of its run: the `config`, a mapping, and how far it had come.

    Args:
        path: the checkpoint, for messages.
        metadata: as from `read_metadata`.

    Raises:
        WeightsError: not a checkpoint's metadata, or malformed ones.
    """
    if "aecodec" not in metadata:
        raise WeightsError(f"{path}: not a checkpoint: it holds no state of training")
    try:
        found = json.loads(metadata["aecodec"])
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: not a usable checkpoint: {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get("config"), dict):
        raise WeightsError(f"{path}: not a usable checkpoint: it does not say its config")
    return found
