"""Runs that stop, fail or go on: nothing is lost, and nothing changes by it."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file
from train_files import BOTTLENECK, HYPERPRIOR, write_config, write_images

from aecodec.cli import main
from aecodec.errors import InputError, OutputError, TrainingError, WeightsError
from aecodec.train import checkpoint
from aecodec.train.config import TrainConfig
from aecodec.train.loop import Trainer
from aecodec.train.run import train
from aecodec.train.runfolder import RunFolder, read_metrics

OPTIMISERS = [
    (BOTTLENECK, "adamw"),
    (BOTTLENECK, "muon"),
    (BOTTLENECK, "adam"),
    (BOTTLENECK, "sgd"),
    (BOTTLENECK, "lion"),
    (HYPERPRIOR, "muon"),
    (HYPERPRIOR, "adamw"),
]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_images(folder)
    return folder


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    return TrainConfig.load(write_config(tmp_path, BOTTLENECK, 12))


def assert_same(one: Path, two: Path) -> None:
    """Every tensor of two checkpoints is the same, bit for bit."""
    first, second = load_file(one), load_file(two)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


@pytest.mark.parametrize(("text", "optimiser"), OPTIMISERS)
def test_resuming_is_bit_exact(text: str, optimiser: str, images: Path, tmp_path: Path) -> None:
    config = TrainConfig.load(write_config(tmp_path, text, 12))
    config = dataclasses.replace(config, optimiser=optimiser, weight_decay=0.01)

    def trainer(folder: str) -> Trainer:
        return Trainer(config, images, tmp_path / folder)

    whole = trainer("whole")
    whole.start()
    for _ in range(6):
        whole.train_step()
    first = trainer("parts")
    first.start()
    for _ in range(4):
        first.train_step()
    path = first.save()
    del first
    second = trainer("parts")
    second.resume(path)
    assert second.step == 4
    for _ in range(2):
        second.train_step()
    assert_same(whole.save(), second.save())


def interrupt_at(trainer: Trainer, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send Ctrl-C to this process during a step."""
    train_step = trainer.train_step

    def interrupted():  # type: ignore[no-untyped-def]
        if trainer.step == step:
            os.kill(os.getpid(), signal.SIGINT)
        return train_step()

    monkeypatch.setattr(trainer, "train_step", interrupted)


