"""Images as a model takes them, and back: size, range and holes as its family has them."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from aecodec.depth import check_depth, filled
from aecodec.errors import naming
from aecodec.pixels import read_image
from aecodec.samples import Samples, bit_depth, colour, dtype

if TYPE_CHECKING:
    from aecodec.model.families import LatentModel
    from aecodec.train.prepare import DataConfig


class ModelImages:
    """How images come to a model.

    A bottleneck model gets them prepared as in its training; a hyperprior as they are, in the
    range that the codec gives its network: depth by the model's maximum, with holes filled.

    Args:
        model: from `aecodec.model.families.load_model`.
    """

    def __init__(self, model: LatentModel) -> None:
        self._model = model

    @property
    def prepared(self) -> bool:
        """Whether images are brought to one size."""
        return self._model.image_shape is not None

    @cached_property
    def data(self) -> DataConfig | None:
        """How images were prepared in training; None for a hyperprior that does not say."""
        from aecodec.train.prepare import DataConfig

        model = self._model
        values: dict[str, Any] = dict(model.data)
        if model.image_shape is not None:
            channels, height, width = model.image_shape
            values = {"bits": getattr(model.config, "bits", 8)} | values
            values |= {"channels": channels, "height": height, "width": width}
        return DataConfig.from_dict(values) if values else None

    def top(self, bits: int = 8) -> int:
        """The sample of `bits` that is +0.5 for the model: 255, 65535, 10000 mm, ..."""
        if self.prepared:
            assert self.data is not None
            return self.data.maximum
        return 2**bits - 1 if self._model.depth is None else self._model.depth.maximum

    def read(self, path: Path) -> Samples:
        """An image file's samples, upright, without alpha: (H, W) or (H, W, 3).

        Raises:
            InputError: it cannot be read, or is not of the kind that the model takes.
        """
        if self.prepared:
            from aecodec.train.prepare import load

            assert self.data is not None
            return load(path, self.data)
        samples = np.ascontiguousarray(colour(read_image(path)))
        if self._model.depth is not None:
            with naming(str(path)):
                check_depth(samples, self._model.info.name)
        return samples

    def prepare(self, samples: Samples) -> tuple[Tensor, Tensor]:
        """What `read` gives as pixels for the network.

        Returns:
            (1, C, H, W) float32 in [-0.5, 0.5], depth up to 1.5; and which pixels are valid,
            (1, 1, H, W) bool.
        """
        if self.prepared:
            from aecodec.train.prepare import prepare

            assert self.data is not None
            x, valid = prepare(samples, self.data)
            return x[None], valid[None]
        shown, depth = samples, self._model.depth
        if depth is not None:
            shown = filled(samples, depth.limit)
        scaled = np.atleast_3d(shown).astype(np.float32) / self.top(bit_depth(samples)) - 0.5
        known = torch.from_numpy(self._known(samples))
        return torch.from_numpy(scaled).permute(2, 0, 1)[None].contiguous(), known[None, None]

    def _known(self, samples: Samples) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which pixels (H, W) a hyperprior's `[data]` does not mask out."""
        data = self.data
        if data is None or not data.masked or data.bits != bit_depth(samples):
            return np.ones(samples.shape[:2], np.bool_)
        known = (samples != data.invalid) & (samples <= data.maximum)
        return np.asarray(known if known.ndim == 2 else known.all(axis=2))

    def restore(self, x: Tensor, bits: int, gray: bool) -> Samples:
        """The way back: pixels of the model as samples in the units of the files.

        Args:
            x: (C, H, W), C 1 or 3; what is outside of the range of samples is cut.
            bits: of the samples, 8 or 16; those of the model's images if they are prepared.
            gray: whether (H, W) is wanted: the mean of the channels. Likewise.

        Returns:
            (H, W) or (H, W, 3), `uint8` or `uint16`.
        """
        if self.prepared:
            from aecodec.train.prepare import to_samples

            assert self.data is not None
            return to_samples(x, self.data)
        scaled = (x.float().cpu().numpy() + 0.5) * self.top(bits)
        scaled = scaled.clip(0, 2**bits - 1).round()
        back = scaled.mean(axis=0).round() if gray else np.moveaxis(scaled, 0, -1)
        return np.ascontiguousarray(back.astype(dtype(bits)))
