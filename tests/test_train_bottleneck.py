"""Training bottleneck models for real: families share one loop."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from train_files import BOTTLENECK, HYPERPRIOR, write_config, write_images

from aecodec.errors import InputError, MissingDependencyError, OutputError, TrainingError
from aecodec.model.families import load_model
from aecodec.train.board import watching
from aecodec.train.config import TrainConfig
from aecodec.train.loop import Trainer
from aecodec.train.run import train


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_images(folder)
    return folder


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    return TrainConfig.load(write_config(tmp_path, BOTTLENECK, 40))


@pytest.mark.parametrize(
    "changes",
    [
        {"optimiser": "adamw", "weight_decay": 0.01},
        {"optimiser": "muon"},
        {"optimiser": "adam", "schedule": "plateau"},
        {"optimiser": "sgd", "learning_rate": 0.1, "schedule": "constant"},
        {"optimiser": "lion", "learning_rate": 1e-3, "schedule": "step"},
        {"precision": "bfloat16"},
        {"ema": 0.0, "clip": 0.0},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_every_optimiser_lowers_the_loss(
    changes: dict[str, Any], config: TrainConfig, images: Path, tmp_path: Path
) -> None:
    trainer = Trainer(dataclasses.replace(config, **changes), images, tmp_path / "run")
    trainer.start()
    batch = trainer.task.batch(0)
    trainer.task.batch = lambda step: batch  # type: ignore[method-assign]
    losses = [float(trainer.train_step()["mse"]) for _ in range(12)]
    assert losses[-1] < 0.9 * losses[0]


def test_any_run_folder_is_a_model(config: TrainConfig, images: Path, tmp_path: Path) -> None:
    """What is kept as best is what was validated: averaged weights, with their batch norms."""
    trainer = Trainer(dataclasses.replace(config, steps=10), images, tmp_path / "run")
    trainer.start()
    trainer.fit()
    model = load_model(tmp_path / "run")
    assert (model.family, model.image_shape) == ("bottleneck", (3, 32, 32))
    assert model.data["height"] == 32
    x = next(trainer.task.validation.batches(4)).x  # type: ignore[attr-defined]
    again = Trainer(trainer.config, images, tmp_path / "run")
    again.resume(trainer.folder.best)
    with again.averaged() as averaged:
        torch.testing.assert_close(model.reconstruct(x), averaged(x).pixels)


def test_early_stopping_counts_validations(
    config: TrainConfig, images: Path, tmp_path: Path
) -> None:
    """At a learning rate of nothing, no validation is better than the first."""
    config = dataclasses.replace(
        config, learning_rate=1e-30, early_stopping=2, validate_every=3, ema=0.0
    )
    model = dataclasses.replace(config.model, norm="none")
    seen: list[int] = []
    small = torch.tensor(1e-40)

    def on_validation(record: dict[str, Any]) -> None:
        seen.append(record["step"])
        assert small * 1 == 0  # training flushes denormals

    result = train(
        dataclasses.replace(config, model=model),
        images,
        tmp_path / "run",
        on_validation=on_validation,
    )
    assert seen == [3, 6, 9]
    assert small * 1 != 0  # whoever called it has them back
    assert (result.step, result.best_step, result.finished) == (9, 3, True)
    assert train(None, None, tmp_path / "run", resume=True).step == 9


def test_what_a_validation_raises_ends_the_run(
    config: TrainConfig, images: Path, tmp_path: Path
) -> None:
    class PrunedError(Exception):
        pass

    def prune(record: dict[str, Any]) -> None:
        raise PrunedError

    with pytest.raises(PrunedError):
        train(config, images, tmp_path / "run", on_validation=prune)
    assert (tmp_path / "run" / "best.safetensors").exists()


def test_minutes_end_the_schedule(config: TrainConfig, images: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(config, steps=10**9)
    trainer = Trainer(config, images, tmp_path / "run", minutes=10.0)
    trainer.start()
    trainer.elapsed = 10 * 60 - 1e-6
    assert trainer.learning_rate() < config.learning_rate
    trainer.fit()
    assert trainer.step == 1


@pytest.mark.parametrize("text", [BOTTLENECK, HYPERPRIOR])
def test_tensorboard_has_numbers_and_pictures(text: str, images: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = TrainConfig.load(write_config(tmp_path, text, 20))
    trainer = Trainer(dataclasses.replace(config, validate_every=20), images, tmp_path / "run")
    trainer.start()
    trainer.fit()
    events = EventAccumulator(str(trainer.folder.board))
    events.Reload()
    own = {"kl"} if text == BOTTLENECK else {"bpp"}
    wanted = {"loss", "mse", "l1", "psnr", "gradient_norm", "learning_rate"} | own
    assert {f"train/{name}" for name in wanted} <= set(events.Tags()["scalars"])
    assert "validation/loss" in events.Tags()["scalars"]
    shown = {tag.split("/")[1] for tag in events.Tags()["images"]}
    assert shown == {"reconstructions", "features"}


def test_what_is_watched_is_what_the_convolution_gave() -> None:
    """Though the activation after it works in place."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.LeakyReLU(inplace=True))
    x = torch.randn(1, 1, 4, 4)
    with torch.no_grad(), watching(model) as seen:
        model(x)
        assert torch.equal(seen[0], model[0](x)) and bool((seen[0] < 0).any())


