"""A model that is evaluated: how images come to it, and what it makes of them."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aecodec.errors import InputError, ModelError
from aecodec.measure.metrics import Mask
from aecodec.samples import Samples, bit_depth, colour

if TYPE_CHECKING:
    from torch import Tensor

    from aecodec.codec import Codec
    from aecodec.train.prepare import DataConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Original:
    """An image as a model gets it.

    Attributes:
        samples: (H, W) or (H, W, 3), `uint8` or `uint16`, in the units of the files.
        valid: (H, W), which pixels count.
        peak: the sample value that stands for white in PSNR and SSIM.
        x: (1, C, H, W) float32 in [-0.5, 0.5], the same for the network alone.
    """

    samples: Samples
    valid: Mask
    peak: float
    x: Tensor


class Subject:
    """A model and, where it can write files, the codec around it.

    A bottleneck model gets its images prepared as in its training; a hyperprior as they are.

    Args:
        model: as for `aecodec.model.families.load_model`.
        device: "cpu", "cuda", ...

    Raises:
        ModelError: the model cannot be found or used.

    Attributes:
        name: of the model.
        codec: None for run folders, checkpoints and models with skips, which write no files.
    """

    def __init__(self, model: str | os.PathLike[str], device: str = "cpu") -> None:
        from aecodec.model.families import load_model

        self.model = load_model(model, device)
        self.name = self.model.info.name
        self.codec = self._find_codec(device)

    def _find_codec(self, device: str) -> Codec | None:
        from aecodec.codec import Codec

        info = self.model.info
        if not info.id or getattr(self.model.config, "skips", False):
            log.info("%s: reconstruction only, as it writes no files", self.name)
            return None
        try:
            return Codec(info.path, device=device)
        except ModelError as error:
            log.warning("%s: reconstruction only: %s", self.name, error)
            return None

    @property
    def described(self) -> dict[str, Any]:
        """What reports say of the model."""
        info = self.model.info
        kind = {"name": self.name, "id": info.id or None, "family": self.model.family}
        data = vars(self._data) if self._data is not None else None
        return kind | {"description": info.description, "data": data}

    def settings(self, qualities: tuple[float, ...]) -> tuple[float | None, ...]:
        """At what the model is measured; None is reconstruction without quantisation."""
        if self.codec is None:
            return (None,)
        return (None, *qualities) if self._prepared else qualities

    @property
    def _prepared(self) -> bool:
        return self.model.image_shape is not None

    @cached_property
    def _data(self) -> DataConfig | None:
        """How images are prepared; None for a hyperprior that does not say."""
        from aecodec.train.prepare import DataConfig

        values: dict[str, Any] = dict(self.model.data)
        if self.model.image_shape is not None:
            channels, height, width = self.model.image_shape
            values = {"bits": getattr(self.model.config, "bits", 8)} | values
            values |= {"channels": channels, "height": height, "width": width}
        return DataConfig.from_dict(values) if values else None

    def read(self, path: Path) -> Original:
        """An image file as this model gets it.

        Raises:
            InputError: it cannot be read, is not of the model's kind, or has no valid sample.
        """
        original = self._read_prepared(path) if self._prepared else self._read_whole(path)
        if not original.valid.any():
            raise InputError(f"{path}: has no valid samples")
        return original

    def _read_prepared(self, path: Path) -> Original:
        from aecodec.train.prepare import load, prepare, to_samples

        assert self._data is not None
        x, valid = prepare(load(path, self._data), self._data)
        samples = to_samples(x, self._data)
        return Original(samples, valid[0].numpy(), self._data.maximum, x[None])

    def _read_whole(self, path: Path) -> Original:
        import torch

        from aecodec.pixels import read_image

        samples = np.ascontiguousarray(colour(read_image(path)))
        top = 2 ** bit_depth(samples) - 1
        valid, peak = np.ones(samples.shape[:2], np.bool_), float(top)
        if self._data is not None and self._data.bits == bit_depth(samples):
            peak = self._data.maximum
            if self._data.masked:
                known = (samples != self._data.invalid) & (samples <= peak)
                valid = known if known.ndim == 2 else known.all(axis=2)
        x = torch.from_numpy(np.atleast_3d(samples).astype(np.float32) / top - 0.5)
        return Original(samples, valid, peak, x.permute(2, 0, 1)[None])

    def run(self, original: Original, quality: float | None) -> tuple[Samples, int | None]:
        """What comes back of an image, and the bytes of the `.aec` file that it went through.

        Args:
            original: from `read`.
            quality: 1 to 100; None reconstructs without quantisation and a file.
        """
        if quality is None:
            return self._reconstruct(original), None
        assert self.codec is not None
        data = self.codec.encode(original.samples, quality=quality)
        return self.codec.decode(data), len(data)

    def _reconstruct(self, original: Original) -> Samples:
        y = self.model.reconstruct(original.x)[0].float().cpu()
        if self._prepared:
            from aecodec.train.prepare import to_samples

            assert self._data is not None
            return to_samples(y, self._data)
        like = original.samples
        scaled = ((y.numpy() + 0.5).clip(0, 1) * (2 ** bit_depth(like) - 1)).round()
        gray = like.ndim == 2
        back = scaled.mean(axis=0).round() if gray else np.moveaxis(scaled, 0, -1)
        return np.ascontiguousarray(back.astype(like.dtype))
