"""Weights files: one safetensors file a model, found by name or by path.

A file holds the network in half precision (`net.*`), the scale head in integers
(`scale_head.*`) and the frequency tables (`tables.*`); its metadata holds the config.
The identity of a model is the first 8 bytes of the SHA-256 over its tensors, in order
of their names: name, dtype, shape and little-endian data of each.

Finding and listing models does not import torch. An identity takes reading the whole file; a
name does not.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aecodec.errors import OutputError, UnknownModelError, WeightsError, cause_of
from aecodec.model.config import FAMILY as HYPERPRIOR
from aecodec.output import write_bytes

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("aecodec")

FORMAT = "aecodec-weights-1"

_MAX_HEADER = 1 << 20


@dataclass(frozen=True)
class ModelInfo:
    """One weights file, as its header describes it.

    Attributes:
        name: file name without extension, as given to `--model`.
        id: 16 hexadecimal digits, the identity that `.aec` files carry.
        path: the file.
        description: one line.
        meta: all metadata of the file.
    """

    name: str
    id: str
    path: Path
    description: str = ""
    meta: dict[str, str] = field(default_factory=dict)

    @property
    def family(self) -> str:
        """What kind of model it is: "hyperprior" or "bottleneck"."""
        try:
            config = json.loads(self.meta.get("config", ""))
        except ValueError:
            return HYPERPRIOR  # whose reader says what is wrong
        return str(config.get("family", HYPERPRIOR)) if isinstance(config, dict) else HYPERPRIOR


def _folders() -> list[Path]:
    """Inside an installed package, or at the top of a checkout."""
    package = Path(__file__).resolve().parent.parent
    return [package / "weights", package.parent / "weights"]


def _installed() -> dict[str, Path]:
    """The weights files there are, by name."""
    found: dict[str, Path] = {}
    for folder in _folders():
        for path in sorted(folder.glob("*.safetensors")):
            found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def available_models() -> list[ModelInfo]:
    """The installed models, by name; files that are damaged are left out with a warning."""
    found = []
    for path in _installed().values():
        try:
            found.append(read_info(path))
        except WeightsError as error:
            log.warning("%s", error)
    return found


def find_model(model: str | os.PathLike[str]) -> Path:
    """The file of a model given by name, by identity, or by path.

    Raises:
        UnknownModelError: none of these exists.
    """
    path = Path(model)
    if path.suffix == ".safetensors":
        if path.is_file():
            return path
        raise UnknownModelError(f"{path}: no such weights file")
    files = _installed()
    if str(model) in files:
        return files[str(model)]
    for info in available_models():
        if str(model) == info.id:
            return info.path
    if path.is_file():
        raise UnknownModelError(f"{path}: weights files are called .safetensors")
    known = ", ".join(files) or "none"
    raise UnknownModelError(f"no model named '{model}' is installed (installed: {known})")


def check_target(path: Path) -> None:
    """See, before the work, that a weights file will be taken for one.

    Raises:
        OutputError: by its name it would not be.
    """
    if path.suffix != ".safetensors":
        raise OutputError(f"{path}: weights files are called .safetensors")


def read_info(path: Path) -> ModelInfo:
    """Name, identity and metadata of a weights file.

    Raises:
        WeightsError: not a weights file of aecodec, or a damaged one.
    """
    try:
        stat = path.stat()
        return _read_info(path, stat.st_mtime_ns, stat.st_size)
    except OSError as error:
        raise WeightsError(f"{path}: {cause_of(error)}") from error


@lru_cache(maxsize=32)
def _read_info(path: Path, mtime: int, size: int) -> ModelInfo:
    return _info(path, path.read_bytes())


def _info(path: Path, data: bytes) -> ModelInfo:
    header, body = _split(path, data)
    meta = header.pop("__metadata__", {})
    if meta.get("format") != FORMAT:
        raise WeightsError(f"{path}: not aecodec weights (format {meta.get('format')!r})")
    digest = hashlib.sha256()
    for name, (dtype, shape, (start, end)) in sorted(header.items()):
        digest.update(f"{name}:{dtype}:{','.join(map(str, shape))}:".encode())
        digest.update(data[body + start : body + end])
    return ModelInfo(path.stem, digest.hexdigest()[:16], path, meta.get("description", ""), meta)


def _split(path: Path, data: bytes) -> tuple[dict[str, Any], int]:
    """Header of a safetensors file, and where the tensors begin.

    Of each tensor (dtype, shape, offsets); the metadata as they are.
    """
    try:
        (length,) = struct.unpack_from("<Q", data)
        if length > _MAX_HEADER or 8 + length > len(data):
            raise ValueError("bad header length")
        header = json.loads(data[8 : 8 + length])
        meta = dict(header.pop("__metadata__", {}))
        entries = {k: (e["dtype"], tuple(e["shape"]), e["data_offsets"]) for k, e in header.items()}
        if max(end for _, _, (_, end) in entries.values()) + 8 + length != len(data):
            raise ValueError("tensors do not fill the file")
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        struct.error,
    ) as error:
        raise WeightsError(f"{path}: damaged weights file: {error}") from error
    return {**entries, "__metadata__": meta}, 8 + length


def save_weights(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, str]) -> None:
    """Write a weights file, whole or not at all; one that exists is replaced.

    Raises:
        OutputError: it cannot be written.
    """
    from safetensors.torch import save

    ready = {k: v.cpu().contiguous() for k, v in tensors.items()}
    write_bytes(path, save(ready, {"format": FORMAT, **meta}), overwrite=True)


def load_weights(path: Path) -> tuple[dict[str, Tensor], ModelInfo]:
    """All tensors of a weights file, and what its header says.

    Raises:
        WeightsError: not a weights file of aecodec, or a damaged one.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        # not mapped: tensors must stay what they are, and of one file, if it is overwritten
        data = path.read_bytes()
        return load(data), _info(path, data)
    except OSError as error:
        raise WeightsError(f"{path}: {cause_of(error)}") from error
    except SafetensorError as error:
        raise WeightsError(f"{path}: damaged weights file: {error}") from error


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Say of weights that a network cannot be built from which file they are in.

    Raises:
        WeightsError: whatever building it raises, but for a lack of memory.
    """
    from aecodec.model.precision import is_lack_of_memory

    try:
        yield
    except WeightsError as error:
        where = "" if str(error).startswith(f"{path}: ") else f"{path}: "
        raise WeightsError(f"{where}{error}") from error
    except (RuntimeError, LookupError, ValueError, TypeError) as error:
        if is_lack_of_memory(error):
            raise
        raise WeightsError(f"{path}: weights do not fit their config: {error}") from error


def data_of(meta: Mapping[str, str]) -> dict[str, Any]:
    """The section `data` of a model's metadata: bits a sample and the like.

    Raises:
        WeightsError: it is not a JSON object.
    """
    try:
        data = json.loads(meta.get("data", "{}"))
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise WeightsError("the metadata `data` is not a JSON object")
    return data


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors below a prefix, with the prefix removed."""
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}


def as_int32(tensor: Tensor) -> np.ndarray[Any, np.dtype[np.int32]]:
    """A NumPy view for the entropy coder."""
    return np.asarray(tensor.numpy(), dtype=np.int32)
