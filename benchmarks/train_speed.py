"""How fast training runs on this machine, and where the time of a step goes.

    python benchmarks/train_speed.py configs/photo.toml IMAGES [--steps 20] [--batch 8]
        [--patch 256] [--device cpu] [--profile] [--json FILE]

Times whole training steps (patches, forward, backward, optimisers, moving average), then
the same steps without the optimisers, and the transforms alone, alternating in one run.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from aecodec.measure.environment import machine
from aecodec.train.config import TrainConfig
from aecodec.train.loop import Trainer
from aecodec.train.run import denormals_flushed


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def parts(trainer: Trainer) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""

    def backward() -> None:
        trainer.task.loss(trainer.model, trainer.task.batch(0), 0)[0].backward()
        trainer.model.zero_grad(set_to_none=True)

    def transforms() -> None:
        x, quality = trainer.task.batch(0)
        with trainer.task.autocast():
            pixels = trainer.model.synthesis(trainer.model.analysis(x), quality)
        pixels.float().square().mean().backward()
        trainer.model.zero_grad(set_to_none=True)

    return {"step": trainer.train_step, "without optimisers": backward, "transforms": transforms}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--patch", type=int, default=256)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    config = dataclasses.replace(TrainConfig.load(args.config), batch=args.batch, patch=args.patch)
    with denormals_flushed(), tempfile.TemporaryDirectory() as run:
        trainer = Trainer(config, args.images, Path(run), device=args.device)
        trainer.start()
        works = parts(trainer)
        seconds: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(args.steps + 2):
            for name, work in works.items():
                seconds[name].append(timed(work, trainer.device))
        median = {name: statistics.median(values[2:]) for name, values in seconds.items()}
        for name, value in median.items():
            print(f"{name:20s} {1000 * value:8.1f} ms  {args.batch / value:8.1f} patches/s")
        if args.profile:
            with torch.profiler.profile() as profile:
                trainer.train_step()
            print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=20))
    if args.json:
        result = {
            "machine": machine(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "precision": str(trainer.task.precision),
            "batch": args.batch,
            "patch": args.patch,
            "seconds": median,
            "patches_per_second": args.batch / median["step"],
        }
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
