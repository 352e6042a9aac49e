"""A loaded model, ready to code: the network, its integers, and where they run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aecodec.depth import range_of
from aecodec.entropy import Tables
from aecodec.errors import WeightsError
from aecodec.layout import NO_MARGINS, Header, Margins
from aecodec.model.autoencoder import Autoencoder
from aecodec.model.config import QUALITY_ROWS, SCALE_LEVELS, ModelConfig
from aecodec.model.precision import exact_enough, find_device, pick_precision
from aecodec.model.quantiser import Quantiser
from aecodec.model.scale_head import IntegerScaleHead
from aecodec.model.scale_integers import check_shapes
from aecodec.model.weights import as_int32, data_of, find_model, fitting, load_weights, part
from aecodec.samples import Samples, dtype


class Network:
    """The transforms and the quantiser of one weights file.

    Args:
        model: name, identity or path of the weights.
        device: "cpu", "cuda", ...
        precision: of the transforms: "auto", "float32", "float64" or "bfloat16". The
            linear paths and the means always run in float32, so that files made at
            different precisions look the same.

    Raises:
        ModelError: the weights cannot be found or used.
        InputError: unknown precision or device.
    """

    def __init__(self, model: str | Path, *, device: str, precision: str) -> None:
        path = find_model(model)
        tensors, self.info = load_weights(path)
        self.device = find_device(device)
        with fitting(path):
            self._build(tensors, precision)

    def _build(self, tensors: dict[str, Tensor], precision: str) -> None:
        meta = self.info.meta
        self.config = ModelConfig.from_json(meta.get("config", ""))
        self.depth = range_of(data_of(meta))
        if self.depth is not None:
            precision = exact_enough(precision)
            # for good: the setting is torch's own, and threads would take it from each other
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        self.dtype = pick_precision(precision, self.device)
        with torch.random.fork_rng(devices=[]):  # initialised, then overwritten: 0.1 s, where
            net = Autoencoder(self.config, scale_head=False)  # the meta device takes 1.4 s
        net.float()  # whatever the caller's default
        weights = {k: v.float() for k, v in part(tensors, "net.").items()}
        net.load_state_dict(weights, strict=True)
        integers = part(tensors, "scale_head.")
        check_shapes(integers, self.config)
        head = IntegerScaleHead(integers, self.device)
        tables = part(tensors, "tables.")
        self.tables = Tables(
            as_int32(tables["y"]),
            as_int32(tables["y_bound"]),
            as_int32(tables["z"]),
            as_int32(tables["z_bound"]),
            int(tables["skip"]),
        )
        check_tables(self.tables, self.config.hyper_channels)
        self._soft_tables = self.tables
        if "y_soft" in tables:
            self._soft_tables = replace(self.tables, y=as_int32(tables["y_soft"]))
        net.requires_grad_(False).eval().to(self.device)
        for module in net.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for transform in (net.analysis, net.synthesis):
            transform.set_precision(self.dtype)
        self._net = net
        deadzone = float(meta.get("deadzone", "0"))
        if not 0 <= deadzone <= 1:
            raise WeightsError(f"deadzone must be from 0 to 1, not {deadzone}")
        self.quantiser = Quantiser(net, head, self.tables.skip, deadzone)

    @property
    def net(self) -> Autoencoder:
        """The network itself, without its scale head."""
        return self._net

    @property
    def latent_channels(self) -> int:
        """Channels of y."""
        return self.config.latent_channels

    @property
    def halo(self) -> int:
        """Reach of either transform past a window's edge, in positions of y."""
        return max(_reach(self.config.analysis_blocks), self.synthesis_halo)

    @property
    def synthesis_halo(self) -> int:
        """The same of the synthesis alone."""
        return _reach(self.config.synthesis_blocks)

    def fitted(self, header: Header, preview: bool) -> Header:
        """The header as a picture is coded: as it is, since any picture can be."""
        return header

    def misfit(self, header: Header) -> str | None:
        """Why the model cannot have coded such a picture: there is no such reason."""
        return None

    def tables_of(self, header: Header) -> Tables:
        """The tables a file is coded with: residuals that were refined have their own."""
        return self._soft_tables if header.softness else self.tables

    def to_input(self, pixels: Samples) -> Tensor:
        """(h, w, 3) uint8 or uint16 -> (1, 3, h, w) float32 in [-0.5, 0.5]; depth to 1.5."""
        deep = pixels.dtype == np.uint16
        x = torch.tensor(pixels.astype(np.int32) if deep else pixels).to(self.device)
        return x.permute(2, 0, 1)[None].float().div_(self._top(16 if deep else 8)).sub_(0.5)

    def analyse(self, pixels: Samples, margins: Margins = NO_MARGINS) -> Tensor:
        """Latents of a part of a picture.

        Args:
            pixels: (16H, 16W, 3) uint8 or uint16.
            margins: around the h × w positions that are wanted, in positions of y.

        Returns:
            y (C, h, w) float32.
        """
        y: Tensor = self._net.analysis(self.to_input(pixels), margins)[0]
        return y

    def decode(self, latents: Tensor, quality: float, margins: Margins = NO_MARGINS) -> Tensor:
        """ŷ (1, C, H, W) float32, quality in [0, 7] -> (1, 3, 16h, 16w) float32."""
        q = latents.new_full((1,), quality)
        latents = latents.contiguous(memory_format=torch.channels_last)
        x: Tensor = self._net.synthesis(latents, q, margins)
        return x

    def synthesise(
        self, latents: Tensor, quality: float, depth: int = 8, margins: Margins = NO_MARGINS
    ) -> Samples:
        """A part of a picture.

        Args:
            latents: ŷ (C, H, W) float32.
            quality: continuous, in [0, 7].
            depth: bits a sample, 8 or 16.
            margins: around the h × w positions whose pixels are wanted, in positions of y.

        Returns:
            (16h, 16w, 3)
        """
        x = self.decode(latents[None], quality, margins)[0]
        return samples_of(x, depth, self._top(depth))

    def preview(self, latents: Tensor, depth: int = 8) -> Samples:
        """ŷ (C, h, w) float32 -> (2h, 2w, 3): one eighth of what `synthesise` gives."""
        return samples_of(self._net.synthesis.eighth(latents[None])[0], depth, self._top(depth))

    def _top(self, depth: int) -> int:
        """The sample that a network sees as 0.5."""
        return 2**depth - 1 if self.depth is None else self.depth.maximum


def _reach(blocks: tuple[int, int]) -> int:
    """Of so many residual blocks at 1/8 and at 1/16, in positions of y."""
    at_8, at_16 = blocks
    return at_16 + -(-at_8 // 2)


def check_tables(tables: Tables, channels: int) -> None:
    """See that there is a table for each scale index, and for each channel of ẑ.

    Raises:
        WeightsError: there are others.
    """
    found = (len(tables.y), *tables.z_bound.shape)
    if found != (SCALE_LEVELS, QUALITY_ROWS, channels):
        raise WeightsError(
            f"frequency tables for {found} scale indices, quality rows and channels of ẑ, "
            f"where there are {SCALE_LEVELS, QUALITY_ROWS, channels}"
        )


def samples_of(x: Tensor, depth: int, maximum: int = 0) -> Samples:
    """Pixels (3, h, w), +0.5 being `maximum` (0: the largest there is) -> samples (h, w, 3)."""
    top = 2**depth - 1
    x = x.add_(0.5).mul_(maximum or top).round_().clamp_(0, top).permute(1, 2, 0)
    pixels: Samples = x.to(torch.uint8 if depth == 8 else torch.int32).cpu().numpy()
    return pixels.astype(dtype(depth), copy=False)
