"""From a checkpoint of the bottleneck family to a weights file that codes.

What the latent vectors of training images are like decides the steps of every quality and
the frequency tables. An element's step falls with its weight: what a unit of it changes in
the picture. Then all elements that are coded cause the same error, which is the best there
is for a given rate (reverse water-filling, Cover and Thomas 2006, section 10.3).
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from aecodec.errors import InputError, TrainingError
from aecodec.imagefiles import find_images
from aecodec.model.bottleneck import BottleneckAutoencoder
from aecodec.model.config import QUALITY_ROWS, SCALE_LEVELS, ModelConfig
from aecodec.model.families import BottleneckModel, load_model
from aecodec.model.weights import save_weights
from aecodec.train import checkpoint
from aecodec.train.dataset import FolderDataset
from aecodec.train.files import split
from aecodec.train.prepare import DataConfig
from aecodec.train.tables import MAX_BOUND, count_residuals, no_residuals, residual_tables

log = logging.getLogger(__name__)

IMAGES = 2000
"""How many training images are looked at, unless told otherwise."""

_WORST, _BEST = 2.0**3, 2.0**-7.5  # error of quality 1 and 100, in parts of the model's own
_PROBED, _PROBES = 128, 8  # images whose gradients are taken, and how often
_BATCH = 16
_SCALES = ModelConfig()  # the scale of a scale index


class Found(NamedTuple):
    """What training images are like, D being the length of their vectors.

    Attributes:
        latents: (N, D) float64.
        error: squared error of reconstructions, summed over an image, mean over images.
        weights: (D,) float64, the same for a unit of each element.
    """

    latents: Tensor
    error: float
    weights: Tensor


@torch.inference_mode(False)  # gradients are needed
def export_bottleneck(
    run: Path, images: Path, target: Path, *, description: str, count: int | None
) -> None:
    """Write a weights file from the moving average of a checkpoint.

    A model with skips gets no tables: it can be loaded, and codes nothing.

    Args:
        run: a checkpoint, or a run folder: `best.safetensors`, else `last.safetensors`.
        images: the folder it was trained on; only training images are used.
        target: the weights file to write.
        description: one line for `aecodec models`.
        count: number of images to look at; None for `IMAGES`.

    Raises:
        InputError: the images cannot be used.
        WeightsError: the checkpoint is damaged, or does not fit its config.
        OutputError: the file cannot be written.
    """
    found = load_model(run)
    meta = checkpoint.read_meta(found.info.path)
    assert isinstance(found, BottleneckModel)  # `export` has looked
    data = checkpoint.data_config(found.info.path, meta)
    # rounded to half precision first, so that the tables fit what will be run
    state = _rounded(found.module)
    found.module.load_state_dict(state)
    tensors = {f"net.{k}": v for k, v in state.items()}
    if not found.config.skips:
        tensors |= latent_tables(measure(found.module, data, images, count or IMAGES))
    training = {k: meta[k] for k in ("step", "elapsed", "config") if k in meta}
    save_weights(
        target,
        tensors,
        {
            "config": found.config.to_json(),
            "data": json.dumps(asdict(data), sort_keys=True),
            "description": description,
            "training": json.dumps(training, sort_keys=True),
        },
    )
    log.info("%s: %.1f MB", target, target.stat().st_size / 1e6)


def _rounded(model: BottleneckAutoencoder) -> dict[str, Tensor]:
    """Weights in half precision; statistics of batch normalisation span more than that does."""
    weights = {name for name, _ in model.named_parameters()}
    return {k: v.half() if k in weights else v for k, v in model.state_dict().items()}


def measure(model: BottleneckAutoencoder, data: DataConfig, images: Path, count: int) -> Found:
    """Run the model on training images.

    Raises:
        InputError: there are none, or they do not fit the model.
        TrainingError: what the model makes of them is not finite.
    """
    paths = split(find_images(images), images, data).train
    order = np.random.default_rng(1).permutation(len(paths))[:count]
    dataset = FolderDataset([paths[i] for i in order], images, data)
    latents, errors, weights = [], [], []
    probe = torch.Generator().manual_seed(1)
    left = _PROBED
    for batch in tqdm(dataset.batches(_BATCH), desc="measuring", total=-(-len(dataset) // _BATCH)):
        if tuple(batch.x.shape[1:]) != model.config.image_shape:
            raise InputError(
                f"{images}: images of shape {tuple(batch.x.shape[1:])} do not fit the model, "
                f"which takes {model.config.image_shape}"
            )
        with torch.no_grad():
            z = model.encode_image(batch.x)
            error = (model.decode_latent(z) - batch.x).masked_fill(~batch.mask, 0)
        latents.append(z.double())
        errors.append(error.double().square().sum(dim=(1, 2, 3)))
        if left > 0:
            weights.append(element_weights(model, z, batch.mask, probe))
            left -= len(z)
    every = torch.cat(latents)
    if not bool(every.isfinite().all()):
        raise TrainingError(f"{images}: the model gives latents that are not finite")
    return Found(every, float(torch.cat(errors).mean()), torch.cat(weights).mean(dim=0))


def element_weights(
    model: BottleneckAutoencoder, z: Tensor, mask: Tensor, generator: torch.Generator
) -> Tensor:
    """Squared change of the valid pixels for a unit of each element, (N, D) float64.

    Gradients of sums of pixels with random signs: the mean of their squares is what is
    asked for (Hutchinson 1990).
    """
    total = torch.zeros_like(z, dtype=torch.float64)
    for _ in range(_PROBES):
        with torch.enable_grad():
            at = z.detach().clone().requires_grad_()
            pixels = model.decode_latent(at)
            signs = torch.randint(2, pixels.shape, generator=generator).mul(2).sub(1) * mask
            (gradient,) = torch.autograd.grad((pixels * signs).sum(), at)
        total += gradient.double().square() / _PROBES
    return total


def latent_tables(found: Found) -> dict[str, Tensor]:
    """Steps, scale indices and frequency tables; see `VectorQuantiser` for the shapes."""
    mean = found.latents.mean(dim=0)
    deviation = found.latents.std(dim=0, unbiased=False).clamp(min=1e-6)
    # elements that change next to nothing get a step that leaves them out
    floor = 1e-6 * float((found.weights * deviation**2).mean()) + 1e-30
    weights = torch.maximum(found.weights, floor / deviation**2)
    spread = weights * deviation**2
    worst = min(_WORST * found.error, float(spread.sum()) / 2)
    best = min(_BEST * found.error, worst / 64)
    errors = np.geomspace(worst, best, QUALITY_ROWS)
    steps = torch.tensor([_water_level(spread, e) * 12 for e in errors]).sqrt()
    log_step = steps.log()[:, None] - weights.log() / 2  # (8, D)
    log_scale = deviation.log() - log_step - np.log(_SCALES.scale_min)
    index = (log_scale / _SCALES.log_scale_step).round().clamp(0, SCALE_LEVELS - 1)
    exact = (found.latents - mean)[:, None] / log_step.exp()  # (N, 8, D)
    q = exact.round().clamp(-MAX_BOUND - 1, MAX_BOUND + 1).int().numpy()
    counts = no_residuals()
    count_residuals(counts, np.broadcast_to(index.byte().numpy(), q.shape), q)
    return {
        "latent.mean": mean.float(),
        "latent.deviation": deviation.float(),
        "latent.log_step": log_step.float(),
        "latent.index": index.to(torch.uint8),
        **residual_tables(_SCALES, counts),
    }


def _water_level(spread: Tensor, error: float) -> float:
    """The error w of each element, none larger than its spread, for their sum to be `error`."""
    low, high = 0.0, float(spread.max())
    for _ in range(60):
        middle = (low + high) / 2
        if float(spread.clamp(max=middle).sum()) < error:
            low = middle
        else:
            high = middle
    return high
