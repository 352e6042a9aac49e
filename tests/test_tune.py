"""Tuning: the search space is checked, trials run, are pruned, fail, and are gone on with."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from click.testing import CliRunner
from conftest import ROOT
from PIL import Image

from aecodec.cli.tune import command
from aecodec.errors import InputError, TrainingError
from aecodec.model.families import load_model
from aecodec.train.config import TrainConfig
from aecodec.train.loop import Trainer
from aecodec.tune import Tuned, tune
from aecodec.tune_space import apply, metrics, parameters

TINY: dict[str, Any] = {
    "family": "bottleneck",
    "steps": 4,
    "batch": 4,
    "validate_every": 2,
    "warmup": 1,
    "optimiser": "adamw",
    "learning_rate": 1e-3,
    "ema": 0.0,
    "model": {"height": 16, "width": 16, "latent_dim": 4, "widths": [4]},
    "data": {"validation": 0.4, "test": 0.1},
    "tune": {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}},
}


def tiny(**changes: Any) -> TrainConfig:
    return TrainConfig.from_dict({**TINY, **changes})


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, photo: np.ndarray) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for i in range(12):
        part = photo[16 * i : 16 * i + 16, 20 * i : 20 * i + 16]
        Image.fromarray(part).save(folder / f"{i}.png")
    return folder


@pytest.fixture(autouse=True)
def no_plots(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """They take longer than the trials; one test looks at them."""
    if "command_line" not in request.node.name:
        monkeypatch.setattr("aecodec.tune_report.save", lambda figure, path: None)


def listed(out: Path) -> list[dict[str, Any]]:
    trials: list[dict[str, Any]] = json.loads((out / "trials.json").read_text())["trials"]
    return trials


# ---- the search space ----


def test_every_kind_of_key_can_be_searched() -> None:
    space = {
        "learning_rate": {"low": 1, "high": 2},
        "optimiser": {"choices": ["adamw", "muon"]},
        "model.latent_dim": {"low": 2, "high": 6, "step": 2},
        "model": {"widths": {"choices": [[4], [4, 8]]}, "attention": {"choices": [True, False]}},
        "loss.l1": {"low": 0.1, "high": 1.0, "log": True},
        "augment": {"noise": {"low": 0, "high": 0.5}},
    }
    config = tiny(tune=space)
    found = {one.key: one for one in parameters(config)}
    assert list(found) == [
        "learning_rate",
        "optimiser",
        "model.latent_dim",
        "model.widths",
        "model.attention",
        "loss.l1",
        "augment.noise",
    ]
    assert found["model.latent_dim"].whole and not found["learning_rate"].whole
    assert found["model.widths"].value("[4, 8]") == [4, 8]
    made = apply(config, {"learning_rate": 2, "model.widths": [4, 8], "augment.noise": 0.5})
    assert (made.learning_rate, made.augment.noise, made.tune) == (2, 0.5, {})
    assert made.model.widths == (4, 8) and made.model.latent_dim == 4  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "no section .tune."),
        ({"learning_rte": {"choices": [1]}}, "unknown key 'learning_rte'.*'learning_rate'"),
        ({"latent_dim": {"choices": [1]}}, "did you mean 'model.latent_dim'"),
        ({"model.latent_dims": {"choices": [1]}}, "did you mean 'model.latent_dim'"),
        ({"data.height": {"choices": [8]}}, "measured on other images"),
        ({"model.width": {"choices": [8]}}, "measured on other images"),
        ({"learning_rate": 3}, "needs {low"),
        ({"learning_rate": {"low": 1, "hihg": 2}}, "unknown 'hihg'; did you mean 'high'"),
        ({"learning_rate": {"low": 1}}, "both low and high"),
        ({"learning_rate": {"low": 2, "high": 1}}, "low is above high"),
        ({"learning_rate": {"low": 0, "high": 1, "log": True}}, "log needs low above 0"),
        ({"learning_rate": {"low": "1", "high": 1}}, "low must be a number"),
        ({"batch": {"low": 1, "high": 2.5}}, "high must be a whole number"),
        ({"optimiser": {"low": 1, "high": 2}}, "is no number: give choices"),
        ({"optimiser": {"choices": []}}, "choices are a list"),
        ({"optimiser": {"choices": ["adamw", "adamm"]}}, "cannot be 'adamm': optimiser must be"),
        ({"model.latent_dim": {"low": -1, "high": 4}}, "cannot be -1"),
        ({"model.widths": {"choices": [3]}}, "cannot be 3"),
    ],
)
def test_mistakes_in_the_search_space_are_named(space: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        parameters(tiny(tune=space))


def test_values_that_need_others_are_fine() -> None:
    """A weight of `kl` needs a variational model, which is searched for, too."""
    kl = {"loss.kl": {"low": 0.1, "high": 1.0}}
    with pytest.raises(TrainingError, match="variational"):
        parameters(tiny(tune=kl))
    parameters(tiny(tune={**kl, "model.variational": {"choices": [False, True]}}))


# ---- the search ----


def test_a_search_from_the_command_line(images: Path, tmp_path: Path) -> None:
    config, out = tmp_path / "config.toml", tmp_path / "search"
    space = {**TINY["tune"], "model.widths": {"choices": [[4], [4, 8]]}}
    config.write_text(tiny(tune=space).to_toml())
    arguments = [config, "--data", images, "--out", out, "--trials", 3, "--metric", "psnr"]
    done = CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "3 trials completed, 0 pruned, 0 failed" in done.output
    trials = listed(out)
    best = max(trials, key=lambda trial: trial["value"])
    assert f"psnr {best['value']:.6g}, trial {best['number']}" in done.output
    for trial in trials:
        run = out / "trials" / f"{trial['number']:04}"
        records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert {str(r["step"]): r["psnr"] for r in records} == trial["validations"]
        assert trial["value"] == max(trial["validations"].values())
        used = TrainConfig.load(run / "config.toml")
        assert used.learning_rate == trial["values"]["learning_rate"]
        assert list(used.model.widths) == trial["values"]["model.widths"]  # type: ignore[union-attr]
        assert (run / "best.safetensors").exists() == (trial is best)
    found = TrainConfig.load(out / "best.toml")
    assert found.learning_rate == best["values"]["learning_rate"] and found.tune == {}
    assert load_model(out / "trials" / f"{best['number']:04}").config == found.model
    for name in ("history.png", "importance.png"):
        with Image.open(out / name) as drawn:
            assert len(drawn.convert("L").getcolors() or ()) > 10


def test_a_search_goes_on(images: Path, tmp_path: Path) -> None:
    first = tune(tiny(), images, tmp_path, trials=1)
    kept = listed(tmp_path)
    again = tune(tiny(), images, tmp_path, trials=3)
    assert (first.completed, again.completed) == (1, 3)
    assert listed(tmp_path)[0] == kept[0]
    assert tune(tiny(), images, tmp_path, trials=3) == again
    study = optuna.load_study(study_name="aecodec", storage=f"sqlite:///{tmp_path}/study.db")
    older = study.user_attrs["search"]
    del older["config"]["loss"]["kl_warmup"]  # as of a release that did not have it yet
    study.set_user_attr("search", older)
    assert tune(tiny(), images, tmp_path, trials=3) == again
    with pytest.raises(TrainingError, match="another config or metric"):
        tune(tiny(batch=3), images, tmp_path, trials=4)
    with pytest.raises(TrainingError, match="another config or metric"):
        tune(tiny(), images, tmp_path, trials=4, metric="mse")


def test_metrics_are_known_before_training(images: Path, tmp_path: Path) -> None:
    variational = {"variational": True, **TINY["model"]}
    config = tiny(model=variational, loss={"kl": 0.1, "ms_ssim": 0.0})
    assert set(Trainer(config, images, tmp_path).validate()) == set(metrics(config, ()))
    space = parameters(tiny(tune={"model.variational": {"choices": [False, True]}}))
    assert "kl" not in metrics(tiny(), ()) and "kl" in metrics(tiny(), space)
    space = parameters(tiny(tune={"loss.ms_ssim": {"low": 0, "high": 1}}))
    assert "ms_ssim" in metrics(tiny(), space)


def test_a_search_that_came_to_nothing_keeps_no_folder(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", lambda trainer: {"loss": torch.tensor(math.nan)})
        with pytest.raises(TrainingError, match="all 2 trials failed"):
            tune(tiny(), images, tmp_path, trials=2)
    (tmp_path / "trials" / "0000" / "metrics.jsonl").touch()  # of a trial that got so far
    found = tune(tiny(batch=3), images, tmp_path, trials=1, metric="psnr")
    assert (found.completed, found.failed, found.best_trial) == (1, 0, 0)
    assert json.loads((tmp_path / "trials.json").read_text())["direction"] == "maximize"


def test_a_device_that_cannot_be_used_stops_before_the_first_trial(
    images: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="device 'meta' cannot be used"):
        tune(tiny(), images, tmp_path / "search", trials=1, device="meta")
    assert not (tmp_path / "search").exists()


def test_no_trial_begins_after_the_time(images: Path, tmp_path: Path) -> None:
    assert tune(tiny(), images, tmp_path, trials=5, timeout=1e-9).completed == 0
    assert not (tmp_path / "best.toml").exists()


def test_the_seed_decides_what_is_tried(images: Path, tmp_path: Path) -> None:
    def values(folder: str, seed: int) -> list[Any]:
        tune(tiny(steps=1), images, tmp_path / folder, trials=2, seed=seed)
        return [trial["values"] for trial in listed(tmp_path / folder)]

    first = values("a", 1)
    assert first == values("b", 1) != values("c", 2)


def test_failed_trials_do_not_stop_the_search(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the first trial memory runs out, the second diverges, as their number has it: which
    values a trial draws is not for a test to know."""
    step, trials = Trainer.train_step, list[Trainer]()

    def limited(trainer: Trainer) -> Any:
        if trainer not in trials:
            trials.append(trainer)
        if trials.index(trainer) == 0:
            raise RuntimeError("DefaultCPUAllocator: not enough memory")
        if trials.index(trainer) == 1:
            next(trainer.model.parameters()).data.fill_(math.nan)
        return step(trainer)

    monkeypatch.setattr(Trainer, "train_step", limited)
    space = {"learning_rate": {"low": 1e-4, "high": 1e-2}}
    found = tune(tiny(steps=8, tune=space), images, tmp_path, trials=4, pruner="none")
    assert (found.completed, found.failed, found.pruned) == (2, 2, 0)
    memory, diverged, *good = listed(tmp_path)
    assert "DefaultCPUAllocator: not enough memory" in memory["cause"]
    assert "nan at step 1" in diverged["cause"]
    assert [trial["state"] for trial in (memory, diverged)] == ["fail"] * 2
    assert [(trial["state"], trial["cause"]) for trial in good] == [("complete", None)] * 2
    assert found.best_values in [trial["values"] for trial in good]
    best = TrainConfig.load(tmp_path / "best.toml")
    assert {"learning_rate": best.learning_rate} == found.best_values


