"""A model that is evaluated: how images come to it, and what it makes of them."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aecodec.errors import InputError, ModelError
from aecodec.measure.metrics import Mask
from aecodec.modelimages import ModelImages
from aecodec.samples import Samples, bit_depth

if TYPE_CHECKING:
    from torch import Tensor

    from aecodec.codec import Codec

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Original:
    """An image as a model gets it.

    Attributes:
        samples: (H, W) or (H, W, 3), `uint8` or `uint16`, in the units of the files.
        valid: (H, W), which pixels count.
        peak: the sample value that stands for white in PSNR and SSIM.
        x: (1, C, H, W) float32 in [-0.5, 0.5], the same for the network alone; depth up to 1.5,
            with holes filled.
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
        self._images = ModelImages(self.model)

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
        data = vars(self._images.data) if self._images.data is not None else None
        return kind | {"description": info.description, "data": data}

    def settings(self, qualities: tuple[float, ...]) -> tuple[float | None, ...]:
        """At what the model is measured; None is reconstruction without quantisation."""
        if self.codec is None:
            return (None,)
        return (None, *qualities) if self._images.prepared else qualities

    def read(self, path: Path) -> Original:
        """An image file as this model gets it.

        Raises:
            InputError: it cannot be read, is not of the model's kind, or has no valid sample.
        """
        images = self._images
        samples = images.read(path)
        x, known = images.prepare(samples)
        valid = known[0, 0].numpy()
        if not valid.any():
            raise InputError(f"{path}: has no valid samples")
        bits = bit_depth(samples)
        peak = float(images.top(bits))
        if images.prepared:
            samples = images.restore(x[0], bits, samples.ndim == 2)
        elif images.data is not None and images.data.bits == bits:
            peak = float(images.data.maximum)
        return Original(samples, valid, peak, x)

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
        y = self.model.reconstruct(original.x)[0]
        like = original.samples
        return self._images.restore(y, bit_depth(like), like.ndim == 2)
