"""Full training state as one safetensors file, so that a run resumes bit-exactly.

Tensors: `model.*` and `ema.*`, each a complete state dict of the model; `rng.*`;
`optimiser.NUMBER.KEY.PARAMETER`. The metadata hold the step, the clock and the config as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as as_bytes
from torch import Tensor, nn

from aecodec.errors import TrainingError, UnknownModelError, WeightsError
from aecodec.model.checkpoint_files import read_metadata, read_tensors, training_of
from aecodec.model.weights import fitting, part
from aecodec.output import write_bytes
from aecodec.train.ema import MovingAverage
from aecodec.train.prepare import DataConfig


def save(
    path: Path,
    model: nn.Module,
    ema: MovingAverage,
    optimisers: Sequence[torch.optim.Optimizer],
    generator: torch.Generator | None,
    meta: dict[str, Any],
) -> None:
    """Write atomically: weights, their moving average, optimiser state, RNG, metadata.

    Args:
        path: file to write.
        model: its parameters and buffers.
        ema: of the same model.
        optimisers: of its parameters.
        generator: that draws the data, if there is one besides torch's own.
        meta: anything JSON can hold.

    Raises:
        OutputError: the file cannot be written, as on a full disk; what was there stays.
    """
    tensors: dict[str, Tensor] = {}
    names = {id(p): name for name, p in model.named_parameters()}
    for name, value in model.state_dict().items():
        tensors[f"model.{name}"] = value
        tensors[f"ema.{name}"] = ema.tensors.get(name, value)
    for i, optimiser in enumerate(optimisers):
        for p, state in optimiser.state.items():
            for key, value in state.items():
                if value is not None:
                    tensors[f"optimiser.{i}.{key}.{names[id(p)]}"] = torch.as_tensor(value)
    tensors["rng.default"] = torch.get_rng_state()
    if generator is not None:
        tensors["rng.data"] = generator.get_state()
    if torch.cuda.is_available():
        tensors["rng.cuda"] = torch.cuda.get_rng_state()
    copies = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    write_bytes(path, as_bytes(copies, {"aecodec": json.dumps(meta)}), overwrite=True)


def read_meta(path: Path) -> dict[str, Any]:
    """The metadata of a checkpoint; those that are not damaged have a mapping `config`.

    Raises:
        UnknownModelError: there is no such file.
        WeightsError: it is damaged, or not a checkpoint.
    """
    if not path.is_file():
        raise UnknownModelError(f"{path}: no such checkpoint")
    return training_of(path, read_metadata(path))


def data_config(path: Path, meta: Mapping[str, Any]) -> DataConfig:
    """How the images of a run were prepared.

    Args:
        path: its checkpoint, for messages.
        meta: as from `read_meta`.

    Raises:
        WeightsError: the section `data` of the config is malformed.
    """
    try:
        with fitting(path):
            return DataConfig.from_dict(dict(meta["config"].get("data") or {}))
    except TrainingError as error:
        raise WeightsError(f"{path}: {error}") from error


def load(
    path: Path,
    model: nn.Module,
    ema: MovingAverage,
    optimisers: Sequence[torch.optim.Optimizer],
    generator: torch.Generator | None,
) -> None:
    """Restore everything `save` wrote, in place.

    Raises:
        WeightsError: damaged.
        TrainingError: made by a model of another shape.
    """
    tensors = read_tensors(path)
    params, state = dict(model.named_parameters()), model.state_dict()
    check_shapes(path, part(tensors, "model."), state, complete=True)
    try:
        with torch.no_grad():
            for name, value in state.items():
                value.copy_(tensors[f"model.{name}"])
                if name in ema.tensors:
                    ema.tensors[name].copy_(tensors[f"ema.{name}"])
        for key, value in tensors.items():
            if key.startswith("optimiser."):
                _, index, field, name = key.split(".", 3)
                kept = optimisers[int(index)].state[params[name]]
                kept[field] = _as_kept(value, params[name])
        if generator is not None:
            generator.set_state(tensors["rng.data"])
        torch.set_rng_state(tensors["rng.default"])
    except (KeyError, IndexError, RuntimeError) as error:
        raise TrainingError(f"{path}: does not fit this model: {error}") from error
    if "rng.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["rng.cuda"])


def check_shapes(
    path: Path, given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], *, complete: bool
) -> None:
    """See that tensors of a file are a model's.

    Args:
        path: the file.
        given: its tensors, by their names in the model.
        wanted: those of the model.
        complete: whether the file must have all of them.

    Raises:
        TrainingError: one is of another shape, or only one of both has it.
    """
    cause = "" if given else "it has no weights"
    unknown, missing = sorted(set(given) - set(wanted)), sorted(set(wanted) - set(given))
    if unknown:
        cause = f"it has {unknown[0]}"
    elif given and missing and complete:
        cause = f"it lacks {missing[0]}"
    for name, value in given.items():
        if not cause and value.shape != wanted[name].shape:
            cause = f"{name} is {tuple(value.shape)}, not {tuple(wanted[name].shape)}"
    if cause:
        raise TrainingError(f"{path}: does not fit this model: {cause}")


def _as_kept(value: Tensor, p: nn.Parameter) -> Tensor:
    """State as the optimiser would have laid it out, so that sums run in the same order."""
    if value.ndim == 0:  # a step counter; the fused optimisers want it beside the parameter
        return value.to(p.device)
    return torch.empty_like(p).copy_(value).detach()
