"""Any model as what analysis needs: images to latents and back, whatever its family.

Reads weights files (releases and what `aecodec export` writes), and the checkpoints and
run folders of training. To code files use `aecodec.Codec`.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aecodec.depth import DepthRange, range_of
from aecodec.errors import InputError, ModelError, UnknownModelError, WeightsError
from aecodec.layout import QUALITY_STEPS, STRIDE
from aecodec.model.autoencoder import Autoencoder
from aecodec.model.bottleneck import BottleneckAutoencoder
from aecodec.model.bottleneck_config import FAMILY as BOTTLENECK
from aecodec.model.bottleneck_config import BottleneckConfig
from aecodec.model.checkpoint_files import checkpoint_in, read_metadata, read_tensors, training_of
from aecodec.model.config import FAMILY as HYPERPRIOR
from aecodec.model.config import ModelConfig
from aecodec.model.network import Network
from aecodec.model.precision import find_device
from aecodec.model.quantiser import Quantiser, hyper_shape
from aecodec.model.weights import (
    FORMAT,
    ModelInfo,
    data_of,
    find_model,
    fitting,
    load_weights,
    part,
    read_info,
)
from aecodec.rate import prior_row, quality_index


class LatentModel(ABC):
    """A loaded model. Pixels are float32 in [-0.5, 0.5]; nothing computes gradients.

    Those of a model for depth go up to 1.5; `aecodec.modelimages` makes pixels of files.

    Attributes:
        family: "hyperprior" or "bottleneck".
        info: name, identity (empty for a checkpoint), file and metadata.
        config: shape of the model.
        module: the network, in evaluation mode.
        image_shape: (C, H, W) of its images; None if it takes any size.
        data: how its training images were prepared, the config's `[data]`; may be empty.
        depth: the range of a hyperprior for depth maps; None of any other model.
        device: where it runs.
    """

    family: str
    image_shape: tuple[int, int, int] | None
    depth: DepthRange | None = None

    def __init__(
        self,
        info: ModelInfo,
        config: ModelConfig | BottleneckConfig,
        module: nn.Module,
        data: dict[str, Any],
        device: torch.device,
    ) -> None:
        self.info, self.config, self.data, self.device = info, config, data, device
        self.module = module.requires_grad_(False).eval().to(device)

    @abstractmethod
    def encode_image(self, x: Tensor) -> Tensor:
        """Pixels (N, C, H, W) -> latents: (N, D), or (N, C, ⌈H/16⌉, ⌈W/16⌉) of a hyperprior.

        Raises:
            InputError: images of another shape than the model's.
            ModelError: the model has no latents that say it all (skips).
        """

    @abstractmethod
    def decode_latent(self, z: Tensor) -> Tensor:
        """Latents -> pixels (N, C, H, W) in [-0.5, 0.5].

        Raises:
            InputError: latents of another shape than the model's.
            ModelError: as `encode_image`.
        """

    @abstractmethod
    def sample(self, n: int, seed: int = 0) -> Tensor:
        """Pixels (n, C, H, W) in [-0.5, 0.5] of latents drawn at random.

        Raises:
            ModelError: the model does not say how its latents are distributed.
        """

    def reconstruct(self, x: Tensor) -> Tensor:
        """Pixels to pixels, both (N, C, H, W), through latents that are not quantised."""
        return self.decode_latent(self.encode_image(x))[:, :, : x.shape[2], : x.shape[3]]

    def vectors(self, x: Tensor) -> Tensor:
        """Pixels (N, C, H, W) -> one vector an image, (N, D); latents averaged over positions."""
        z = self.encode_image(x)
        return z if z.ndim == 2 else z.mean(dim=(2, 3))


class BottleneckModel(LatentModel):
    """A model of the bottleneck family; `stats` are mean and deviation of its latents, (D,)."""

    family = BOTTLENECK
    config: BottleneckConfig
    module: BottleneckAutoencoder

    def __init__(
        self, *args: Any, stats: tuple[Tensor, Tensor] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.image_shape = self.config.image_shape
        self._stats = stats

    @torch.no_grad()
    def encode_image(self, x: Tensor) -> Tensor:
        """See `LatentModel`; of a variational model the means."""
        return self.module.encode_image(x.to(self.device))

    @torch.no_grad()
    def decode_latent(self, z: Tensor) -> Tensor:
        """See `LatentModel`."""
        return self.module.decode_latent(z.to(self.device))

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """See `LatentModel`; models with skips can do this, too."""
        pixels: Tensor = self.module(x.to(self.device)).pixels
        return pixels

    @torch.no_grad()
    def sample(self, n: int, seed: int = 0) -> Tensor:
        """From the prior of a variational model; else from a Gaussian fitted to its latents."""
        generator = torch.Generator().manual_seed(seed)
        if self.config.variational:
            return self.module.sample(n, generator)
        if self._stats is None:
            raise ModelError(
                f"{self.info.path}: a model that is not variational can be sampled after "
                "`aecodec export`, which measures its latents"
            )
        mean, deviation = self._stats
        z = mean + deviation * torch.randn(n, len(mean), generator=generator)
        return self.decode_latent(z)


class HyperpriorModel(LatentModel):
    """A model of the codec's own family: any size, RGB; gray is taken as three equal channels.

    The synthesis runs at the highest quality, so that it keeps what the latents hold.
    """

    family = HYPERPRIOR
    image_shape = None
    config: ModelConfig
    module: Autoencoder
    network: Network | None = None  # of a weights file: with what codes its latents

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.depth = range_of(self.data)

    @torch.no_grad()
    def encode_image(self, x: Tensor) -> Tensor:
        """See `LatentModel`; images are continued to multiples of 16."""
        if x.ndim != 4 or x.shape[1] not in (1, 3):
            raise InputError(f"images of shape {tuple(x.shape)} are not (N, 1 or 3, H, W)")
        missing = [-side % STRIDE for side in x.shape[2:]]
        x = F.pad(x.to(self.device), (0, missing[1], 0, missing[0]), mode="replicate")
        y: Tensor = self.module.analysis(x.expand(-1, 3, -1, -1))
        return y

    @torch.no_grad()
    def decode_latent(self, z: Tensor) -> Tensor:
        """See `LatentModel`; sides are 16 times those of the latents."""
        channels = self.config.latent_channels
        if z.ndim != 4 or z.shape[1] != channels:
            raise InputError(f"latents of shape {tuple(z.shape)} are not (N, {channels}, h, w)")
        return self._synthesise(z.to(self.device), 7.0)

    @torch.no_grad()
    def sample(
        self, n: int, seed: int = 0, *, size: tuple[int, int] = (256, 256), quality: float = 50
    ) -> Tensor:
        """From the entropy model: ẑ from its tables, then residuals from theirs, pass by pass.

        Args:
            n: number of images.
            seed: decides what is drawn.
            size: height and width in pixels, rounded up to multiples of 16.
            quality: 1 to 100, as for files.
        """
        if self.network is None:
            raise ModelError(f"{self.info.path}: sampling needs the tables of `aecodec export`")
        generator = torch.Generator().manual_seed(seed)
        index, shape = quality_index(quality), (-(-size[0] // STRIDE), -(-size[1] // STRIDE))
        y = [_draw_latents(self.network, index, shape, generator) for _ in range(n)]
        return self._synthesise(torch.cat(y), index / QUALITY_STEPS)

    def _synthesise(self, y: Tensor, quality: float) -> Tensor:
        q = torch.full((1,), quality, dtype=torch.float32, device=self.device)
        pixels: Tensor = self.module.synthesis(y, q)
        highest = 1.0 if self.depth is None else self.depth.limit / self.depth.maximum
        return pixels.clamp(-0.5, highest - 0.5)


def _draw_latents(
    network: Network, quality: int, shape: tuple[int, int], generator: torch.Generator
) -> Tensor:
    """ŷ (1, C, h, w) as the entropy model expects it of a picture."""
    tables, row = network.tables, prior_row(quality)
    bounds = torch.from_numpy(tables.z_bound[row])
    h, w = hyper_shape(*shape)
    z = torch.stack(
        [
            _draw(torch.from_numpy(table), int(k), h * w, generator).reshape(h, w)
            for table, k in zip(tables.z[row], bounds, strict=True)
        ]
    )
    quantiser: Quantiser = network.quantiser
    given = quantiser.conditions(z.int().numpy(), quality, shape)

    def residual(p: int, mean: Tensor, known: list[Tensor]) -> Tensor:
        index = given.index(p, known)
        q = torch.zeros(index.shape, dtype=torch.float32)
        for i in torch.unique(index).tolist():
            if i >= tables.skip:
                here = index.cpu() == i
                table = torch.from_numpy(tables.y[i])
                q[here] = _draw(table, int(tables.y_bound[i]), int(here.sum()), generator)
        return q.to(mean.device)

    return given.passes.restore(given.walk(residual))[None]


def _draw(table: Tensor, bound: int, count: int, generator: torch.Generator) -> Tensor:
    """Values −K … K by their frequencies, (count,) float32; escapes are left out."""
    weights = table[: 2 * bound + 1].double()
    drawn = torch.multinomial(weights, count, replacement=True, generator=generator)
    return (drawn - bound).float()


def load_model(model: str | os.PathLike[str], device: str = "cpu") -> LatentModel:
    """Load a model of any family.

    Args:
        model: name or identity of an installed model, a weights file, a checkpoint, or a run
            folder (its `best.safetensors`, else its `last.safetensors`).
        device: "cpu", "cuda", ...

    Raises:
        UnknownModelError: there is no such model.
        WeightsError: the file is damaged or does not fit its config.
        InputError: unknown device.
    """
    path = _find(model)
    place = find_device(device)
    meta = read_metadata(path)
    if "aecodec" in meta and meta.get("format") != FORMAT:
        return _from_checkpoint(path, Path(model), meta, place)
    if read_info(path).family == BOTTLENECK:
        return _bottleneck_file(path, place)
    network = Network(path, device=device, precision="float32")
    with fitting(path):
        data = data_of(network.info.meta)
    found = HyperpriorModel(network.info, network.config, network.net, data, place)
    found.network = network
    return found


def _find(model: str | os.PathLike[str]) -> Path:
    path = Path(model)
    if not path.is_dir():
        return find_model(model)
    try:
        return checkpoint_in(path)
    except UnknownModelError:
        with suppress(UnknownModelError):  # any folder may be called as an installed model is
            return find_model(model)
        raise


def _bottleneck_file(path: Path, device: torch.device) -> BottleneckModel:
    tensors, info = load_weights(path)
    with fitting(path):
        config = BottleneckConfig.from_json(info.meta.get("config", ""))
        module = BottleneckAutoencoder(config)
        _fill(module, {k: v.float() for k, v in part(tensors, "net.").items()}, path)
        latent = part(tensors, "latent.")
        stats = (latent["mean"], latent["deviation"]) if "deviation" in latent else None
        return BottleneckModel(info, config, module, data_of(info.meta), device, stats=stats)


def _from_checkpoint(
    path: Path, given: Path, meta: Mapping[str, str], device: torch.device
) -> BottleneckModel | HyperpriorModel:
    """The moving average of a checkpoint's weights; what is not averaged, as it is."""
    settings, tensors = training_of(path, meta)["config"], read_tensors(path)
    state = part(tensors, "model.") | part(tensors, "buffer.") | part(tensors, "ema.")
    info = ModelInfo(given.stem if given.is_file() else given.resolve().name, "", path)
    with fitting(path):
        family, shape = settings.get("family", HYPERPRIOR), dict(settings["model"])
        data = dict(settings.get("data") or {})
        if family == BOTTLENECK:
            config = BottleneckConfig.from_dict(shape)
            module = BottleneckAutoencoder(config)
            _fill(module, state, path)
            return BottleneckModel(info, config, module, data, device)
        if family != HYPERPRIOR:
            raise WeightsError(f"unknown family '{family}'")
        hyperprior = ModelConfig.from_dict(shape)
        network = Autoencoder(hyperprior)
        _fill(network, state, path)
        return HyperpriorModel(info, hyperprior, network, data, device)


def _fill(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise WeightsError(f"{path}: weights do not fit their config: {error}") from error
