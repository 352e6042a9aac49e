"""Muon, the optimiser of weights that are matrices, in few large operations."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

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

    def __init__(
        self,
        params: list[dict[str, Any]],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            grads = [p.grad for p in params]
            for p in params:
                if "momentum" not in self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
            buffers = [self.state[p]["momentum"] for p in params]
            torch._foreach_mul_(buffers, group["momentum"])
            torch._foreach_add_(buffers, grads)
            if group["weight_decay"]:
                torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            updates = torch._foreach_add(grads, buffers, alpha=group["momentum"])
            by_shape: dict[tuple[int, int], list[int]] = defaultdict(list)
            for i, p in enumerate(params):
                by_shape[_blocks(p.shape[0], p[0].numel())].append(i)
            stacks = [
                torch.cat([updates[i].reshape(-1, *shape) for i in members])
                for shape, members in by_shape.items()
            ]
            results = _orthogonalise_together(stacks)
            for (rows, columns), members, result in zip(
                by_shape, by_shape.values(), results, strict=True
            ):
                scale = -group["lr"] * 0.2 * max(rows, columns) ** 0.5
                counts = [params[i].numel() // (rows * columns) for i in members]
                for i, update in zip(members, torch.split(result, counts), strict=True):
                    params[i].add_(update.reshape(params[i].shape), alpha=scale)


def _orthogonalise_together(stacks: list[Tensor]) -> list[Tensor]:
    """Orthogonalise every matrix of every stack (N, rows, columns).

    All processes of a distributed run have the same matrices: each takes its share, and
    all get the results of all, so that their weights stay equal to the bit.
    """
    size = dist.get_world_size() if dist.is_initialized() else 1
    if size == 1:
        return [_either_way(stack) for stack in stacks]
    shares: list[list[tuple[int, slice]]] = [[] for _ in range(size)]
    loads = [0] * size
    for n in sorted(range(len(stacks)), key=lambda n: -stacks[n][0].numel()):
        for part in _parts(len(stacks[n]), size):
            least = loads.index(min(loads))
            shares[least].append((n, part))
            rows, columns = sorted(stacks[n].shape[1:])
            loads[least] += (part.stop - part.start) * rows * rows * columns
    mine = [_either_way(stacks[n][part]).flatten() for n, part in shares[dist.get_rank()]]
    lengths = [sum(stacks[n][part].numel() for n, part in share) for share in shares]
    flat = stacks[0].new_zeros(max(lengths))
    if mine:
        flat[: lengths[dist.get_rank()]] = torch.cat(mine)
    gathered = [torch.empty_like(flat) for _ in range(size)]
    dist.all_gather(gathered, flat)
    results = [torch.empty_like(stack) for stack in stacks]
    for share, values in zip(shares, gathered, strict=True):
        start = 0
        for n, part in share:
            count = results[n][part].numel()
            results[n][part] = values[start : start + count].view_as(results[n][part])
            start += count
    return results


def _parts(count: int, size: int) -> list[slice]:
    """Cut a stack of `count` matrices into up to `size` parts."""
    each = -(-count // size)
    return [slice(i, min(i + each, count)) for i in range(0, count, each)]


def _either_way(stack: Tensor) -> Tensor:
    """Orthogonalise matrices of any shape, on the shorter side."""
    return orthogonalise(stack.mT).mT if stack.shape[1] > stack.shape[2] else orthogonalise(stack)


def _blocks(rows: int, columns: int) -> tuple[int, int]:
    """Shape of the blocks that a matrix of the given shape is cut into."""
    count = 1
    if columns > _MAX_ROWS:
        count = -(-rows // _MAX_ROWS)
        while rows % count:
            count += 1
    return rows // count, columns
