"""Small bottleneck models, trained for a moment on drawn images, and exported."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from aecodec.model.bottleneck import BottleneckAutoencoder, BottleneckConfig
from aecodec.train.prepare import DataConfig, to_samples

TINY = {"height": 16, "width": 24, "latent_dim": 3, "widths": (8, 12)}


def blobs(n: int, channels: int = 3, height: int = 16, width: int = 24) -> torch.Tensor:
    """Soft spots at random places, (n, C, H, W) in [-0.5, 0.5]."""
    rng = torch.Generator().manual_seed(5)
    x = torch.rand(n, channels, 1, 1, generator=rng) * width
    y = torch.rand(n, channels, 1, 1, generator=rng) * height
    across, down = torch.arange(width), torch.arange(height)[:, None]
    return torch.exp(-((across - x) ** 2 + (down - y) ** 2) / 40) - 0.5


def checkpoint(path: Path, model: BottleneckAutoencoder, **data: object) -> None:
    """What training leaves: the weights are of no use, their moving average is the model."""
    tensors = {f"model.{k}": torch.zeros_like(v) for k, v in model.named_parameters()}
    tensors |= {f"model.{k}": v for k, v in model.named_buffers()}
    tensors |= {f"ema.{k}": v.detach().clone() for k, v in model.named_parameters()}
    config = {"family": "bottleneck", "model": dataclasses.asdict(model.config), "data": data}
    save_file(tensors, path, metadata={"aecodec": json.dumps({"config": config, "step": 7})})


def trained_run(run: Path, images: Path, data: DataConfig, **config: object) -> list[np.ndarray]:
    """A run folder, and a folder of the images it was trained on, which are returned.

    Args:
        run: folder to make.
        images: folder to make, of 48 PNG files.
        data: of the run; size, channels and bits are the model's.
        config: more keys of the model.
    """
    torch.manual_seed(1)
    x = blobs(48, data.channels, data.height, data.width)
    shape = {k: getattr(data, k) for k in ("height", "width", "channels", "bits")}
    model = BottleneckAutoencoder(BottleneckConfig.from_dict({**TINY, **shape, **config}))
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(80):
        optimiser.zero_grad()
        (model(x).pixels - x).square().mean().backward()
        optimiser.step()
    run.mkdir()
    checkpoint(run / "last.safetensors", model, **asdict(data))
    images.mkdir()
    samples = [to_samples(picture, data) for picture in x]
    for i, picture in enumerate(samples):
        Image.fromarray(picture).save(images / f"{i:02}.png")
    return samples
