"""Start a run from weights that exist: a checkpoint, or a release."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor, nn

from aecodec.errors import UnknownModelError
from aecodec.model.autoencoder import Autoencoder
from aecodec.model.checkpoint_files import checkpoint_in, read_tensors
from aecodec.model.scale_integers import dequantise
from aecodec.model.weights import part
from aecodec.train.checkpoint import check_shapes

log = logging.getLogger(__name__)


def load_initial(path: Path, model: nn.Module) -> list[str]:
    """Copy weights into a model.

    Args:
        path: a checkpoint, whose moving average is taken, a run folder (its
            `best.safetensors`, else its `last.safetensors`), or a release weights file.
        model: an Autoencoder with a scale head, or another module; parts of it that the
            file lacks stay as they are.

    Returns:
        Names of the tensors that the file lacks.

    Raises:
        UnknownModelError: there is no such file, or none in the folder.
        WeightsError: it is neither, or damaged.
        TrainingError: its tensors do not fit the model.
    """
    path = checkpoint_in(path)
    if not path.is_file():
        raise UnknownModelError(f"{path}: no such weights file")
    tensors = read_tensors(path)
    state = part(tensors, "ema.")
    if not state:
        state = part(tensors, "net.")
        if isinstance(model, Autoencoder):
            state |= dequantise(part(tensors, "scale_head."), model.config)
    return _copy(path, state, model.state_dict())


def _copy(path: Path, state: dict[str, Tensor], params: dict[str, Tensor]) -> list[str]:
    check_shapes(path, state, params, complete=False)
    with torch.no_grad():
        for name, value in state.items():
            params[name].copy_(value)
    missing = sorted(set(params) - set(state))
    if missing:
        log.warning("%s lacks %d tensors, which start fresh: %s", path, len(missing), missing[0])
    return missing
