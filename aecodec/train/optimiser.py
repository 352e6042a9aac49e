"""The optimisers of a run, and which weights each of them takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from aecodec.errors import TrainingError, needing
from aecodec.train.muon import Muon

_MATRIX = 48  # rows and columns from which on a weight is a matrix to Muon


@dataclass(frozen=True)
class Group:
    """Parameters that are treated alike."""

    params: list[nn.Parameter]
    rate: float = 1.0  # times the learning rate
    matrices: bool = False  # whether they are for Muon, if that is chosen


def is_matrix(p: Tensor) -> bool:
    """Whether a weight of a linear layer or a convolution is large enough for Muon."""
    return p.ndim in (2, 4) and min(p.shape[0], p.shape[1]) >= _MATRIX


def build_optimisers(
    name: str, groups: list[Group], lr: float, *, weight_decay: float = 0.0, momentum: float = 0.9
) -> list[torch.optim.Optimizer]:
    """The optimisers of a run; every parameter group keeps its factor as `rate`.

    Args:
        name: "muon" (with Adam for what is no matrix), "adamw", "adam", "sgd" or "lion".
        groups: all parameters of the model.
        lr: learning rate, see `set_learning_rate`.
        weight_decay: on weights with two or more dimensions; decoupled from the gradient
            (Loshchilov and Hutter 2019), but for "sgd" and "adam".
        momentum: of "sgd".

    Raises:
        MissingDependencyError: "lion" needs lion-pytorch.
    """
    if name == "muon":
        matrices = _options([g for g in groups if g.matrices], weight_decay)
        rest = _options([g for g in groups if not g.matrices], weight_decay)
        adam = torch.optim.AdamW if weight_decay else torch.optim.Adam
        return [
            Muon(matrices or [{"params": []}], lr=lr),
            adam(rest or [{"params": []}], lr=lr, betas=(0.9, 0.99), fused=True),
        ]
    builders: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "adamw": lambda p: torch.optim.AdamW(p, lr=lr, betas=(0.9, 0.99), fused=True),
        "adam": lambda p: torch.optim.Adam(p, lr=lr, betas=(0.9, 0.99), fused=True),
        "sgd": lambda p: torch.optim.SGD(p, lr=lr, momentum=momentum, nesterov=momentum > 0),
        "lion": lambda p: _lion()(p, lr=lr),
    }
    return [builders[name](_options(groups, weight_decay))]


def freeze(model: nn.Module, train_only: Sequence[str]) -> None:
    """Let only parameters be trained whose names begin like this; all if nothing is given.

    Raises:
        TrainingError: no parameter's name begins so.
    """
    names = [name for name, _ in model.named_parameters()]
    for start in train_only:
        if not any(name.startswith(start) for name in names):
            heads = sorted({name.split(".")[0] for name in names})
            raise TrainingError(
                f"train_only: no parameter's name begins with '{start}'; "
                f"they begin with {', '.join(heads)}"
            )
    for name, p in model.named_parameters():
        p.requires_grad_(not train_only or name.startswith(tuple(train_only)))


def _options(groups: list[Group], weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups as torch takes them, without decay of biases, gains and norms."""
    made = []
    for group in groups:
        trained = [p for p in group.params if p.requires_grad]
        decayed = [p for p in trained if p.ndim >= 2 and weight_decay]
        plain = [p for p in trained if not (p.ndim >= 2 and weight_decay)]
        for params, decay in ((decayed, weight_decay), (plain, 0.0)):
            if params:
                made.append({"params": params, "rate": group.rate, "weight_decay": decay})
    return made


def _lion() -> Callable[..., torch.optim.Optimizer]:
    """Lion (Chen et al. 2023)."""
    with needing("train", "the optimiser lion"):
        from lion_pytorch import Lion
    made: Callable[..., torch.optim.Optimizer] = Lion
    return made


def set_learning_rate(optimisers: list[torch.optim.Optimizer], lr: float) -> None:
    """Set the rate of every group, times the group's own factor."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = lr * group.get("rate", 1.0)
