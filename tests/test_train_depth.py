"""Training the codec on depth maps, and coding with what comes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from depth_scenes import scene
from PIL import Image
from train_files import HYPERPRIOR

from aecodec.codec import Codec
from aecodec.depth import filled
from aecodec.errors import UnsupportedImageError
from aecodec.train.config import TrainConfig
from aecodec.train.export import export
from aecodec.train.patches import PatchSource, load_image, validation_batches
from aecodec.train.prepare import DataConfig
from aecodec.train.run import train

DEPTH = DataConfig(bits=16, maximum=3000, invalid=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten depth maps; one has a reading over the maximum."""
    path = tmp_path_factory.mktemp("depth")
    for number in range(10):
        depth = scene(80, 96, seed=number)
        if number == 0:
            depth[10, 10] = 65535
        Image.fromarray(depth).save(path / f"{number}.png")
    return path


def test_patches_are_depth_with_its_holes_filled(folder):
    source = PatchSource(sorted(folder.glob("*.png")), 64, {}, torch.device("cpu"), 1, DEPTH)
    batch = source.batch(16)
    assert batch.shape == (16, 3, 64, 64)
    assert torch.equal(batch[:, 0], batch[:, 2])
    depth = (batch + 0.5) * 3000
    assert 700 < depth.min() < 850
    assert depth.max() < 3001  # neither 0 nor 65535 is in it
    crop = validation_batches([folder / "1.png"], 64, torch.device("cpu"), DEPTH)[0]
    expected = filled(scene(80, 96, seed=1), 65535)[8:72, 16:80]
    np.testing.assert_allclose((crop[0, 1] + 0.5) * 3000, expected, atol=0.01)


def test_files_with_other_bits_are_passed_over(folder, tmp_path, caplog):
    Image.fromarray(np.zeros((80, 96), np.uint8)).save(tmp_path / "gray.png")
    assert load_image(tmp_path / "gray.png", DEPTH) is None
    assert "gray.png" in caplog.text
    assert load_image(folder / "1.png", DataConfig()) is None


def test_a_model_that_was_trained_on_depth_codes_depth(folder, tmp_path):
    config = tmp_path / "config.toml"
    text = HYPERPRIOR.format(steps=4)
    config.write_text(f"{text}\n[data]\nbits = 16\nmaximum = 3000\ninvalid = 0\n")
    assert TrainConfig.load(config).data == DEPTH
    train(config, folder, tmp_path / "run")
    weights = tmp_path / "mine.safetensors"
    export(tmp_path / "run", folder, weights, description="", count=2)
    codec = Codec(weights)
    depth = scene(70, 90, seed=20)
    back = codec.decode(codec.encode(depth, quality=50, max_error=7))
    np.testing.assert_array_equal(back > 0, depth > 0)
    assert np.abs(back.astype(int) - depth).max() <= 7
    with pytest.raises(UnsupportedImageError, match="mine is for depth"):
        codec.encode(np.zeros((32, 32), np.uint8))
