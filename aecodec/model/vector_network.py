"""A bottleneck model ready to code: the network, its integers, and where they run.

A sibling of `Network`: y is the latent vector, (D, 1, 1), and the picture its one chunk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aecodec.depth import DepthRange
from aecodec.entropy import Tables
from aecodec.errors import InputError, ModelError, UnsupportedImageError, WeightsError
from aecodec.layout import NO_MARGINS, ColourMode, Header, Margins
from aecodec.model.bottleneck import BottleneckAutoencoder
from aecodec.model.bottleneck_config import FAMILY, BottleneckConfig
from aecodec.model.config import QUALITY_ROWS
from aecodec.model.network import Network, check_tables, samples_of
from aecodec.model.precision import find_device, pick_precision
from aecodec.model.vector_quantiser import VectorQuantiser
from aecodec.model.weights import (
    ModelInfo,
    as_int32,
    data_of,
    find_model,
    fitting,
    load_weights,
    part,
    read_info,
)
from aecodec.samples import Samples, reduced


class VectorNetwork:
    """The two transforms and the quantiser of one weights file of the bottleneck family.

    Args:
        model: name, identity or path of the weights.
        device: "cpu", "cuda", ...
        precision: "auto" and "float32", or "float64".

    Raises:
        ModelError: the weights cannot be found or used, or have skips.
        InputError: unknown precision or device.
    """

    halo = synthesis_halo = None  # a vector has no neighbours
    depth: DepthRange | None = None  # it keeps no holes: no mode for depth maps

    def __init__(self, model: str | Path, *, device: str, precision: str) -> None:
        tensors, self.info = load_weights(find_model(model))
        self.device = find_device(device)
        with fitting(self.info.path):
            self._build(tensors, precision)

    def _build(self, tensors: dict[str, Tensor], precision: str) -> None:
        self.config = BottleneckConfig.from_json(self.info.meta.get("config", ""))
        if self.config.skips:
            raise ModelError(
                f"{self.info.path}: this model has skips, which bypass the latent vector: "
                "it cannot code files"
            )
        self.dtype = torch.float64
        if pick_precision(precision, self.device) != torch.float64:
            self.dtype = torch.float32  # bfloat16 would save little and cost quality
        self._maximum, self._invalid = _range(self.info, self.config.bits)
        with torch.random.fork_rng(devices=[]):
            self.net = BottleneckAutoencoder(self.config)
        self.net.load_state_dict({k: v.float() for k, v in part(tensors, "net.").items()})
        try:
            self.tables = _tables(tensors)
            check_tables(self.tables, 0)
            latent = part(tensors, "latent.")
            self.quantiser = VectorQuantiser(
                latent["mean"].to(self.device),
                latent["log_step"].to(self.device),
                as_int32(latent["index"]),
                self.tables.skip,
            )
        except KeyError as error:
            raise WeightsError(f"not made for coding files: {error} is missing") from error
        if self.quantiser.size != self.config.latent_dim:
            raise WeightsError("weights do not fit their config")
        self.net.requires_grad_(False).eval().to(self.device, self.dtype)

    @property
    def latent_channels(self) -> int:
        """Length of the vector."""
        return self.config.latent_dim

    def misfit(self, header: Header) -> str | None:
        """Why the model cannot code such a picture, or None."""
        config, name = self.config, f"model {self.info.name}"
        if (header.width, header.height) != (config.width, config.height):
            return (
                f"{header.width} x {header.height} pixels, where {name} takes "
                f"{config.width} x {config.height}: resize the image first"
            )
        gray = header.colour is ColourMode.GRAY
        if gray != (config.channels == 1):
            kinds = ("gray", "RGB") if gray else ("RGB", "gray")
            return f"{kinds[0]}, where {name} takes {kinds[1]}: convert the image first"
        if header.bit_depth != config.bits:
            return f"{header.bit_depth} bits a sample, where {name} takes {config.bits}"
        if header.chunk_log2 != self._chunk_log2:
            return f"chunks of {1 << header.chunk_log2} pixels, where {name} takes one"
        if header.softness:
            return f"softness {header.softness}, where {name} takes none"
        return None

    def tables_of(self, header: Header) -> Tables:
        """The tables a file is coded with: all with the same."""
        return self.tables

    def fitted(self, header: Header, preview: bool) -> Header:
        """The header as the picture is coded: with one chunk.

        Raises:
            InputError: a preview is wanted beside it, or an effort above 0.
            UnsupportedImageError: the model takes other images.
        """
        if preview:
            raise InputError(
                f"model {self.info.name} codes images of one size, and no preview beside them"
            )
        if header.effort:
            raise InputError(f"model {self.info.name} codes at effort 0 alone")
        header = replace(header, chunk_log2=self._chunk_log2)
        problem = self.misfit(header)
        if problem is not None:
            raise UnsupportedImageError(problem)
        return header

    @property
    def _chunk_log2(self) -> int:
        return max(6, (max(self.config.height, self.config.width) - 1).bit_length())

    def analyse(self, pixels: Samples, margins: Margins = NO_MARGINS) -> Tensor:
        """(H, W, 3) uint8 or uint16, of the model's size -> y (D, 1, 1) float32; no margins.

        Samples that the training data called invalid, and those beyond its range, become
        what they became there.
        """
        raw = torch.from_numpy(pixels[:, :, : self.config.channels].astype(np.float32))
        raw = raw.to(self.device)
        x = (raw / self._maximum).clamp(max=1)
        if self._invalid >= 0:
            hole = min(self._invalid / self._maximum, 1.0)
            x = torch.where((raw == self._invalid) | (raw > self._maximum), hole, x)
        y = self.net.encode_image((x - 0.5).permute(2, 0, 1)[None].to(self.dtype))
        if not bool(y.isfinite().all()):
            raise ModelError(f"model {self.info.name} gives no finite latents for this image")
        return y.float().reshape(-1, 1, 1)

    def synthesise(
        self, latents: Tensor, quality: float, depth: int = 8, margins: Margins = NO_MARGINS
    ) -> Samples:
        """ŷ (D, 1, 1) float32 -> (H, W, 3) of 8 or 16 bits; gray three times; no margins.

        The quality is in the steps of the quantiser alone.
        """
        x = self.net.decode_latent(latents.reshape(1, -1).to(self.dtype))[0]
        return samples_of(x.repeat(3 // len(x), 1, 1), depth, self._maximum)

    def preview(self, latents: Tensor, depth: int = 8) -> Samples:
        """ŷ (D, 1, 1) float32 -> (⌈H/8⌉, ⌈W/8⌉, 3)."""
        return reduced(self.synthesise(latents, 0.0, depth), 8)


def _range(info: ModelInfo, bits: int) -> tuple[int, int]:
    """The sample value that is +0.5, and the one that is invalid, -1 for none."""
    top = 2**bits - 1
    data = data_of(info.meta)
    maximum, invalid = data.get("maximum") or top, data.get("invalid", -1)
    if not (isinstance(maximum, int) and isinstance(invalid, int) and 0 < maximum <= top):
        raise WeightsError("the range of its samples makes no sense")
    return maximum, invalid


def _tables(tensors: Mapping[str, Tensor]) -> Tables:
    """The frequency tables of the vector's residuals; there is no ẑ."""
    tables = part(tensors, "tables.")
    return Tables(
        as_int32(tables["y"]),
        as_int32(tables["y_bound"]),
        np.zeros((QUALITY_ROWS, 0, 2), np.int32),
        np.zeros((QUALITY_ROWS, 0), np.int32),
        int(tables["skip"]),
    )


AnyNetwork = Network | VectorNetwork
"""A model that codes files."""


def open_network(model: str | Path, *, device: str, precision: str) -> AnyNetwork:
    """Load weights of whatever family for coding files; arguments as for `Network`.

    Raises:
        ModelError: the weights cannot be found or used.
        InputError: unknown precision or device.
    """
    path = find_model(model)
    kind = VectorNetwork if read_info(path).family == FAMILY else Network
    return kind(path, device=device, precision=precision)