def test_a_run_that_was_interrupted_ends_as_one_that_was_not(
    config: TrainConfig, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With validations between, and a schedule that depends on them."""
    config = dataclasses.replace(config, schedule="plateau", plateau_patience=1, decay=0.5)
    whole = Trainer(config, images, tmp_path / "whole")
    whole.start()
    whole.fit()
    parts = Trainer(config, images, tmp_path / "parts")
    interrupt_at(parts, 6, monkeypatch)
    parts.start()
    parts.fit()
    assert parts.step == 7
    assert train(None, None, tmp_path / "parts", resume=True).finished
    assert_same(whole.folder.last, parts.folder.last)
    assert_same(whole.folder.best, parts.folder.best)
    records = [RunFolder(tmp_path / name).records() for name in ("whole", "parts")]
    assert [r["step"] for r in records[1]] == [5, 10, 12]
    assert [r["loss"] for r in records[0]] == [r["loss"] for r in records[1]]


def test_metrics_of_steps_that_are_done_again_are_forgotten(
    config: TrainConfig, images: Path, tmp_path: Path
) -> None:
    config = dataclasses.replace(config, checkpoint_every=5)
    trainer = Trainer(config, images, tmp_path / "run")
    trainer.start()
    trainer.fit()
    with trainer.folder.metrics.open("a") as file:
        file.write('{"step": 15, "lo')  # as a crash leaves it
    again = Trainer(config, images, tmp_path / "run")
    again.resume(tmp_path / "run" / "checkpoint-5.safetensors")
    assert [r["step"] for r in again.folder.records()] == [5]


def test_a_killed_run_goes_on_from_its_newest_checkpoint(
    config: TrainConfig, images: Path, tmp_path: Path
) -> None:
    config = dataclasses.replace(config, checkpoint_every=5)
    trainer = Trainer(config, images, tmp_path / "run")
    trainer.start()
    trainer.fit()
    folder = trainer.folder
    ended = folder.last.rename(tmp_path / "ended.safetensors")
    older = folder.checkpoints()[5].rename(tmp_path / "older.safetensors")
    for last in (None, older):  # it was killed before it wrote one, or after it wrote one
        if last is not None:
            shutil.copy(last, folder.last)
        assert train(None, None, folder.path, resume=True).finished
        assert_same(ended, folder.last)
        assert [r["step"] for r in folder.records()] == [5, 10, 12]
        folder.last.unlink()
    for path in (folder.best, folder.metrics):
        path.unlink()
    with pytest.raises(OutputError, match=r"checkpoint-10\.safetensors exists"):
        train(config, images, folder.path)


@pytest.mark.parametrize(
    "line",
    [b"3", b"[1]", b"null", b'{"loss": \xff}', b'{"st', b'{"step": "x"}', b"[" * 100_000],
    ids=range(7),
)
def test_damaged_metrics_are_refused_but_for_the_last_line(
    line: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, good = tmp_path / "metrics.jsonl", b'{"step": 5, "loss": 1.5}\n'
    assert RunFolder(tmp_path).records() == []
    path.write_bytes(good + b"\n" + line)
    assert read_metrics(path) == RunFolder(tmp_path).records() == [json.loads(good)]
    assert "metrics.jsonl: line 3 is cut off" in caplog.text
    path.write_bytes(good + line + b"\n" + good)
    for use in (lambda: read_metrics(path), lambda: RunFolder(tmp_path).rewind(1)):
        with pytest.raises(InputError, match=r"metrics\.jsonl: line 2 is damaged"):
            use()
    assert line in path.read_bytes()
    with pytest.raises(InputError, match="no such file"):
        read_metrics(tmp_path / "none.jsonl")


def test_the_run_folder_has_what_the_manual_says(
    config: TrainConfig,
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "small.toml"
    path.write_text(dataclasses.replace(config, checkpoint_every=3, keep_checkpoints=2).to_toml())
    folder = tmp_path / "run"
    command = ["train", str(path), "--data", str(images), "--out", str(folder)]
    assert main.run(command) == 0
    assert "best validation loss" in capsys.readouterr().err
    found = {p.name for p in folder.iterdir()}
    assert found == {
        "config.toml",
        "best.safetensors",
        "last.safetensors",
        "checkpoint-9.safetensors",
        "checkpoint-12.safetensors",
        "metrics.jsonl",
        "tensorboard",
        "test_files.txt",
    }
    assert TrainConfig.load(folder / "config.toml") == TrainConfig.load(path)
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert {"step", "minutes", "images", "loss", "mse", "l1", "kl", "psnr"} <= set(records[0])
    best = min(records, key=lambda r: r["loss"])
    assert checkpoint.read_meta(folder / "best.safetensors")["step"] == best["step"]
    names = (folder / "test_files.txt").read_text().split()
    assert names and all((images / name).exists() for name in names)
    assert main.run(command) == 6
    assert "--resume" in capsys.readouterr().err
    assert main.run(["train", "--resume", str(folder)]) == 0


def test_test_and_validation_images_are_not_trained_on(
    config: TrainConfig, images: Path, tmp_path: Path
) -> None:
    task = Trainer(config, images, tmp_path / "run").task
    training = {p.name for p in task.source.dataset.paths}  # type: ignore[attr-defined]
    validation = {p.name for p in task.validation.paths}  # type: ignore[attr-defined]
    test = set(task.test_files) - {"broken.png"}
    assert training and validation and test
    assert not training & validation and not training & test and not validation & test
    assert len(training | validation | test) == 12


@pytest.mark.parametrize("text", [BOTTLENECK, HYPERPRIOR])
def test_a_loss_that_is_not_finite_stops_the_run(text: str, images: Path, tmp_path: Path) -> None:
    config = TrainConfig.load(write_config(tmp_path, text, 30))
    trainer = Trainer(config, images, tmp_path / "run")
    trainer.start()
    trainer.save()
    kept = trainer.folder.last.read_bytes()
    for _ in range(3):
        trainer._window.append(trainer.train_step())
    with torch.no_grad():
        next(iter(trainer.model.parameters())).fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"is nan at step 4; the last good checkpoint"):
        trainer.fit()
    with pytest.raises(TrainingError, match="weights are not finite at step"):
        trainer.save()
    assert trainer.folder.last.read_bytes() == kept
    assert not trainer.folder.best.exists()


def test_a_run_that_diverges_says_at_which_step(
    config: TrainConfig, images: Path, tmp_path: Path
) -> None:
    wild = dataclasses.replace(
        config, optimiser="sgd", learning_rate=1e18, clip=0.0, warmup=0, validate_every=100
    )
    trainer = Trainer(wild, images, tmp_path / "run")
    trainer.start()
    with pytest.raises(TrainingError, match=r"at step \d+; there is no checkpoint yet"):
        trainer.fit()
    assert not list((tmp_path / "run").glob("*.safetensors*"))


@pytest.mark.parametrize("when", ["write", "replace"])
def test_a_full_disk_leaves_the_checkpoint_before(
    when: str,
    config: TrainConfig,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer = Trainer(config, images, tmp_path / "run")
    trainer.start()
    path = trainer.save()
    kept = path.read_bytes()

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync" if when == "write" else "replace", full)
    with pytest.raises(OutputError, match=r"last\.safetensors: no space left on device"):
        trainer.save()
    assert path.read_bytes() == kept
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["last.safetensors"]


def test_an_interrupted_command_says_so(images: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    config = write_config(tmp_path, BOTTLENECK, 10**6)
    command = [sys.executable, "-m", "aecodec", "train", config, "--data", images, "--out", run]
    with subprocess.Popen([str(part) for part in command], cwd=ROOT) as process:
        while not (run / "test_files.txt").exists():
            assert process.poll() is None
            time.sleep(0.1)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert (run / "last.safetensors").exists()


def test_an_optimiser_that_did_not_make_the_checkpoint_is_refused(
    config: TrainConfig, images: Path, tmp_path: Path
) -> None:
    trainer = Trainer(config, images, tmp_path / "run")
    trainer.start()
    path = trainer.save()
    other = Trainer(dataclasses.replace(config, optimiser="lion"), images, tmp_path / "run")
    with pytest.raises(TrainingError, match="the optimiser adamw, not lion"):
        other.resume(path)
    shape = dataclasses.replace(config.model, latent_dim=9)
    other = Trainer(dataclasses.replace(config, model=shape), images, tmp_path / "run")
    named = r"last\.safetensors: does not fit this model: \w+\.weight is \(.*8.*\), not \(.*9.*\)$"
    with pytest.raises(TrainingError, match=named):
        other.resume(path)
    plain = dataclasses.replace(config.model, norm="none")
    other = Trainer(dataclasses.replace(config, model=plain), images, tmp_path / "run")
    with pytest.raises(TrainingError, match=r"does not fit this model: it has \w+\."):
        other.resume(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="not a usable safetensors file"):
        trainer.resume(path)


def test_a_checkpoint_from_before_there_were_families_resumes(images: Path, tmp_path: Path) -> None:
    config = TrainConfig.load(write_config(tmp_path, HYPERPRIOR, 12))
    trainer = Trainer(config, images, tmp_path / "run")
    trainer.start()
    trainer.train_step()
    old = ("model", "seed", "steps", "batch", "patch", "learning_rate", "final_learning_rate")
    settings = {key: value for key, value in config.to_dict().items() if key in old}
    path = tmp_path / "old.safetensors"
    meta = {"step": 1, "elapsed": 2.5, "patches": 4, "config": settings}
    generator = trainer.task.generator
    checkpoint.save(path, trainer.model, trainer.ema, trainer.optimisers, generator, meta)
    again = Trainer(config, images, tmp_path / "again")
    again.resume(path)
    assert (again.step, again.elapsed, again.course.best) == (1, 2.5, None)
    assert_same(trainer.save(), again.save())
    assert TrainConfig.from_dict(settings).family == "hyperprior"


def test_parts_can_be_frozen(images: Path, tmp_path: Path) -> None:
    config = TrainConfig.load(write_config(tmp_path, HYPERPRIOR, 4))
    config = dataclasses.replace(config, train_only=("synthesis.blocks",), deadzone=0.6)
    trainer = Trainer(config, images, tmp_path / "run")
    trainer.start()
    trainer.save(tmp_path / "before.safetensors")
    trainer.fit()
    before = load_file(tmp_path / "before.safetensors")
    after = load_file(tmp_path / "run" / "last.safetensors")
    for name, value in before.items():
        if name.startswith(("model.", "ema.")):
            trained = "synthesis.blocks" in name
            assert torch.equal(value, after[name]) != trained, name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_only": ("synthetic",)}, "'synthetic'; they begin with .*synthesis"),
        ({"deadzone": 1.5}, "deadzone must be from 0 to 1"),
    ],
)
def test_what_cannot_be_frozen(
    change: dict[str, object], message: str, images: Path, tmp_path: Path
) -> None:
    config = TrainConfig.load(write_config(tmp_path, HYPERPRIOR, 4))
    with pytest.raises(TrainingError, match=message):
        Trainer(dataclasses.replace(config, **change), images, tmp_path / "run")
