"""The training loop: steps, validations, checkpoints; what is trained is for the task to say."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from aecodec.errors import TrainingError
from aecodec.model.precision import find_device
from aecodec.model.weights import fitting
from aecodec.train import checkpoint
from aecodec.train.board import Board, watching
from aecodec.train.config import TrainConfig
from aecodec.train.distributed import World
from aecodec.train.ema import MovingAverage
from aecodec.train.optimiser import build_optimisers, freeze, set_learning_rate
from aecodec.train.runfolder import RunFolder
from aecodec.train.schedules import Course, learning_rate
from aecodec.train.tasks import make_task

log = logging.getLogger(__name__)

REPORT_EVERY = 20
"""Steps between two looks at the losses: only then the host waits for the device."""


class Trainer:
    """One training run: task, optimisers, moving average, clock.

    Args:
        config: what to train, and how.
        images: folder of training images.
        run: folder for checkpoints, metrics and TensorBoard files.
        device: "cpu" or "cuda".
        minutes: length of the schedule in minutes of training time, instead of the config's.
        world: this process among several, instead of `device`.
        on_validation: called with each line of `metrics.jsonl`; what it raises ends the run.

    Raises:
        TrainingError: nothing to validate on where the config needs it.
        InputError: images or a device that cannot be used.
    """

    def __init__(
        self,
        config: TrainConfig,
        images: Path,
        run: Path,
        *,
        device: str = "cpu",
        minutes: float | None = None,
        world: World | None = None,
        on_validation: Callable[[dict[str, Any]], object] | None = None,
    ) -> None:
        if minutes is not None:
            config = dataclasses.replace(config, minutes=minutes)
        torch.manual_seed(config.seed)
        self.config, self.images, self.run = config, images, run
        self.folder = RunFolder(run, config.keep_checkpoints)
        self.world = world or World(find_device(device))
        self.device = self.world.device
        self.task = make_task(config, images, self.world)
        self._check_validation()
        self.model = self.task.model
        freeze(self.model, config.train_only)
        self.params = [p for p in self.model.parameters() if p.requires_grad]
        self.ema = MovingAverage(self.model, config.ema)
        self.optimisers = build_optimisers(
            config.optimiser,
            self.task.groups(),
            config.learning_rate,
            weight_decay=config.weight_decay,
            momentum=config.momentum,
        )
        self.on_validation = on_validation
        self.network: nn.Module = self.model  # or what averages its gradients
        self.course = Course()
        self.step = 0
        self.elapsed = 0.0  # seconds of training, over all sessions of this run
        self.stop = False
        self.validated = -1  # the step of the last validation
        self._window: list[dict[str, Tensor]] = []  # losses that nobody has looked at
        self._means: list[dict[str, float]] = []  # of windows since the last validation
        self._board: Board | None = None
        self._bar: Any = None

    def _check_validation(self) -> None:
        if self.task.validates:
            return
        for key, used in (
            ("early_stopping", self.config.early_stopping > 0),
            ("schedule = 'plateau'", self.config.schedule == "plateau"),
        ):
            if used:
                raise TrainingError(f"{self.images}: no validation images, which {key} needs")
        log.warning("%s: no validation images: nothing will be best", self.images)

    def start(self, initial: Path | None = None) -> None:
        """Set what depends on the data, before the first step; or take weights that exist.

        Args:
            initial: a checkpoint or release weights, of this model or of a part of it.

        Raises:
            ModelError: they cannot be read.
            TrainingError: they do not fit.
        """
        torch.manual_seed(self.config.seed)
        if initial is None:
            self.task.prepare()
        else:
            self.task.load_initial(initial)
        self.network = self.world.wrap(self.model)
        self.ema.reset()
        self.task.separate(self.step)

    def resume(self, path: Path) -> None:
        """Continue from a checkpoint, bit-exactly in one process on one CPU.

        Raises:
            ModelError: not a checkpoint.
            TrainingError: one of another model or optimiser.
            InputError: the metrics of the run are damaged.
        """
        meta = checkpoint.read_meta(path)
        before = meta["config"].get("optimiser", "muon")
        if before != self.config.optimiser:
            raise TrainingError(
                f"{path}: was made with the optimiser {before}, not {self.config.optimiser}"
            )
        checkpoint.load(path, self.model, self.ema, self.optimisers, self.task.generator)
        with fitting(path):
            self.step, self.elapsed = int(meta["step"]), float(meta["elapsed"])
            self.course = Course(**meta.get("course", {}))
        self.network = self.world.wrap(self.model)
        self.task.separate(self.step)
        if self.world.first:
            self.folder.rewind(self.step)
        self.validated = max((r.get("step", 0) for r in self.folder.records()), default=-1)

    def save(self, path: Path | None = None) -> Path:
        """Write a checkpoint; `last.safetensors` if no other is named.

        Raises:
            TrainingError: the weights are not finite; what was there before stays.
            OutputError: it cannot be written, likewise.
        """
        path = path or self.folder.last
        state = [*self.ema.tensors.values(), *(p.detach() for p in self.params)]
        norms = torch.stack([norm.float() for norm in torch._foreach_norm(state)])
        if not torch.isfinite(norms).all():
            raise TrainingError(f"weights are not finite at step {self.step}; {self._kept()}")
        if self.world.first:
            self.folder.make()
            meta = {
                "step": self.step,
                "elapsed": self.elapsed,
                self.task.unit: self.step * self.config.batch * self.world.size,
                "course": dataclasses.asdict(self.course),
                "data_folder": str(self.images.resolve()),
                "config": json.loads(self.config.to_json()),
            }
            generator = self.task.generator
            checkpoint.save(path, self.model, self.ema, self.optimisers, generator, meta)
        return path

    def _kept(self) -> str:
        if self.folder.last.exists():
            return f"the last good checkpoint is kept in {self.folder.last}"
        return "there is no checkpoint yet; try a lower learning_rate or a longer warmup"

    @property
    def progress(self) -> float:
        """How much of the schedule is done, 0 to 1."""
        if self.config.minutes:
            return min(1.0, self.elapsed / (60 * self.config.minutes))
        return min(1.0, self.step / self.config.steps)

    @property
    def exhausted(self) -> bool:
        """Whether the patience of early stopping is."""
        return 0 < self.config.early_stopping <= self.course.waited

    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return learning_rate(self.config, self.step, self.progress, self.course)

    def train_step(self) -> dict[str, Tensor]:
        """One step; gives loss, its parts and the gradient norm, without a host sync."""
        config = self.config
        set_learning_rate(self.optimisers, self.learning_rate())
        loss, parts = self.task.loss(self.network, self.task.batch(self.step), self.step)
        loss.backward()  # type: ignore[no-untyped-call]
        limit = config.clip or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.params, limit, foreach=True)
        for optimiser in self.optimisers:
            optimiser.step()
        for p in self.params:
            p.grad = None
        self.ema.update(self.step)
        self.step += 1
        means = {name: value.mean() for name, value in parts.items()}
        return {"loss": loss.detach(), **means, "gradient_norm": norm}

    @contextmanager
    def averaged(self) -> Iterator[nn.Module]:
        """The model in evaluation mode, with its moving average swapped in."""
        with torch.no_grad(), self.ema.swapped():
            self.model.eval()
            try:
                yield self.model
            finally:
                self.model.train()

    def validate(self) -> dict[str, float]:
        """Loss and more on the validation images, with the moving average of the weights."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), self.averaged():
            torch.manual_seed(0)  # the same noise every time, and none taken from training
            result = self.task.validate()
            if self._board is not None:
                with watching(self.model) as seen:
                    shown = self.task.pictures()
                if shown is not None:
                    self._board.reconstructions(*shown, self.step)
                if seen:
                    self._board.features(seen[0], self.step)
        return result

    def fit(self) -> None:
        """Train to the end of the schedule; SIGINT or SIGTERM saves and returns.

        Raises:
            TrainingError: the loss is not finite; the last checkpoint is kept.
            OutputError: a file cannot be written, likewise.
        """
        if self.world.first:
            self.folder.begin(self.config.to_toml(), self.task.test_files)
            self._board = Board(self.folder.board, self.step)
        self._bar = tqdm(
            total=100,
            unit="%",
            bar_format="{l_bar}{bar}| {elapsed} {postfix}",
            disable=not self.world.first,
        )
        try:
            with self._signals():
                self._fit()
        finally:
            self._bar.close()
            self.task.close()
            if self._board is not None:
                self._board.close()

    def _fit(self) -> None:
        config = self.config
        tick, saved = time.monotonic(), self.elapsed
        while self.progress < 1 and not self.stop and not self.exhausted:
            self._window.append(self.train_step())
            now = time.monotonic()
            self.elapsed += now - tick
            tick = now
            self._agree()
            if self.step % REPORT_EVERY == 0:
                self._report()
            if self.task.validates and self.step % config.validate_every == 0:
                self._validation()
            if config.checkpoint_every and self.step % config.checkpoint_every == 0:
                self._report()
                self.folder.add_checkpoint(self.step, self.save)
            if self.elapsed - saved > 60 * config.checkpoint_minutes:
                self._report()
                self.save()
                saved = self.elapsed
        self._report()
        if self.task.validates and not self.stop and self.validated != self.step:
            self._validation()
        self.save()
        if self.exhausted:
            log.info(
                "stopped at step %d: no better validation loss than %.5g, of step %d",
                self.step,
                self.course.best,
                self.course.best_step,
            )

    def _agree(self) -> None:
        """Give all processes the clock of the first, and stop all if one was told to."""
        if self.world.size > 1:
            mine = [self.elapsed if self.world.first else 0.0, float(self.stop)]
            elapsed, stop = self.world.sum(torch.tensor(mine, dtype=torch.float64)).tolist()
            self.elapsed, self.stop = elapsed, stop > 0

    def _report(self) -> None:
        """Look at the losses since the last time.

        Raises:
            TrainingError: one is not finite.
        """
        if not self._window:
            return
        names = list(self._window[0])
        rows = torch.stack([torch.stack(list(one.values())).float() for one in self._window])
        self._window.clear()
        table = self.world.sum(rows.double().cpu()) / self.world.size
        bad = (~torch.isfinite(table)).nonzero().tolist()
        if bad:
            row, column = bad[0]
            step = self.step - len(table) + 1 + row
            raise TrainingError(
                f"{names[column]} is {float(table[row, column])} at step {step}; {self._kept()}"
            )
        means = dict(zip(names, table.mean(0).tolist(), strict=True))
        self._means.append(means)
        self._show(means)

    def _show(self, means: dict[str, float]) -> None:
        rate = self.step * self.config.batch * self.world.size / max(self.elapsed, 1e-9)
        done = self.progress
        left = self.elapsed * (1 - done) / max(done, 1e-9)
        shown = {k: v for k, v in means.items() if k not in ("mse", "l1", "gradient_norm")}
        if "mse" in means:
            shown["psnr"] = -10 * math.log10(max(means["mse"], 1e-12))
        self._bar.n = round(100 * done, 1)
        numbers = " ".join(f"{name} {value:.4g}" for name, value in shown.items())
        self._bar.set_postfix_str(
            f"step {self.step} {numbers} {rate:.1f} {self.task.unit}/s {left / 60:.0f} min left"
        )
        if self._board is not None:
            rates = {"learning_rate": self.learning_rate()}
            self._board.scalars("train", means | shown | rates, self.step)

    def _validation(self) -> None:
        """Validate, record it, and keep the weights if they are the best so far."""
        self._report()
        values = self.world.from_first(self.validate() if self.world.first else None)
        self.validated = self.step
        if not math.isfinite(values["loss"]):
            raise TrainingError(
                f"validation loss is {values['loss']} at step {self.step}; {self._kept()}"
            )
        best = self.course.judge(values["loss"], self.step, self.config.plateau_patience)
        names = self._means[-1] if self._means else {}
        means = {k: sum(one[k] for one in self._means) / len(self._means) for k in names}
        self._means.clear()
        record = {
            "step": self.step,
            **values,
            **{f"train/{name}": value for name, value in means.items()},
            "learning_rate": self.learning_rate(),
            "minutes": self.elapsed / 60,
            self.task.unit: self.step * self.config.batch * self.world.size,
        }
        if self.world.first:
            self.folder.record(record)
        if self._board is not None:
            self._board.scalars("validation", values, self.step)
        if best:
            self.save(self.folder.best)
        if self.on_validation is not None and self.world.first:
            self.on_validation(record)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM ask to stop meanwhile."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread can
            return
        numbers = (signal.SIGINT, signal.SIGTERM)
        previous = {number: signal.signal(number, self._on_signal) for number in numbers}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: object) -> None:
        log.warning("signal %d: saving and stopping", number)
        self.stop = True
