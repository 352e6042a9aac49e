"""Full training state as one safetensors file, so that a run resumes bit-exactly."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import TrainingError


def save(
    path: Path,
    model: nn.Module,
    ema: list[Tensor],
    optimisers: list[torch.optim.Optimizer],
    generator: torch.Generator,
    meta: dict[str, Any],
) -> None:
    """Write atomically: weights, their moving average, optimiser state, RNG, metadata."""
    tensors: dict[str, Tensor] = {}
    names = {id(p): name for name, p in model.named_parameters()}
    for (name, weight), average in zip(model.named_parameters(), ema, strict=True):
        tensors[f"model.{name}"] = weight.detach()
        tensors[f"ema.{name}"] = average
    for i, optimiser in enumerate(optimisers):
        for p, state in optimiser.state.items():
            for key, value in state.items():
                tensors[f"optimiser.{i}.{key}.{names[id(p)]}"] = torch.as_tensor(value)
    tensors["rng.default"] = torch.get_rng_state()
    tensors["rng.data"] = generator.get_state()
    if torch.cuda.is_available():
        tensors["rng.cuda"] = torch.cuda.get_rng_state()
    temporary = path.with_suffix(".tmp")
    copies = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    save_file(copies, temporary, metadata={"aecodec": json.dumps(meta)})
    os.replace(temporary, path)


def read_meta(path: Path) -> dict[str, Any]:
    """The metadata of a checkpoint.

    Raises:
        TrainingError: the file is missing, damaged, or not a checkpoint.
    """
    try:
        with safe_open(path, "pt") as file:
            meta = json.loads((file.metadata() or {})["aecodec"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise TrainingError(f"{path}: not a usable checkpoint: {error}") from error
    return dict(meta)


def load(
    path: Path,
    model: nn.Module,
    ema: list[Tensor],
    optimisers: list[torch.optim.Optimizer],
    generator: torch.Generator,
) -> None:
    """Restore everything `save` wrote, in place.

    Raises:
        TrainingError: damaged, or made by a model of another shape.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"{path}: not a usable checkpoint: {error}") from error
    params = dict(model.named_parameters())
    try:
        with torch.no_grad():
            for (name, p), average in zip(params.items(), ema, strict=True):
                p.copy_(tensors[f"model.{name}"])
                average.copy_(tensors[f"ema.{name}"])
    except (KeyError, RuntimeError) as error:
        raise TrainingError(f"{path}: does not fit this model: {error}") from error
    for key, value in tensors.items():
        if key.startswith("optimiser."):
            _, index, field, name = key.split(".", 3)
            # as the optimiser would have laid it out, so that sums run in the same order
            like = torch.empty_like(params[name]) if value.ndim else value
            state = optimisers[int(index)].state[params[name]]
            state[field] = like.copy_(value) if value.ndim else value
    torch.set_rng_state(tensors["rng.default"])
    generator.set_state(tensors["rng.data"])
    if "rng.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["rng.cuda"])
