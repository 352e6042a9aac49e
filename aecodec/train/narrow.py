"""Make a trained model smaller: inner channels that others can stand in for are left out.

Inner channels lie between two layers, and both lose some. On training images each channel is
predicted from those that stay, by least squares, and what the second layer made of it goes to
their weights and its bias. One is left out at a time, the one whose error of prediction weighs
least: pruning by reconstruction, after He, Zhang and Sun (2017), "Channel Pruning for
Accelerating Very Deep Neural Networks". Training goes on from there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save as as_bytes
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from aecodec.errors import TrainingError, naming
from aecodec.imagefiles import find_images
from aecodec.model.autoencoder import Autoencoder
from aecodec.model.config import FAMILY as HYPERPRIOR
from aecodec.model.config import QUALITY_ROWS, ModelConfig
from aecodec.model.hyperprior import ContextPass
from aecodec.model.weights import check_target, fitting, read_info
from aecodec.output import write_bytes
from aecodec.train.config import TrainConfig
from aecodec.train.initial import load_initial
from aecodec.train.patches import PatchSource, split_by_name

log = logging.getLogger(__name__)

PATCHES = 64
"""How many patches channels are compared on."""

_FREE = {"synthesis_inner", "context_inner", "scale_width", "scale_context_width"}
_RIDGE = 1e-6  # of the mean square, so that no system is singular


@dataclass(frozen=True)
class _Site:
    """Channels between layers, by the names of the parameters that have them.

    Attributes:
        makers: parameter, axis with the channels, and how many there are of each on it.
        users: weights that take the channels, on axis 1, and the bias of their outputs; None
            where no constant can be added: 3×3 convolutions see none past the edge.
    """

    makers: tuple[tuple[str, int, int], ...]
    users: tuple[tuple[str, str | None], ...]


def narrow_file(weights: Path, config: Path, images: Path, target: Path) -> None:
    """Write weights to start training from, for `--init`, as wide as a config asks for.

    Args:
        weights: release weights of the same model, but wider.
        config: of the training that will start from them.
        images: the folder that it will train on.
        target: file to write.

    Raises:
        TrainingError: they do not fit.
        InputError: the config or the images cannot be used.
        WeightsError: the weights cannot be read.
        OutputError: the file cannot be written, or is not called .safetensors.
    """
    check_target(target)
    made, info = TrainConfig.load(config), read_info(weights)
    if not isinstance(made.model, ModelConfig) or info.family != HYPERPRIOR:
        raise TrainingError(f"{config}, {weights}: only the family {HYPERPRIOR} is made narrower")
    with fitting(weights):
        network = Autoencoder(ModelConfig.from_json(info.meta["config"]))
    load_initial(weights, network)
    network.deadzone = made.deadzone
    try:
        _check(network.config, made.model)
    except TrainingError as error:
        raise TrainingError(f"{config}: {error}") from error
    training, _ = split_by_name(find_images(images), made.validation_fraction)
    device = torch.device("cpu")
    with naming(str(images)):
        source = PatchSource(training, made.patch, made.sampling, device, made.seed, made.data)
    top = QUALITY_ROWS - 1
    qualities = [top * (i + 0.5) / PATCHES for i in range(PATCHES)]
    batches = ((source.batch(1), torch.tensor([quality])) for quality in qualities)
    tensors = narrow(network, made.model, batches).state_dict()
    copies = {f"ema.{name}": value.contiguous() for name, value in tensors.items()}
    write_bytes(target, as_bytes(copies), overwrite=True)


def narrow(
    network: Autoencoder, config: ModelConfig, batches: Iterable[tuple[Tensor, Tensor]]
) -> Autoencoder:
    """The same network with fewer inner channels.

    Args:
        network: with a scale head.
        config: its own but for smaller `synthesis_inner`, `context_inner`, `scale_width` or
            `scale_context_width`.
        batches: pixels (B, 3, H, W) in [-0.5, 0.5] and qualities (B,), as for `forward`.

    Raises:
        TrainingError: the config differs in something else.
    """
    _check(network.config, config)
    smaller = Autoencoder(config)
    shapes = {name: tuple(value.shape) for name, value in smaller.state_dict().items()}
    sites = {site.users[0][0]: site for site in _sites(network)}
    state = dict(network.state_dict())
    counts = {name: shapes[name][1] for name in sites}
    changed = {n: sites[n] for n, count in counts.items() if count < state[n].shape[1]}
    inputs = _Inputs({id(network.get_parameter(name)): name for name in changed})
    with torch.no_grad(), inputs:
        network.eval()
        for x, quality in batches:
            network(x, quality)
    for name, site in changed.items():
        kept = _kept(inputs.moments[name], [state[user] for user, _ in site.users], counts[name])
        log.info("%s: %d of %d channels stay", name, len(kept), state[name].shape[1])
        _fold(state, site, inputs.moments[name], kept)
    smaller.load_state_dict(state)
    smaller.deadzone = network.deadzone
    return smaller.eval()


def _inner_widths(config: ModelConfig) -> dict[str, int]:
    at_8, at_16 = config.synthesis_inner
    return {
        "synthesis_inner[0]": at_8 or config.width_8 // 2,
        "synthesis_inner[1]": at_16 or config.width_16 // 2,
        "context_inner": config.context_inner or config.context_width // 2,
        "scale_width": config.scale_width,
        "scale_context_width": config.scale_context_width,
    }


def _check(wide: ModelConfig, config: ModelConfig) -> None:
    """See that a config is another's but for smaller inner widths."""
    after = _inner_widths(config)
    for name, most in _inner_widths(wide).items():
        if not min(most, 1) <= after[name] <= most:
            raise TrainingError(f"{name} must be from {min(most, 1)} to {most}, not {after[name]}")

    for field in fields(ModelConfig):
        old, new = getattr(wide, field.name), getattr(config, field.name)
        if old != new and field.name not in _FREE:
            raise TrainingError(f"only inner widths may differ; {field.name} is {new}, not {old}")