def test_a_search_in_which_all_fails_says_why(images: Path, tmp_path: Path) -> None:
    hopeless = tiny(tune={"learning_rate": {"choices": [1e30]}}, steps=8)
    with pytest.raises(TrainingError, match=r"all 2 trials failed; the last one: .* at step"):
        tune(hopeless, images, tmp_path, trials=2)
    assert [trial["state"] for trial in listed(tmp_path)] == ["fail"] * 2
    assert not (tmp_path / "best.toml").exists()


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_poor_trials_end_early(
    images: Path, tmp_path: Path, pruner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss of these trials is made up: each is worse than the one before."""
    count = iter(range(10**6))

    def worse(trainer: Trainer) -> dict[str, float]:
        return {"loss": float(next(count)), "psnr": 0.0}

    monkeypatch.setattr(Trainer, "validate", worse)
    config = tiny(steps=12, validate_every=1)
    found = tune(config, images, tmp_path, trials=7, pruner=pruner, seed=1)
    assert found.pruned > 0 and found.completed > 0 and found.best_trial == 0
    for trial in listed(tmp_path):
        steps = [int(step) for step in trial["validations"]]
        assert (steps[-1] < 12) == (trial["state"] == "pruned")
        assert (trial["value"] is None) == (trial["state"] == "pruned")


def test_without_pruning_all_trials_run_to_the_end(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = iter(range(10**6))
    worse = lambda trainer: {"loss": float(next(count))}  # noqa: E731
    monkeypatch.setattr(Trainer, "validate", worse)
    found = tune(tiny(), images, tmp_path, trials=6, pruner="none")
    assert (found.completed, found.pruned) == (6, 0)


def test_two_processes_search_in_one_folder(images: Path, tmp_path: Path) -> None:
    config, out = tmp_path / "config.toml", tmp_path / "search"
    config.write_text(tiny(steps=6).to_toml())
    words = ["tune", config, "--data", images, "--out", out, "--trials", 5, "--seed"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "aecodec", *map(str, words), str(seed)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in (1, 2)
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    trials = listed(out)
    assert [trial["number"] for trial in trials] == list(range(len(trials)))
    assert 5 <= len(trials) <= 6  # the last two may begin at once
    assert len({trial["values"]["learning_rate"] for trial in trials}) == len(trials)


def test_an_interrupted_trial_does_not_count(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Trainer.train_step

    def interrupted(trainer: Trainer) -> Any:
        if trainer.step == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return step(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tune(tiny(), images, tmp_path, trials=2)
    assert [(t["state"], t["cause"]) for t in listed(tmp_path)] == [("fail", "interrupted")]
    assert tune(tiny(), images, tmp_path, trials=2).completed == 2


def test_what_cannot_be_searched(images: Path, tmp_path: Path) -> None:
    def search(config: TrainConfig | None = None, **options: Any) -> Tuned:
        settings = {"data": images, "out": tmp_path / "search", "trials": 1, **options}
        return tune(config or tiny(), **settings)

    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "study.db").write_bytes(b"no database" * 100)
    for options, message in (
        ({"trials": 0}, "at least 1"),
        ({"pruner": "mean"}, "one of median, hyperband, none"),
        ({"data": tmp_path / "empty"}, "no images"),
        ({"metric": "psnrr"}, "unknown metric 'psnrr'; did you mean 'psnr'"),
        ({"metric": "step"}, "unknown metric 'step'.* loss, psnr, mse, l1$"),
        ({"config": tiny(tune={"loss.l1": {"low": 0, "high": 1}})}, "choose another metric"),
        ({"config": tiny(data={"validation": 0.0})}, "no validation images"),
        ({"out": tmp_path / "damaged"}, "study.db: cannot be used"),
    ):
        kind = InputError if "data" in options else TrainingError
        with pytest.raises(kind, match=message):
            search(**{**options, "out": options.get("out", tmp_path / message[:4])})
