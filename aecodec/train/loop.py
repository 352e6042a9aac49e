"""The training loop."""

from __future__ import annotations

import json
import logging
import math
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..errors import TrainingError
from ..model.autoencoder import Autoencoder
from ..model.precision import pick_precision
from . import checkpoint
from .config import TrainConfig
from .data import PatchSource, find_images, split, validation_batches
from .initial import load_initial
from .optimiser import build_optimisers, set_learning_rate

log = logging.getLogger(__name__)

VALIDATION_QUALITIES = (0.5, 2.0, 3.5, 5.0, 6.5)


class Trainer:
    """One training run: model, optimisers, moving average, clock.

    Args:
        config: what to train.
        images: folder of training images.
        run: folder for checkpoints, metrics and TensorBoard files.
        device: "cpu" or "cuda".
        minutes: length of the schedule in minutes of training time; None counts
            `config.steps` steps instead.

    Raises:
        TrainingError: no usable images, or a checkpoint that does not fit.
    """

    def __init__(
        self,
        config: TrainConfig,
        images: Path,
        run: Path,
        *,
        device: str = "cpu",
        minutes: float | None = None,
    ) -> None:
        torch.manual_seed(config.seed)
        torch.set_flush_denormal(True)  # densities far out in the tails slow a CPU down
        self.config, self.images, self.run, self.minutes = config, images, run, minutes
        self.device = torch.device(device)
        training, held_out = split(find_images(images), config.validation_fraction)
        self.source = PatchSource(
            training, config.patch, config.sampling, self.device, config.seed + 1
        )
        self.validation = validation_batches(held_out, config.patch, self.device)
        self.model = Autoencoder(config.model).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.params = list(self.model.parameters())
        self.ema = [p.detach().clone() for p in self.params]
        self.optimisers = build_optimisers(
            self.model,
            config.learning_rate,
            table_rate=config.table_rate,
            linear_rate=config.linear_rate,
        )
        self.precision = pick_precision(config.precision, self.device)
        self.step = 0
        self.elapsed = 0.0  # seconds of training, over all sessions of this run
        self.stop = False

    def start(self, initial: Path | None = None) -> None:
        """Set what depends on the data, before the first step; or take weights that exist.

        Args:
            initial: a checkpoint or release weights, of this model or of a part of it.

        Raises:
            TrainingError: they do not fit.
        """
        torch.manual_seed(self.config.seed)
        if initial is None:
            self.model.start_scales(self.source.batch(64))
        else:
            load_initial(initial, self.model)
        for average, p in zip(self.ema, self.params, strict=True):
            average.copy_(p.detach())

    def resume(self, path: Path) -> None:
        """Continue from a checkpoint, bit-exactly on one CPU.

        Raises:
            TrainingError: not a checkpoint, or one of another model.
        """
        meta = checkpoint.read_meta(path)
        checkpoint.load(path, self.model, self.ema, self.optimisers, self.source.generator)
        self.step, self.elapsed = int(meta["step"]), float(meta["elapsed"])

    def save(self) -> Path:
        """Write `last.safetensors` in the run folder."""
        self.run.mkdir(parents=True, exist_ok=True)
        path = self.run / "last.safetensors"
        meta = {
            "step": self.step,
            "elapsed": self.elapsed,
            "patches": self.step * self.config.batch,
            "config": json.loads(self.config.to_json()),
        }
        checkpoint.save(path, self.model, self.ema, self.optimisers, self.source.generator, meta)
        return path

    @property
    def progress(self) -> float:
        """How much of the schedule is done, 0 to 1."""
        if self.minutes is not None:
            return min(1.0, self.elapsed / (60 * self.minutes))
        return min(1.0, self.step / self.config.steps)

    def learning_rate(self) -> float:
        """Linear warm-up, then a cosine down to `final_learning_rate`."""
        config = self.config
        low = config.final_learning_rate
        factor = low + (1 - low) * 0.5 * (1 + math.cos(math.pi * self.progress))
        return config.learning_rate * factor * min(1.0, (self.step + 1) / config.warmup)

    def loss(self, x: Tensor, quality: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(loss, bits per pixel, MSE), the last two per image and detached."""
        lam = self.config.model
        ratio = lam.lambda_max / lam.lambda_min
        lambdas = lam.lambda_min * ratio ** (quality / 7)
        with self.autocast():
            out = self.model(x, quality)
        mse = (out.pixels.float() - x).square().mean(dim=(1, 2, 3))
        bpp = (out.y_bits + out.z_bits) / (x.shape[2] * x.shape[3])
        # divided by √λ, so that no rate dominates the gradient
        loss = ((lambdas * 255**2 * mse + bpp) / lambdas.sqrt()).mean()
        return loss, bpp.detach(), mse.detach()

    def autocast(self) -> AbstractContextManager[Any]:
        """The context in which the model runs at the precision of training."""
        if self.precision == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.precision)

    def train_step(self) -> tuple[Tensor, Tensor, Tensor]:
        """One step; returns loss, mean bits per pixel and mean MSE without a host sync."""
        config = self.config
        set_learning_rate(self.optimisers, self.learning_rate())
        x = self.source.batch(config.batch)
        quality = torch.rand(config.batch, device=self.device) * 7
        loss, bpp, mse = self.loss(x, quality)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.params, config.clip, foreach=True)
        for optimiser in self.optimisers:
            optimiser.step()
        for p in self.params:
            p.grad = None
        decay = min(config.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(self.ema, [p.detach() for p in self.params], 1 - decay)
        self.step += 1
        return torch.stack([loss.detach(), bpp.mean(), mse.mean(), norm]), bpp, mse

    @contextmanager
    def averaged(self) -> Iterator[Autoencoder]:
        """The model with its moving average swapped in."""
        with torch.no_grad():
            kept = [p.detach().clone() for p in self.params]
            for p, average in zip(self.params, self.ema, strict=True):
                p.copy_(average)
            self.model.eval()
            try:
                yield self.model
            finally:
                self.model.train()
                for p, value in zip(self.params, kept, strict=True):
                    p.copy_(value)

    def validate(self) -> dict[str, float]:
        """Mean loss, and bits per pixel and PSNR at five qualities, on held-out images."""
        state = torch.get_rng_state()
        torch.manual_seed(0)  # the same noise every time, and none taken from training
        result: dict[str, float] = {}
        losses = []
        with self.averaged(), torch.no_grad():
            for quality in VALIDATION_QUALITIES:
                rates, errors = [], []
                for x in self.validation:
                    q = torch.full((x.shape[0],), quality, device=self.device)
                    loss, bpp, mse = self.loss(x, q)
                    losses.append(loss)
                    rates.append(bpp)
                    errors.append(-10 * mse.log10())
                result[f"bpp/{quality}"] = float(torch.cat(rates).mean())
                result[f"psnr/{quality}"] = float(torch.cat(errors).mean())
        torch.set_rng_state(state)
        result["loss"] = float(torch.stack(losses).mean())
        return result

    def fit(self) -> None:
        """Train to the end of the schedule; SIGINT or SIGTERM saves and returns.

        Raises:
            TrainingError: the loss is not finite; the last checkpoint is kept.
        """
        self.run.mkdir(parents=True, exist_ok=True)
        writer = _tensorboard(self.run)
        previous = {s: signal.signal(s, self._on_signal) for s in (signal.SIGINT, signal.SIGTERM)}
        bar = tqdm(total=100, unit="%", bar_format="{l_bar}{bar}| {elapsed} {postfix}")
        try:
            self._fit(writer, bar)
        finally:
            bar.close()
            for number, handler in previous.items():
                signal.signal(number, handler)
            if writer is not None:
                writer.close()

    def _fit(self, writer: Any, bar: Any) -> None:
        tick = saved = time.monotonic()
        window: list[Tensor] = []
        while self.progress < 1 and not self.stop:
            window.append(self.train_step()[0])
            now = time.monotonic()
            self.elapsed += now - tick
            tick = now
            if self.step % 20 == 0:
                self._report(torch.stack(window).mean(0).tolist(), writer, bar)
                window.clear()
            if self.validation and self.step % self.config.validate_every == 0:
                self._record({"step": self.step, **self.validate()}, writer)
            if now - saved > 60 * self.config.checkpoint_minutes:
                self.save()
                saved = now
        self.save()
        if self.validation and not self.stop:
            self._record({"step": self.step, **self.validate()}, writer)

    def _report(self, values: list[float], writer: Any, bar: Any) -> None:
        loss, bpp, mse, norm = values
        if not math.isfinite(loss):
            raise TrainingError(
                f"loss is {loss} at step {self.step}; "
                f"the last good checkpoint is kept in {self.run}"
            )
        rate = self.step * self.config.batch / max(self.elapsed, 1e-9)
        done = self.progress
        left = self.elapsed * (1 - done) / max(done, 1e-9)
        psnr = -10 * math.log10(max(mse, 1e-12))
        bar.n = round(100 * done, 1)
        bar.set_postfix_str(
            f"step {self.step} loss {loss:.3f} bpp {bpp:.3f} psnr {psnr:.2f} "
            f"{rate:.1f} patches/s {left / 60:.0f} min left"
        )
        if writer is not None:
            scalars = {"loss": loss, "bpp": bpp, "psnr": psnr, "gradient_norm": norm}
            scalars["learning_rate"] = self.learning_rate()
            for name, value in scalars.items():
                writer.add_scalar(f"train/{name}", value, self.step)

    def _record(self, values: dict[str, float], writer: Any) -> None:
        values["minutes"] = self.elapsed / 60
        values["patches"] = self.step * self.config.batch
        with (self.run / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(values) + "\n")
        if writer is not None:
            for name, value in values.items():
                writer.add_scalar(f"validation/{name}", value, self.step)

    def _on_signal(self, number: int, frame: object) -> None:
        log.warning("signal %d: saving and stopping", number)
        self.stop = True


def _tensorboard(run: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.warning(
            "TensorBoard is not installed (pip install 'aecodec[train]'): not logging to it"
        )
        return None
    return SummaryWriter(str(run / "tensorboard"))
