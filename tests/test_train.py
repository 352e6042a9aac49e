"""Training for real, on small generated pictures with a small model."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Run, psnr
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file
from train_files import HYPERPRIOR, write_config, write_images

from aecodec.codec import Codec
from aecodec.container import parse
from aecodec.errors import (
    InputError,
    OutputError,
    TrainingError,
    UnknownModelError,
    WeightsError,
)
from aecodec.model.config import ModelConfig
from aecodec.model.likelihood import gaussian_bits
from aecodec.train.config import TrainConfig
from aecodec.train.export import export
from aecodec.train.loop import Trainer
from aecodec.train.losses import LossConfig
from aecodec.train.muon import orthogonalise
from aecodec.train.patches import PatchSource, load_image, split_by_name
from aecodec.train.prepare import DataConfig
from aecodec.train.tables import frequencies
from aecodec.train.tasks.hyperprior import HyperpriorTask, draw_qualities


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crops of real photographs."""
    folder = tmp_path_factory.mktemp("images")
    write_images(folder)
    return folder


def config_file(folder: Path, steps: int) -> Path:
    return write_config(folder, HYPERPRIOR, steps)


@pytest.fixture
def trainer(images: Path, tmp_path: Path) -> Trainer:
    return Trainer(TrainConfig.load(config_file(tmp_path, 60)), images, tmp_path / "run")


@pytest.fixture(scope="module")
def trained(images: Path, tmp_path_factory: pytest.TempPathFactory, run: Run) -> Path:
    """A short run through the command line."""
    folder = tmp_path_factory.mktemp("trained")
    config = config_file(folder, 60)
    done = run("train", config, "--data", images, "--out", folder / "run")
    assert done.returncode == 0, done.stderr
    assert "patches/s" in done.stderr
    return folder / "run"


def test_a_few_steps_lower_the_loss(trained: Path) -> None:
    records = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records] == [20, 40, 60]
    assert records[-1]["loss"] < 0.97 * records[0]["loss"]
    assert list((trained / "tensorboard").iterdir())


def test_the_trained_model_codes_images(trained: Path, images: Path, tmp_path: Path) -> None:
    weights = tmp_path / "small.safetensors"
    export(trained, images, weights, description="a test", count=4, deadzone=0.5)
    codec = Codec(weights)
    image = np.asarray(Image.open(images / "coffee-0.png"))
    small, large = (codec.encode(image, quality=q) for q in (10, 90))
    assert len(small) < len(large) < image.size
    assert psnr(image, codec.decode(small)) + 3 < psnr(image, codec.decode(large))
    assert codec.network.info.description == "a test"


def test_refined_files_have_tables_of_their_own(
    trained: Path, images: Path, tmp_path: Path
) -> None:
    plain, soft = tmp_path / "plain.safetensors", tmp_path / "soft.safetensors"
    export(trained, images, plain, description="", count=2)
    export(trained, images, soft, description="", count=2, refined=6)
    image = np.asarray(Image.open(images / "coffee-0.png"))
    codecs = Codec(plain), Codec(soft)
    for effort in (0, 2, 6):
        files = [codec.encode(image, quality=60, effort=effort) for codec in codecs]
        shown = [codec.decode(file) for codec, file in zip(codecs, files, strict=True)]
        np.testing.assert_array_equal(*shown)  # the same integers
        if effort < 4:
            assert len(files[0]) == len(files[1])
        else:
            assert len(files[1]) < len(files[0])