class _Inputs(TorchFunctionMode):
    """Second moments of what convolutions take, of channels and a constant 1.

    Args:
        names: by the identity of the convolutions' weights.

    Attributes:
        moments: name -> (C + 1, C + 1) float64, summed over all positions.
    """

    def __init__(self, names: Mapping[int, str]) -> None:
        super().__init__()
        self._names = names
        self.moments: dict[str, Tensor] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        name = self._names.get(id(args[1])) if func is torch.conv2d else None
        if name is not None:
            rows = args[0].permute(0, 2, 3, 1).reshape(-1, args[0].shape[1]).double()
            rows = torch.cat([rows, torch.ones_like(rows[:, :1])], dim=1)
            self.moments[name] = self.moments.get(name, 0) + rows.T @ rows
        return func(*args, **(kwargs or {}))


def _sites(network: Autoencoder) -> Iterator[_Site]:
    """All channels that a config can make fewer of."""
    parts: list[tuple[str, nn.Module]] = [
        ("synthesis.blocks_8", network.synthesis.blocks_8),
        ("synthesis.blocks_16", network.synthesis.blocks_16),
    ]
    for p, context in enumerate(network.context):
        parts.append((f"context.{p}.blocks", cast(ContextPass, context).blocks))
    for prefix, stack in parts:
        for name, _ in stack.named_children():
            block = f"{prefix}.{name}"
            makers = ((f"{block}.reduce.weight", 0, 1), (f"{block}.reduce.bias", 0, 1))
            yield _Site(makers, ((f"{block}.spatial.weight", None),))
            makers = ((f"{block}.spatial.weight", 0, 1), (f"{block}.spatial.bias", 0, 1))
            yield _Site(makers, ((f"{block}.expand.weight", f"{block}.expand.bias"),))
    contexts = [f"scale_context.{p}" for p in range(len(network.scale_context))]
    for i in range(2):  # `F.pixel_shuffle` makes one channel of four
        makers = ((f"scale_head.weights.{i}", 0, 4), (f"scale_head.biases.{i}", 1, 4))
        users: list[tuple[str, str | None]] = [("scale_head.weights.1", None)]
        if i == 1:
            users = [("scale_head.weights.2", "scale_head.biases.2")]
            users += [(f"{c}.weights.1", f"{c}.biases.0") for c in contexts]
        yield _Site(makers, tuple(users))
    for c in contexts:
        shared = ((f"{c}.weights.0", 0, 1), (f"{c}.weights.1", 0, 1), (f"{c}.biases.0", 1, 1))
        yield _Site(shared, ((f"{c}.weights.2", None),))
        last = ((f"{c}.weights.2", 0, 1), (f"{c}.biases.1", 1, 1))
        yield _Site(last, ((f"{c}.weights.3", None),))


def _kept(moments: Tensor, users: list[Tensor], count: int) -> list[int]:
    """Which channels stay, ascending.

    Args:
        moments: of C channels and the constant.
        users: weights (out, C, k, k) that take them.
        count: how many stay.
    """
    energy = sum((w.double().square().sum(dim=(0, 2, 3)) for w in users), torch.zeros(()))
    constant = len(moments) - 1
    kept = list(range(constant))
    while len(kept) > count:
        # the mean square that the others leave of each is 1 over the diagonal of the inverse
        inverse = torch.linalg.inv(_ridged(moments, [*kept, constant]))
        cost = energy[kept] / inverse.diagonal()[: len(kept)]
        kept.pop(int(cost.argmin()))
    return kept


def _ridged(moments: Tensor, channels: list[int]) -> Tensor:
    inside = moments[channels][:, channels]
    return inside + _RIDGE * moments.diagonal().mean() * torch.eye(len(channels)).to(inside)


def _fold(state: dict[str, Tensor], site: _Site, moments: Tensor, kept: list[int]) -> None:
    """Leave out all channels but some, in place of the tensors that have them."""
    constant = len(moments) - 1
    gone = sorted(set(range(constant)) - set(kept))
    for weight, bias in site.users:
        given = kept if bias is None else [*kept, constant]
        # (given, gone): what each that goes is of those that are given
        share = torch.linalg.solve(_ridged(moments, given), moments[given][:, gone])
        lost = state[weight][:, gone].double()
        more = torch.einsum("ogyx,kg->okyx", lost, share[: len(kept)])
        if bias is not None:
            state[bias] = state[bias] + (lost.sum(dim=(2, 3)) @ share[-1]).to(state[bias])
        state[weight] = (state[weight][:, kept].double() + more).to(state[weight])
    for name, axis, each in site.makers:
        rows = torch.tensor([each * channel + i for channel in kept for i in range(each)])
        state[name] = state[name].index_select(axis, rows)
