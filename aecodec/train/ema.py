"""The exponential moving average of a model's weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class MovingAverage:
    """Average of the parameters, and of the buffers that are floats (as of batch norm).

    Args:
        model: what is averaged.
        decay: how much of the average stays at each step; smaller during the first steps.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        state = model.state_dict(keep_vars=True)
        self._live = {k: v.detach() for k, v in state.items() if v.is_floating_point()}
        self.tensors = {name: value.clone() for name, value in self._live.items()}

    def reset(self) -> None:
        """Start again from the weights as they are."""
        for name, value in self._live.items():
            self.tensors[name].copy_(value)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.tensors.values()), list(self._live.values()), 1 - decay)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """The model has the averaged weights meanwhile."""
        kept = {name: value.clone() for name, value in self._live.items()}
        for name, value in self._live.items():
            value.copy_(self.tensors[name])
        try:
            yield
        finally:
            for name, value in kept.items():
                self._live[name].copy_(value)