def test_invalid_samples_are_left_out_of_the_loss(tmp_path: Path) -> None:
    """A depth map with holes trains as well as one without."""
    folder = tmp_path / "depth"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(8):
        depth = rng.integers(1000, 9000, (32, 32)).astype(np.uint16)
        depth[:, : 4 * i] = 0
        Image.fromarray(depth).save(folder / f"{i}.png")
    values = {
        "family": "bottleneck",
        "batch": 4,
        "model": {"widths": [8], "latent_dim": 4},
        "data": {
            "height": 32,
            "width": 32,
            "channels": 1,
            "bits": 16,
            "maximum": 10000,
            "invalid": 0,
            "validation": 0.0,
            "test": 0.0,
        },
    }
    trainer = Trainer(TrainConfig.from_dict(values), folder, tmp_path / "run")
    trainer.start()
    batch = trainer.task.batch(0)
    assert 0 < batch.mask.float().mean() < 1
    loss, _ = trainer.task.loss(trainer.model, batch, 0)
    holes = dataclasses.replace(batch, x=batch.x.clone())
    out = trainer.model(batch.x).pixels
    expected = ((out - holes.x).square() * batch.mask).sum((1, 2, 3)) / batch.mask.sum((1, 2, 3))
    torch.testing.assert_close(loss, expected.mean())


def test_a_run_without_validation_images(config: TrainConfig, images: Path, tmp_path: Path) -> None:
    data = dataclasses.replace(config.data, validation=0.0)
    config = dataclasses.replace(config, data=data, steps=3)
    result = train(config, images, tmp_path / "run")
    assert result.best_loss is None
    assert (tmp_path / "run" / "last.safetensors").exists()
    with pytest.raises(TrainingError, match="no validation images, which early_stopping needs"):
        train(dataclasses.replace(config, early_stopping=3), images, tmp_path / "other")


def test_datasets_that_cannot_be_trained_on(tmp_path: Path, config: TrainConfig) -> None:
    empty, deep = tmp_path / "empty", tmp_path / "deep"
    for folder in (empty, deep):
        folder.mkdir()
    for i in range(8):
        Image.fromarray(np.full((80, 80), 1000 + i, np.uint16)).save(deep / f"{i}.png")
    with pytest.raises(InputError, match="empty: no images in it"):
        train(config, empty, tmp_path / "run")
    with pytest.raises(InputError, match="16"):
        train(config, deep, tmp_path / "run")
    photos = TrainConfig.load(write_config(tmp_path, HYPERPRIOR, 5))
    with pytest.raises(InputError, match=r"deep: none of 5 .* 8 bits a sample and at least 64"):
        train(photos, deep, tmp_path / "run")
    with pytest.raises(InputError, match="device 'abacus' cannot be used"):
        train(photos, deep, tmp_path / "run", device="abacus")
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").touch()  # of a run that was killed early
    with pytest.raises(OutputError, match=r"metrics\.jsonl exists"):
        train(photos, deep, tmp_path / "run")


def test_missing_lion_is_named(
    config: TrainConfig, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lion_pytorch", None)
    with pytest.raises(MissingDependencyError, match="lion-pytorch"):
        Trainer(dataclasses.replace(config, optimiser="lion"), images, tmp_path / "run")


def test_training_imports_without_optional_packages() -> None:
    """A machine for training may lack what only coding, augmenting or tuning needs."""
    code = (
        "import sys\n"
        "for name in ('constriction', 'kornia', 'optuna', 'lpips', 'lion_pytorch',"
        " 'pytorch_msssim', 'tensorboard', 'imagecodecs', 'tifffile'):\n"
        "    sys.modules[name] = None\n"
        "import aecodec.train.run, aecodec.train.tasks.bottleneck, aecodec.train.tasks.hyperprior"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
