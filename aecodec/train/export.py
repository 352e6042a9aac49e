"""From a training checkpoint to release weights: half precision, integers, tables."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor
from tqdm import tqdm

from ..entropy import PRECISION
from ..errors import InputError, TrainingError
from ..layout import QUALITY_STEPS
from ..model.autoencoder import Autoencoder
from ..model.bottleneck_config import FAMILY as BOTTLENECK
from ..model.config import QUALITY_ROWS, SCALE_LEVELS, ModelConfig
from ..model.quantiser import Quantiser
from ..model.scale_head import IntegerScaleHead, quantise
from ..model.weights import save_weights
from . import checkpoint
from .data import find_images, load_image, split
from .export_bottleneck import export_bottleneck
from .prepare import DataConfig

log = logging.getLogger(__name__)

SKIP_PROBABILITY = 0.996
"""Residuals that are zero at least this often are not coded."""

IMAGES = 120
"""How many training images are looked at, unless told otherwise."""

_MAX_BOUND = 1023
_Z_BOUND = 31
_Counts = NDArray[np.float64]


def _mass(scale: _Counts, bound: int) -> _Counts:
    """Masses of a quantised Gaussian on −bound..bound, then beyond; (..., 2·bound + 2)."""
    edges = torch.arange(-bound, bound + 2).double() - 0.5
    cdf = torch.special.ndtr(edges / torch.from_numpy(scale).double()[..., None])
    inside = cdf.diff(dim=-1)
    beyond = 1 - inside.sum(dim=-1, keepdim=True)
    return np.asarray(torch.cat([inside, beyond.clamp(min=0)], dim=-1).numpy())


def frequencies(weights: _Counts) -> NDArray[np.int32]:
    """Integers >= 1 that sum to 2^24, in proportion to the weights along the last axis."""
    total = 1 << PRECISION
    share = weights / weights.sum(axis=-1, keepdims=True)
    table = np.floor(share * (total - weights.shape[-1])).astype(np.int64) + 1
    largest = table.argmax(axis=-1)[..., None]
    missing = total - table.sum(axis=-1, keepdims=True)
    np.put_along_axis(table, largest, np.take_along_axis(table, largest, -1) + missing, -1)
    return np.asarray(table, dtype=np.int32)


def residual_tables(config: ModelConfig, counts: _Counts) -> dict[str, Tensor]:
    """Tables for y: what was counted on photographs, smoothed towards the Gaussian.

    Args:
        counts: (64, 2·1023 + 2) how often each residual was seen at each scale index.
    """
    scales = config.scale_min * np.exp(np.arange(SCALE_LEVELS) * config.log_scale_step)
    width = 2 * _MAX_BOUND + 2
    table = np.zeros((SCALE_LEVELS, width), np.int32)
    bounds = np.zeros(SCALE_LEVELS, np.int32)
    for i, scale in enumerate(scales):
        k = int(np.clip(math.ceil(5 * scale), 2, _MAX_BOUND))
        seen = counts[i, _MAX_BOUND - k : _MAX_BOUND + k + 1]
        beyond = counts[i].sum() - seen.sum()
        seen = np.append((seen + seen[::-1]) / 2, beyond)  # residuals are symmetric
        # the Gaussian counts as 200 samples, its tails a little lifted
        prior = 200 * _mass(np.array(scale), k) + 200 * 0.003 * _mass(np.array(2 * scale), k)
        table[i, : 2 * k + 2] = frequencies(seen + prior)
        bounds[i] = k
    gaussian = _mass(scales, 0)[:, 0]
    zero = np.where(counts.sum(1) > 1e4, counts[:, _MAX_BOUND] / counts.sum(1).clip(1), gaussian)
    coded = np.flatnonzero(zero < SKIP_PROBABILITY)
    return {
        "tables.y": torch.from_numpy(table),
        "tables.y_bound": torch.from_numpy(bounds),
        "tables.skip": torch.tensor(int(coded[0]), dtype=torch.int32),
    }


def hyper_tables(counts: _Counts) -> dict[str, Tensor]:
    """Tables for ẑ from counts (8, Cz, 2·31 + 2); neighbouring quality rows share a little."""
    shared = counts + 0.05 * counts.sum(axis=0, keepdims=True) + 1e-3
    peak = np.zeros(counts.shape[-1])
    peak[_Z_BOUND - 1 : _Z_BOUND + 2] = (0.25, 1.0, 0.25)
    table = frequencies(shared + peak)
    bounds = np.full(counts.shape[:2], _Z_BOUND, np.int32)
    return {"tables.z": torch.from_numpy(table), "tables.z_bound": torch.from_numpy(bounds)}


def count_symbols(
    network: Autoencoder,
    head: IntegerScaleHead,
    paths: Sequence[Path],
    deadzone: float,
    data: DataConfig,
) -> tuple[_Counts, _Counts]:
    """Code images at all quality rows and count residuals by scale index, and ẑ."""
    config = network.config
    y_counts = np.zeros((SCALE_LEVELS, 2 * _MAX_BOUND + 2))
    z_counts = np.zeros((QUALITY_ROWS, config.hyper_channels, 2 * _Z_BOUND + 2))
    quantiser = Quantiser(network, head, skip=0, deadzone=deadzone)
    rng = np.random.default_rng(0)
    channel = np.arange(config.hyper_channels)[:, None, None]
    for path in tqdm(paths, desc="counting symbols", unit="image"):
        image = load_image(path, data)
        if image is None:
            continue
        h, w = (min(side, 512) // 16 * 16 for side in image.shape[:2])
        x = torch.from_numpy(image[:h, :w].copy()).expand(-1, -1, 3).permute(2, 0, 1)[None]
        x = x.float() / data.maximum - 0.5
        y = network.analysis(x.contiguous(memory_format=torch.channels_last))[0]
        for row in range(QUALITY_ROWS):
            jitter = int(rng.integers(-QUALITY_STEPS // 2, QUALITY_STEPS // 2))
            quality = min(max(row * QUALITY_STEPS + jitter, 0), 7 * QUALITY_STEPS)
            s = quantiser.quantise(y, quality)
            q = np.where(np.abs(s.q) > _MAX_BOUND, _MAX_BOUND + 1, s.q) + _MAX_BOUND
            flat = s.index.astype(np.int64) * y_counts.shape[1] + q
            y_counts += np.bincount(flat.ravel(), minlength=y_counts.size).reshape(y_counts.shape)
            z = np.where(np.abs(s.z) > _Z_BOUND, _Z_BOUND + 1, s.z) + _Z_BOUND
            np.add.at(z_counts[row], (np.broadcast_to(channel, z.shape), z), 1)
    return y_counts, z_counts


@torch.inference_mode()
def export(
    run: Path,
    images: Path,
    target: Path,
    *,
    description: str,
    count: int | None = None,
    deadzone: float = 0.0,
) -> None:
    """Write release weights from the moving average of a checkpoint, of whatever family.

    Args:
        run: a checkpoint, or a run folder with `last.safetensors`.
        images: the folder it was trained on; only training images are used for the tables.
        target: the weights file to write.
        description: one line for `aecodec models`.
        count: number of images whose symbols make the tables; None for 120, or for
            2000 for the family bottleneck.
        deadzone: strength of rate-distortion optimised rounding that encoders use.

    Raises:
        TrainingError: the checkpoint or the images cannot be used.
        InputError: a deadzone for a family that has none.
    """
    path = run / "last.safetensors" if run.is_dir() else run
    meta = checkpoint.read_meta(path)
    if meta["config"].get("family") == BOTTLENECK:
        if deadzone:
            raise InputError(f"the family {BOTTLENECK} has no deadzone")
        return export_bottleneck(run, images, target, description=description, count=count)
    config = ModelConfig.from_dict(dict(meta["config"]["model"]))
    data = DataConfig.from_dict(dict(meta["config"].get("data", {})))
    network = Autoencoder(config)
    with safe_open(path, "pt") as file:
        names = [k for k in file.keys() if k.startswith("ema.")]  # noqa: SIM118
        state = {k[len("ema.") :]: file.get_tensor(k) for k in names}
    # rounded to half precision first, so that the tables fit what will be run
    state = {k: v.half().float() for k, v in state.items()}
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise TrainingError(f"{path}: does not fit its config: {error}") from error
    network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    integers = quantise(network.scale_head, network.scale_context, config)
    paths, _ = split(find_images(images), float(meta["config"]["validation_fraction"]))
    chosen = [paths[i] for i in np.random.default_rng(1).permutation(len(paths))[: count or IMAGES]]
    head = IntegerScaleHead(integers, torch.device("cpu"))
    y_counts, z_counts = count_symbols(network, head, chosen, deadzone, data)
    tensors = {f"net.{k}": v.half() for k, v in state.items() if not k.startswith("scale_")}
    tensors |= {f"scale_head.{k}": v for k, v in integers.items()}
    tensors |= residual_tables(config, y_counts) | hyper_tables(z_counts)
    training = {k: meta[k] for k in ("step", "patches", "elapsed", "config")}
    save_weights(
        target,
        tensors,
        {
            "config": config.to_json(),
            "data": json.dumps(dataclasses.asdict(data), sort_keys=True),
            "description": description,
            "deadzone": str(deadzone),
            "training": json.dumps(training, sort_keys=True),
        },
    )
    log.info("%s: %.1f MB", target, target.stat().st_size / 1e6)
