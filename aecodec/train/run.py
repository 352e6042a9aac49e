"""A training run from its config to its folder: what `aecodec train` and `aecodec tune` call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from aecodec.errors import OutputError, TrainingError
from aecodec.model.weights import fitting
from aecodec.train import checkpoint
from aecodec.train.config import TrainConfig
from aecodec.train.distributed import world
from aecodec.train.loop import Trainer
from aecodec.train.runfolder import RunFolder


@dataclass(frozen=True)
class Result:
    """What came of a run.

    Attributes:
        run: its folder.
        step: steps done, over all its sessions.
        minutes: of training, likewise.
        best_loss: lowest validation loss; None without a validation.
        best_step: where it was.
        finished: whether the schedule, or the patience, was over; else it was interrupted.
    """

    run: Path
    step: int
    minutes: float
    best_loss: float | None
    best_step: int
    finished: bool


def train(
    config: TrainConfig | Path | str | None,
    data: Path | str | None,
    out: Path | str,
    *,
    minutes: float | None = None,
    resume: bool = False,
    init: Path | str | None = None,
    device: str = "cpu",
    on_validation: Callable[[dict[str, Any]], object] | None = None,
) -> Result:
    """Train a model, or go on with a run; within `torchrun` as one of several processes.

    Args:
        config: a config or its file. None goes on with that of the run.
        data: folder of images. None goes on with that of the run.
        out: the run folder.
        minutes: length of the schedule, instead of the config's.
        resume: go on from the newest checkpoint of the run.
        init: start from the weights of a checkpoint, a run folder or a release.
        device: "cpu" or "cuda".
        on_validation: called with each line of `metrics.jsonl`, as a dict; what it raises
            ends the run.

    Raises:
        TrainingError: a bad config, or see `Trainer`.
        InputError: a config, images or a device that cannot be used.
        ModelError: no weights to start from, or no checkpoint to go on from.
        OutputError: the folder has a run already, or the config, or cannot be written to.
    """
    folder = RunFolder(Path(out))
    newest = folder.last
    if resume:
        if init is not None:
            raise TrainingError("a run that goes on takes no initial weights")
        newest = _newest(folder)
        data = _images_of(newest) if data is None else data
    else:
        _check_new(folder, config)
        if config is None or data is None:
            raise TrainingError("a new run needs a config and a folder of images")
    if not isinstance(config, TrainConfig):
        config = TrainConfig.load(folder.config if config is None else Path(config))
    with denormals_flushed(), world(device) as here:
        trainer = Trainer(
            config,
            Path(data),
            folder.path,
            minutes=minutes,
            world=here,
            on_validation=on_validation,
        )
        if resume:
            trainer.resume(newest)
        else:
            trainer.start(None if init is None else Path(init))
        trainer.fit()
    course = trainer.course
    return Result(
        folder.path,
        trainer.step,
        trainer.elapsed / 60,
        course.best,
        course.best_step,
        not trainer.stop,
    )


def _check_new(folder: RunFolder, config: TrainConfig | Path | str | None) -> None:
    """See that no run is in a folder, and that it would not write over the config it is given.

    Raises:
        OutputError: it is not so.
    """
    for path in (folder.last, folder.best, folder.metrics, *folder.checkpoints().values()):
        if path.exists():
            raise OutputError(f"{path} exists: go on with --resume, or use another folder")
    given = Path(config) if isinstance(config, str | Path) else None
    if given and given.exists() and folder.config.exists() and folder.config.samefile(given):
        raise OutputError(f"{config}: the run would write over it; use another folder")


def _newest(folder: RunFolder) -> Path:
    """`last.safetensors`, or a periodic checkpoint, if the run was killed after that.

    Raises:
        ModelError: there is neither, or `last.safetensors` is damaged.
    """
    periodic = folder.checkpoints()
    if not periodic:
        return folder.last
    step = max(periodic)
    if folder.last.exists():
        with fitting(folder.last):
            if int(checkpoint.read_meta(folder.last)["step"]) >= step:
                return folder.last
    return periodic[step]


def _images_of(path: Path) -> str:
    """Where the images of a run are, as a checkpoint says.

    Raises:
        ModelError: there is no usable checkpoint.
        TrainingError: it does not say.
    """
    data = str(checkpoint.read_meta(path).get("data_folder", ""))
    if not data:
        raise TrainingError(f"{path}: does not say where its images are; name them")
    return data


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Take numbers under 1e-38 for 0 on the CPU meanwhile.

    Densities far out in the tails would slow training down; other code of the process may
    need them.
    """
    before = float(torch.tensor(1e-40, dtype=torch.float32) * 1) == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