def test_interrupt_saves_and_stops(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import signal

    step = trainer.train_step

    def interrupted():  # type: ignore[no-untyped-def]
        if trainer.step == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return step()

    monkeypatch.setattr(trainer, "train_step", interrupted)
    trainer.start()
    trainer.fit()
    assert trainer.step == 4
    again = Trainer(trainer.config, *_folders(trainer))
    again.resume(trainer.run / "last.safetensors")
    assert again.step == 4


def _folders(trainer: Trainer) -> tuple[Path, Path]:
    return trainer.images, trainer.run


def test_bad_folders_say_what_is_wrong(images: Path, tmp_path: Path, run: Run) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    done = run("train", config_file(tmp_path, 5), "--data", empty, "--out", tmp_path / "run")
    assert done.returncode == 3
    assert "no images" in done.stderr
    with pytest.raises(InputError, match="at least 512"):
        PatchSource(list(images.glob("*.png")), 512, {}, torch.device("cpu"), 0)


def test_patches_are_pieces_of_the_images(tmp_path: Path) -> None:
    ramp = np.arange(90 * 100, dtype=np.int64)
    image = np.stack([ramp // 90 % 256, ramp % 90, ramp % 7], axis=1).reshape(100, 90, 3)
    path = tmp_path / "ramp.png"
    Image.fromarray(image.astype(np.uint8)).save(path)
    source = PatchSource([path], 64, {}, torch.device("cpu"), 7)
    patches = ((source.batch(16) + 0.5) * 255).round().to(torch.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(image.astype(np.uint8), (64, 64), (0, 1))
    for patch in patches.numpy():
        found = any(
            (windows == turned).all(axis=(2, 3, 4)).any()
            for flipped in (patch, patch.transpose(0, 2, 1))
            for turned in (
                flipped,
                flipped[:, ::-1],
                flipped[:, :, ::-1],
                flipped[:, ::-1, ::-1],
            )
        )
        assert found


def test_training_sees_pictures_upright_and_passes_over_what_is_none(
    photo: np.ndarray,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(photo[:, :, 0]).save(tmp_path / "gray.png")
    (tmp_path / "bomb.png").write_bytes(b"P6 100000 100000 255\n")
    turned, gray, bomb = (
        load_image(tmp_path / f"{name}.png", DataConfig()) for name in ("turned", "gray", "bomb")
    )
    np.testing.assert_array_equal(turned, np.rot90(photo, -1))
    np.testing.assert_array_equal(gray, photo[:, :, :1].repeat(3, axis=2))
    assert bomb is None
    (tmp_path / "deep.ppm").write_bytes(b"P6 1 1 65535\n" + bytes(6))
    assert load_image(tmp_path / "deep.ppm", DataConfig()) is None
    assert "bomb.png" in caplog.text


def test_tables_are_counted_on_what_can_be_used(trained: Path, tmp_path: Path) -> None:
    folder, weights = tmp_path / "images", tmp_path / "small.safetensors"
    folder.mkdir()
    for i in range(8):  # some are held out
        Image.new("RGB", (40, 12)).save(folder / f"flat-{i}.png")
    with pytest.raises(InputError, match=rf"{folder}: none of \d images"):
        export(trained, folder, weights, description="")
    assert not weights.exists()
    for i in range(8):
        Image.new("RGB", (40, 20)).save(folder / f"larger-{i}.png")
    export(trained, folder, weights, description="", refined=2)
    assert Codec(weights).model_id
    with pytest.raises(OutputError, match="there is no folder"):
        export(trained, folder, tmp_path / "none" / "small.safetensors", description="")


def test_sampling_weights_are_obeyed(tmp_path: Path) -> None:
    for name, value in (("often", 200), ("rarely", 20)):
        Image.new("RGB", (64, 64), (value,) * 3).save(tmp_path / f"{name}.png")
    paths = sorted(tmp_path.iterdir())
    weights: dict[str, float] = {"often*": 4, "rarely*": 1}
    source = PatchSource(paths, 64, weights, torch.device("cpu"), 1)
    bright = (source.batch(1000)[:, 0, 0, 0] > 0).float().mean()
    assert 0.75 < bright < 0.85
    with pytest.raises(InputError, match="weight of 0"):
        PatchSource(paths, 64, {"*": 0.0}, torch.device("cpu"), 1)


@given(count=st.integers(1, 200), power=st.floats(0.2, 5))
def test_a_step_has_one_quality_of_each_part_of_the_range(count: int, power: float) -> None:
    shares = (draw_qualities(count, power).double() / 7) ** (1 / power) * count
    part = torch.arange(count)
    assert ((shares > part - 1e-3) & (shares < part + 1 + 1e-3)).all()


def test_the_split_depends_on_names_alone(images: Path) -> None:
    paths = sorted(images.glob("*.png"))
    training, held_out = split_by_name(paths, 0.3)
    assert sorted(training + held_out) == paths
    assert training and held_out
    moved = [Path("/elsewhere") / p.name for p in reversed(paths)]
    assert {p.name for p in split_by_name(moved, 0.3)[1]} == {p.name for p in held_out}


def test_gradient_of_the_likelihood() -> None:
    torch.manual_seed(0)
    residual = (torch.randn(40, dtype=torch.float64) * 2).requires_grad_()
    log_scale = (torch.rand(40, dtype=torch.float64) * 2).requires_grad_()
    assert torch.autograd.gradcheck(gaussian_bits, (residual, log_scale))


@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 16, 100)])
def test_orthogonalise(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
    assert values.min() > 0.3  # the quintic iteration only comes close to 1
    assert values.max() < 1.3


def test_frequencies_are_whole_and_sum_to_one() -> None:
    weights = np.array([[1e-12, 5, 3.3, 0], [1, 1, 1, 1]])
    table = frequencies(weights)
    assert (table.sum(axis=1) == 2**24).all()
    assert table.min() == 1


def test_each_validation_image_counts_alike(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nine of them are a batch of eight and one of one."""
    task = trainer.task
    assert isinstance(task, HyperpriorTask)
    task.validation = [torch.zeros(8, 3, 64, 64), torch.ones(1, 3, 64, 64)]

    def loss(model: object, batch: Any, step: int | None) -> Any:
        each = batch[0].mean(dim=(1, 2, 3))
        return each.mean(), {"bpp": each, "mse": each}

    monkeypatch.setattr(task, "loss", loss)
    found = task.validate()
    assert found["loss"] == pytest.approx(1 / 9)
    assert found["bpp/0.5"] == pytest.approx(1 / 9)
    assert set(found) == set(task.metrics(trainer.config))


def test_configs_survive_their_own_json() -> None:
    config = ModelConfig(latent_channels=64, context_blocks=(1, 2))
    assert ModelConfig.from_json(config.to_json()) == config


def test_bfloat16_trains_like_float32(images: Path, tmp_path: Path) -> None:
    losses = {}
    for precision in ("float32", "bfloat16"):
        config = TrainConfig.load(config_file(tmp_path, 10))
        config = dataclasses.replace(config, precision=precision)
        trainer = Trainer(config, images, tmp_path / precision)
        trainer.start()
        losses[precision] = [float(trainer.train_step()["loss"]) for _ in range(4)]
    np.testing.assert_allclose(losses["bfloat16"], losses["float32"], rtol=0.05)


def test_a_run_starts_from_a_release_or_a_checkpoint(
    trained: Path, images: Path, tmp_path: Path
) -> None:
    release = tmp_path / "small.safetensors"
    export(trained, images, release, description="test", count=2)
    trainer = Trainer(TrainConfig.load(config_file(tmp_path, 10)), images, tmp_path / "run")
    expected = load_file(trained / "last.safetensors")
    half = 2**-9  # of the step of a scale head's weights
    last = trained / "last.safetensors"
    folder = tmp_path / "copied"
    folder.mkdir()
    (folder / last.name).write_bytes(last.read_bytes())
    for path, relative, step in ((last, 0.0, 0.0), (folder, 0.0, 0.0), (release, 2e-3, half)):
        trainer.start(path)
        for name, value in trainer.model.named_parameters():
            wanted = expected[f"ema.{name}"]
            limit = relative * wanted.abs().max() + step * name.startswith("scale_")
            assert (value - wanted).abs().max() <= limit


def test_a_run_starts_from_a_smaller_model(trained: Path, images: Path, tmp_path: Path) -> None:
    """What the file lacks starts fresh; what does not fit is refused."""
    config = TrainConfig.load(config_file(tmp_path, 10))
    plain = dataclasses.replace(config.model, scale_context_width=0)
    without = Trainer(dataclasses.replace(config, model=plain), images, tmp_path / "plain")
    without.start()
    path = without.save()
    larger = Trainer(config, images, tmp_path / "larger")
    larger.start(path)
    x = larger.task.batch(0)[0][:2]
    bits = [t.model.eval()(x, torch.tensor([1.0, 5.0])).y_bits for t in (larger, without)]
    torch.testing.assert_close(*bits)
    with pytest.raises(TrainingError, match="scale_context"):
        without.start(trained / "last.safetensors")
    with pytest.raises(WeightsError, match="not a usable safetensors file"):
        without.start(tmp_path / "config.toml")
    with pytest.raises(UnknownModelError, match=r"neither best\.safetensors nor last"):
        without.start(tmp_path)


def test_a_model_without_scale_context_codes_files(images: Path, tmp_path: Path) -> None:
    """Its residuals are coded in a single pass, and become latents in two."""
    config = TrainConfig.load(config_file(tmp_path, 10))
    plain = dataclasses.replace(config.model, scale_context_width=0)
    run = Trainer(dataclasses.replace(config, model=plain), images, tmp_path / "plain")
    run.start()
    weights = tmp_path / "plain.safetensors"
    export(run.save(), images, weights, description="", count=2)
    photo = np.asarray(Image.open(sorted(images.glob("*.png"))[0]).convert("RGB"))
    for threads in (1, 2):
        codec = Codec(weights, threads=threads)
        data = codec.encode(photo, quality=60)
        (s,) = codec.symbols(data)
        header = parse(data).header
        latents = codec.network.quantiser.dequantise(s.z, s.q, header.quality)
        expected = codec.network.synthesise(latents, header.synthesis_q)
        shown = codec.decode(data).astype(int)
        assert np.abs(shown - expected[: photo.shape[0], : photo.shape[1]]).max() <= 1


def test_distortions_can_be_mixed(images: Path, tmp_path: Path) -> None:
    """The codec's loss takes the weights of [loss], and without them is what it was."""
    config = TrainConfig.load(config_file(tmp_path, 10))
    found = {}
    for name, loss in (
        ("plain", LossConfig()),
        ("twice", LossConfig(mse=2.0)),
        ("mixed", LossConfig(mse=1.0, ms_ssim=0.01)),
    ):
        changed = dataclasses.replace(config, loss=loss, precision="float32")
        trainer = Trainer(changed, images, tmp_path / name)
        trainer.start()
        batch = trainer.task.batch(0)
        torch.manual_seed(0)
        found[name] = trainer.task.loss(trainer.model, batch, 0)
    loss, parts = found["plain"]
    lambdas = torch.tensor([config.model.lambda_at(float(q)) for q in batch[1]])
    expected = (lambdas * 255**2 * parts["mse"] + parts["bpp"]) / lambdas.sqrt()
    torch.testing.assert_close(loss, expected.mean())
    more = (lambdas.sqrt() * 255**2 * parts["mse"]).mean()
    torch.testing.assert_close(found["twice"][0], loss + more)
    extra = (lambdas.sqrt() * 255**2 * 0.01 * found["mixed"][1]["ms_ssim"]).mean()
    torch.testing.assert_close(found["mixed"][0], loss + extra)
