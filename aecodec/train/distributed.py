"""Several processes that train one model, as `torchrun` starts them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from aecodec.model.precision import find_device


@dataclass(frozen=True)
class World:
    """This process among all those of a run.

    Attributes:
        device: where this one computes.
        rank: its number; 0 writes files and logs.
        size: how many there are.
        control: the group in which they agree on numbers of the host.
    """

    device: torch.device
    rank: int = 0
    size: int = 1
    control: Any = None

    @property
    def first(self) -> bool:
        """Whether this process writes files and logs."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model whose gradients are averaged over all processes, with weights of the first."""
        if self.size == 1:
            return model
        devices = [self.device] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=devices)

    def sum(self, values: Tensor) -> Tensor:
        """Sum over all processes of a float64 tensor on the host."""
        if self.size > 1:
            dist.all_reduce(values, group=self.control)
        return values

    def from_first(self, value: Any) -> Any:
        """What the first process has, on all."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.control)
        return box[0]


def rank_here() -> int:
    """Number of this process among those that `torchrun` started; 0 if it did not."""
    return _number("RANK", 0)


def _number(name: str, default: int) -> int:
    return int(os.environ.get(name, default))


@contextmanager
def world(device: str) -> Iterator[World]:
    """This process among those that `torchrun` started; alone if it did not.

    Args:
        device: "cpu", or "cuda" for the GPU that belongs to the process.

    Raises:
        InputError: there is no such device.
    """
    rank, size, local = rank_here(), _number("WORLD_SIZE", 1), _number("LOCAL_RANK", 0)
    place = find_device(f"cuda:{local}" if device == "cuda" and size > 1 else device)
    if size == 1:
        yield World(place)
        return
    if place.type == "cuda":
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    quiet = logging.getLogger("aecodec")
    level = quiet.level
    if rank > 0:
        quiet.setLevel(logging.ERROR)
    try:
        yield World(place, rank, size, dist.new_group(backend="gloo"))
    finally:
        quiet.setLevel(level)
        dist.destroy_process_group()
