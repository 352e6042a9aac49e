"""TensorBoard: numbers of training, reconstructions beside their images, feature maps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

_CHANNELS = 8


class Board:
    """What a run shows in TensorBoard; nothing, with a warning, where that is not installed.

    Args:
        folder: for the event files.
        step: steps done: what the folder has of later ones, of a run that was cut, is hidden.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            log.warning(
                "TensorBoard is not installed (pip install 'aecodec[train]'): not logging to it"
            )
            return
        try:
            self._writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)
        except OSError as error:
            log.warning("%s: cannot be written: %s", folder, error)

    def scalars(self, group: str, values: Mapping[str, float], step: int) -> None:
        """Numbers, each as a curve `group/name`."""
        for name, value in values.items():
            self._write(lambda w, n=name, v=value: w.add_scalar(f"{group}/{n}", v, step))

    def reconstructions(self, x: Tensor, pixels: Tensor, step: int) -> None:
        """Images (N, C, H, W) in [-0.5, 0.5], each left of its reconstruction."""
        pairs = torch.cat([x, pixels.float()], dim=3).add(0.5).clamp(0, 1).cpu()
        self._write(lambda w: w.add_images("validation/reconstructions", pairs, step))

    def features(self, maps: Tensor, step: int) -> None:
        """The first channels of feature maps (N, C, H, W), of the first image."""
        first = maps[0, :_CHANNELS].float()
        low, high = first.amin(dim=(1, 2), keepdim=True), first.amax(dim=(1, 2), keepdim=True)
        gray = ((first - low) / (high - low).clamp(min=1e-6)).cpu()
        self._write(lambda w: w.add_images("validation/features", gray[:, None], step))

    def close(self) -> None:
        """Write what is left."""
        self._write(lambda w: w.close())

    def _write(self, work: Callable[..., object]) -> None:
        """Do something with the writer, and go on without one that fails."""
        if self._writer is None:
            return
        try:
            work(self._writer)
        except OSError as error:
            log.warning("TensorBoard files cannot be written: %s", error)
            self._writer = None


@contextmanager
def watching(model: nn.Module) -> Iterator[list[Tensor]]:
    """Collects the output of a convolution a quarter of the way through the model.

    That is the middle of the encoder, as modules are defined in the order they run.
    """
    seen: list[Tensor] = []
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    if not layers:
        yield seen
        return

    def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
        seen.append(output.detach().clone())  # activations work in place

    handle = layers[len(layers) // 4].register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()
