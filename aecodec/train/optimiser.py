"""Muon for the convolution weights, Adam for the rest, in few large operations."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_MAX_ROWS = 192


def orthogonalise(matrices: Tensor) -> Tensor:
    """Newton-Schulz iteration towards the nearest semi-orthogonal matrices.

    Works on the small Gram matrix: with X_k = Q_k X the quintic iteration of Jordan et
    al. (2024) needs only products of rows × rows, and X itself twice.

    Args:
        matrices: (N, rows, columns), rows <= columns.

    Returns:
        The same shape, singular values about 1.
    """
    a, b, c = _COEFFICIENTS
    x = matrices.float()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-12)
    gram = x @ x.mT
    eye = torch.eye(x.shape[1], device=x.device, dtype=x.dtype)
    q: Tensor | None = None
    for step in range(_ITERATIONS):
        poly = torch.baddbmm(b * gram, gram, gram, beta=1, alpha=c) + a * eye
        q = poly if q is None else poly @ q
        if step < _ITERATIONS - 1:
            gram = poly @ gram @ poly
    assert q is not None
    result: Tensor = q @ x
    return result


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) with the update scale of Liu et al. (2025).

    Weights are flattened to (out, in·k·k), and cut into blocks of at most 192 rows where
    both sides are longer: the cost grows with the cube of the rows. Equal shapes are
    orthogonalised together.
    """

    def __init__(self, params: list[dict[str, Any]], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            grads = [p.grad for p in params]
            for p in params:
                if "momentum" not in self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
            buffers = [self.state[p]["momentum"] for p in params]
            torch._foreach_mul_(buffers, group["momentum"])
            torch._foreach_add_(buffers, grads)
            updates = torch._foreach_add(grads, buffers, alpha=group["momentum"])
            by_shape: dict[tuple[int, int], list[int]] = defaultdict(list)
            for i, p in enumerate(params):
                by_shape[_blocks(p.shape[0], p[0].numel())].append(i)
            for (rows, columns), members in by_shape.items():
                stack = torch.cat([updates[i].reshape(-1, rows, columns) for i in members])
                result = orthogonalise(stack.mT).mT if rows > columns else orthogonalise(stack)
                scale = -group["lr"] * 0.2 * max(rows, columns) ** 0.5
                counts = [params[i].numel() // (rows * columns) for i in members]
                for i, update in zip(members, torch.split(result, counts), strict=True):
                    params[i].add_(update.reshape(params[i].shape), alpha=scale)


def _blocks(rows: int, columns: int) -> tuple[int, int]:
    """Shape of the blocks that a matrix of the given shape is cut into."""
    count = 1
    if columns > _MAX_ROWS:
        count = -(-rows // _MAX_ROWS)
        while rows % count:
            count += 1
    return rows // count, columns


def build_optimisers(
    model: nn.Module, lr: float, *, table_rate: float, linear_rate: float
) -> list[torch.optim.Optimizer]:
    """Sort the parameters into [Muon, Adam]; every group keeps its factor as `rate`."""
    matrices, linear, tables, rest = [], [], [], []
    for name, p in model.named_parameters():
        if name.endswith("linear.weight"):
            linear.append(p)
        elif p.ndim == 4 and min(p.shape[0], p.shape[1]) >= 48:
            matrices.append(p)
        elif p.ndim == 2:  # per-quality rows
            tables.append(p)
        else:
            rest.append(p)
    muon = Muon(
        [
            {"params": matrices, "rate": 1.0},
            {"params": linear, "rate": linear_rate},
        ],
        lr=lr,
    )
    adam = torch.optim.Adam(
        [{"params": rest, "rate": 1.0}, {"params": tables, "rate": table_rate}],
        lr=lr,
        betas=(0.9, 0.99),
        fused=True,
    )
    return [muon, adam]


def set_learning_rate(optimisers: list[torch.optim.Optimizer], lr: float) -> None:
    """Set the rate of every group, times the group's own factor."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = lr * group["rate"]
