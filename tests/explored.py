"""What the tests of exploring look into: small pictures in classes, and models of them."""

from __future__ import annotations

import dataclasses
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from aecodec.model.bottleneck import BottleneckAutoencoder, BottleneckConfig
from aecodec.model.families import LatentModel, load_model
from aecodec.model.weights import save_weights
from aecodec.train.prepare import DataConfig

SIDE = 16
CLASSES = {"blue": (30, 60, 220), "green": (40, 190, 70), "red": (220, 40, 40)}
EACH = 8


def sign(name: str, index: int) -> np.ndarray:
    """A light disc on a ground of the class's colour, (16, 16, 3) uint8."""
    rng = np.random.default_rng([index, len(name)])
    rows, columns = np.mgrid[:SIDE, :SIDE]
    centre = rng.uniform(6, 10, 2)
    disc = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < 9
    image = np.where(disc[..., None], 230, np.array(CLASSES[name]))
    return np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)


def signs(folder: Path) -> Path:
    """A folder for each class, of 8 pictures."""
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for i in range(EACH):
            Image.fromarray(sign(name, i)).save(folder / name / f"{i}.png")
    return folder


@lru_cache(maxsize=4)
def _trained(latent_dim: int, variational: bool) -> BottleneckAutoencoder:
    """A model that has learned those pictures."""
    torch.manual_seed(1)
    config = BottleneckConfig(
        height=SIDE, width=SIDE, latent_dim=latent_dim, widths=(8, 16), variational=variational
    )
    model = BottleneckAutoencoder(config)
    x = np.stack([sign(name, i) for name in CLASSES for i in range(EACH)])
    batch = torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255 - 0.5
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(80):
        optimiser.zero_grad()
        (model(batch).pixels - batch).square().mean().backward()
        optimiser.step()
    return model.eval()


def model_file(path: Path, *, latent_dim: int = 4, variational: bool = False) -> Path:
    """A weights file of a trained model."""
    model = _trained(latent_dim, variational)
    return _save(path, model, DataConfig(height=SIDE, width=SIDE))


def depth_model(path: Path) -> LatentModel:
    """A model of 16-bit depth up to 1000 in which 0 is invalid; not trained."""
    torch.manual_seed(2)
    config = BottleneckConfig(
        height=SIDE, width=SIDE, channels=1, bits=16, latent_dim=4, widths=(8, 16)
    )
    data = DataConfig(height=SIDE, width=SIDE, channels=1, bits=16, maximum=1000, invalid=0)
    return load_model(_save(path, BottleneckAutoencoder(config).eval(), data))


def _save(path: Path, model: BottleneckAutoencoder, data: DataConfig) -> Path:
    tensors = {f"net.{name}": value.detach() for name, value in model.state_dict().items()}
    meta = {"config": model.config.to_json(), "data": json.dumps(dataclasses.asdict(data))}
    save_weights(path, tensors, meta)
    return path


def numbers(path: Path) -> dict[str, Any]:
    """The JSON beside a picture."""
    found: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return found
