"""From a training checkpoint to release weights: half precision, integers, tables."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from aecodec.errors import InputError, naming
from aecodec.imagefiles import find_images
from aecodec.layout import QUALITY_STEPS, STRIDE
from aecodec.model.autoencoder import Autoencoder
from aecodec.model.bottleneck_config import FAMILY as BOTTLENECK
from aecodec.model.checkpoint_files import checkpoint_in, read_tensors
from aecodec.model.config import QUALITY_ROWS, ModelConfig
from aecodec.model.quantiser import Quantiser
from aecodec.model.scale_head import IntegerScaleHead
from aecodec.model.scale_integers import quantise
from aecodec.model.weights import check_target, fitting, save_weights
from aecodec.train import checkpoint
from aecodec.train.export_bottleneck import export_bottleneck
from aecodec.train.export_refined import count_refined
from aecodec.train.patches import load_image, split_by_name
from aecodec.train.prepare import DataConfig
from aecodec.train.tables import (
    Z_BOUND,
    Counts,
    count_residuals,
    hyper_tables,
    no_residuals,
    residual_tables,
)

log = logging.getLogger(__name__)

IMAGES = 120
"""How many training images are looked at, unless told otherwise."""


def count_symbols(
    network: Autoencoder,
    head: IntegerScaleHead,
    paths: Sequence[Path],
    deadzone: float,
    data: DataConfig,
) -> tuple[Counts, Counts]:
    """Code images at all quality rows and count residuals by scale index, and ẑ.

    Raises:
        InputError: none of the images can be used.
    """
    config = network.config
    y_counts = no_residuals()
    z_counts = np.zeros((QUALITY_ROWS, config.hyper_channels, 2 * Z_BOUND + 2))
    quantiser = Quantiser(network, head, skip=0, deadzone=deadzone)
    rng = np.random.default_rng(0)
    channel = np.arange(config.hyper_channels)[:, None, None]
    for path in tqdm(paths, desc="counting symbols", unit="image"):
        image = load_image(path, data)
        if image is None or min(image.shape[:2]) < STRIDE:
            continue
        h, w = (min(side, 512) // STRIDE * STRIDE for side in image.shape[:2])
        x = torch.from_numpy(image[:h, :w].copy()).expand(-1, -1, 3).permute(2, 0, 1)[None]
        x = x.float() / data.maximum - 0.5
        y = network.analysis(x.contiguous(memory_format=torch.channels_last))[0]
        for row in range(QUALITY_ROWS):
            jitter = int(rng.integers(-QUALITY_STEPS // 2, QUALITY_STEPS // 2))
            quality = min(max(row * QUALITY_STEPS + jitter, 0), 7 * QUALITY_STEPS)
            s = quantiser.quantise(y, quality)
            count_residuals(y_counts, s.index, s.q)
            z = np.where(np.abs(s.z) > Z_BOUND, Z_BOUND + 1, s.z) + Z_BOUND
            np.add.at(z_counts[row], (np.broadcast_to(channel, z.shape), z), 1)
    if not z_counts.any():
        raise InputError(f"none of {len(paths)} images can be used to count symbols")
    return y_counts, z_counts


@torch.inference_mode()
def export(
    run: Path,
    images: Path,
    target: Path,
    *,
    description: str,
    count: int | None = None,
    refined: int = 0,
    deadzone: float = 0.0,
) -> None:
    """Write release weights from the moving average of a checkpoint, of whatever family.

    Args:
        run: a checkpoint, or a run folder: `best.safetensors`, else `last.safetensors`.
        images: the folder it was trained on; only training images are used for the tables.
        target: the weights file to write.
        description: one line for `aecodec models`.
        count: number of images whose symbols make the tables; None for 120, or for
            2000 for the family bottleneck.
        refined: number of images that make tables for files of efforts 4 to 9; 0 for none.
        deadzone: strength of rate-distortion optimised rounding that encoders use.

    Raises:
        ModelError: the checkpoint cannot be used.
        InputError: the images cannot be used; or a deadzone for a family that has none.
        OutputError: the file cannot be written, or is not called .safetensors.
    """
    check_target(target)
    path = checkpoint_in(run)
    meta = checkpoint.read_meta(path)
    if meta["config"].get("family") == BOTTLENECK:
        if deadzone or refined:
            raise InputError(f"{run}: the family {BOTTLENECK} has no deadzone and no efforts")
        return export_bottleneck(run, images, target, description=description, count=count)
    network, integers = _rounded(path, meta)
    data = checkpoint.data_config(path, meta)
    with fitting(path):
        fraction = float(meta["config"]["validation_fraction"])
        training = {k: meta[k] for k in ("step", "patches", "elapsed", "config")}
    paths, _ = split_by_name(find_images(images), fraction)
    paths = [paths[i] for i in np.random.default_rng(1).permutation(len(paths))]
    head = IntegerScaleHead(integers, torch.device("cpu"))
    with naming(str(images)):
        counts = count_symbols(network, head, paths[: count or IMAGES], deadzone, data)
    tensors = _tensors(network, integers, counts)
    about = {
        "config": network.config.to_json(),
        "data": json.dumps(dataclasses.asdict(data), sort_keys=True),
        "description": description,
        "deadzone": str(deadzone),
        "training": json.dumps(training, sort_keys=True),
    }
    if refined:
        with TemporaryDirectory() as folder:  # effort runs weights from a file
            plain = Path(folder) / target.name
            save_weights(plain, tensors, about)
            tensors |= count_refined(plain, paths[:refined], data)
    save_weights(target, tensors, about)
    log.info("%s: %.1f MB", target, target.stat().st_size / 1e6)


def _rounded(path: Path, meta: dict[str, Any]) -> tuple[Autoencoder, dict[str, Tensor]]:
    """The network of a checkpoint's moving average, and its scale head in integers.

    Weights are rounded to half precision first, so that the tables fit what will be run.

    Raises:
        WeightsError: they do not fit their config.
    """
    state = {k: v.half().float() for k, v in read_tensors(path, "ema.").items()}
    with fitting(path):
        network = Autoencoder(ModelConfig.from_dict(dict(meta["config"]["model"])))
        network.load_state_dict(state)
    network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network, quantise(network.scale_head, network.scale_context, network.config)


def _tensors(
    network: Autoencoder, integers: dict[str, Tensor], counts: tuple[Counts, Counts]
) -> dict[str, Tensor]:
    """All tensors of a weights file: network, scale head and tables."""
    state = {k: v for k, v in network.state_dict().items() if not k.startswith("scale_")}
    tensors = {f"net.{k}": v.half() for k, v in state.items()}
    tensors |= {f"scale_head.{k}": v for k, v in integers.items()}
    y_counts, z_counts = counts
    return tensors | residual_tables(network.config, y_counts) | hyper_tables(z_counts)
