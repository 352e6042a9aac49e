"""What is trained: the model of a family, its images and its loss; one module a family."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aecodec.model.config import FAMILY as HYPERPRIOR
from aecodec.train.config import TrainConfig
from aecodec.train.distributed import World
from aecodec.train.tasks.base import Task

if TYPE_CHECKING:
    from aecodec.train.tasks.bottleneck import BottleneckTask
    from aecodec.train.tasks.hyperprior import HyperpriorTask


def make_task(config: TrainConfig, images: Path, world: World) -> Task:
    """The task that a config names.

    Args:
        config: names the family.
        images: the data folder.
        world: where it computes.

    Raises:
        InputError: the images cannot be used.
    """
    return _kind(config)(config, images, world)


def metrics(config: TrainConfig) -> tuple[str, ...]:
    """Names of what each validation of a config measures, `loss` first."""
    return _kind(config).metrics(config)


def _kind(config: TrainConfig) -> type[HyperpriorTask] | type[BottleneckTask]:
    if config.family == HYPERPRIOR:
        from aecodec.train.tasks.hyperprior import HyperpriorTask

        return HyperpriorTask
    from aecodec.train.tasks.bottleneck import BottleneckTask

    return BottleneckTask
