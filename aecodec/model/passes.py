"""Context passes: which one codes each element of y, and y with its elements sorted by pass.

Every pass takes a quarter (or half) of the channels at every position, other channels at
each position of a 2×2 cell. Sorted, the elements of a pass are dense: work on a pass costs
its share, not that of all of y.
"""

from __future__ import annotations

from functools import cached_property, lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

_ORDERS = {1: [[0, 0], [0, 0]], 2: [[0, 1], [1, 0]], 4: [[0, 2], [3, 1]]}
"""Number of passes -> pass of channel 0 at each position of a 2×2 cell."""


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def pass_index(channels: int, passes: int, height: int, width: int) -> Tensor:
    """Which context pass knows each element of y: (C, height, width) uint8, 0..passes-1.

    Neighbouring channels fall into different groups, and every group takes the
    positions of each 2×2 cell in another order, so each pass sees all of both. The
    tensor is shared by all callers: chunks and batches have few sizes.
    """
    cell = torch.tensor(_ORDERS[passes], dtype=torch.uint8)
    index = cell.repeat((height + 1) // 2, (width + 1) // 2)[:height, :width]
    group = (torch.arange(channels) % passes).to(torch.uint8)[:, None, None]
    return (index[None] + group) % passes


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def slots(channels: int, passes: int) -> Tensor:
    """Channels sorted by pass at each position of a 2×2 cell: (4, C) int64."""
    pass_of = pass_index(channels, passes, 2, 2).reshape(channels, 4).T.long()
    return torch.argsort(pass_of, dim=1, stable=True)


def slots_of(channels: int, passes: int, p: int) -> tuple[Tensor, Tensor]:
    """Of those, the channels of all passes before p, (4, p·group), and of p, (4, group)."""
    order, group = slots(channels, passes), channels // passes
    return order[:, : p * group], order[:, p * group : (p + 1) * group]


def to_cells(x: Tensor) -> Tensor:
    """(B, c, H, W) -> (B, 4, P, c): positions by their place in a 2×2 cell, P cells.

    Sides are made even with zeros.
    """
    b, c, h, w = x.shape
    x = F.pad(x, (0, w % 2, 0, h % 2)) if h % 2 or w % 2 else x
    cells = x.reshape(b, c, (h + 1) // 2, 2, (w + 1) // 2, 2).permute(0, 3, 5, 2, 4, 1)
    return cells.reshape(b, 4, -1, c)


def from_cells(x: Tensor, height: int, width: int) -> Tensor:
    """The inverse of `to_cells`, in channels-last memory."""
    b, _, _, c = x.shape
    h, w = (height + 1) // 2, (width + 1) // 2
    rows = x.reshape(b, 2, 2, h, w, c).permute(0, 3, 1, 4, 2, 5).reshape(b, 2 * h, 2 * w, c)
    return rows[:, :height, :width].permute(0, 3, 1, 2)


def _gather(x: Tensor, order: Tensor) -> Tensor:
    """The channels of (4, P, C) in another order, (4, C)."""
    # torch's index_select is several times slower for everything but float32
    return x.gather(2, order.to(x.device)[:, None].expand_as(x))


class Passes:
    """The elements of a chunk of y, (C, H, W), sorted by pass.

    Sorted, they are (4, P, C): the place in a 2×2 cell, the cell, and the channels of pass
    0, then those of pass 1, and so on, `group` of them each. Where a side is odd, the
    cells at the edge hold elements that are not in y.

    Attributes:
        count: number of passes.
        group: channels of a pass at each position.
        index: (C, H, W) uint8, pass of each element.
    """

    def __init__(self, channels: int, passes: int, height: int, width: int) -> None:
        self.count, self.group = passes, channels // passes
        self.shape = (channels, height, width)
        self.index = pass_index(channels, passes, height, width)
        self._slots = slots(channels, passes)
        self._back = self._slots.argsort(dim=1)

    def of(self, p: int) -> slice:
        """The channels of a pass, for the last axis of what is sorted."""
        return slice(p * self.group, (p + 1) * self.group)

    def sort(self, x: Tensor) -> Tensor:
        """(C, H, W) -> (4, P, C)."""
        return _gather(to_cells(x[None])[0], self._slots)

    def restore(self, x: Tensor) -> Tensor:
        """(4, P, C) -> (C, H, W), in channels-last memory."""
        return from_cells(_gather(x, self._back)[None], *self.shape[1:])[0]

    @cached_property
    def inside(self) -> Tensor:
        """Which elements are in y: (4, P, 1) bool."""
        return to_cells(torch.ones(1, 1, *self.shape[1:], dtype=torch.bool))[0]

    @cached_property
    def _order(self) -> list[NDArray[np.intp]]:
        channels, height, width = self.shape
        place = torch.arange(channels * height * width, dtype=torch.int32) + 1  # 0: not in y
        cells = self.sort(place.reshape(self.shape)).numpy() - 1
        result = []
        for p in range(self.count):
            where = cells[:, :, self.of(p)].reshape(-1)
            order = np.argsort(where, kind="stable")
            result.append(order[int((where < 0).sum()) :])
        return result

    def in_order(self, p: int) -> NDArray[np.intp]:
        """Elements of pass p in the order (channel, row, column).

        Returns:
            Their positions in the flattened (4, P, group) elements of the pass.
        """
        return self._order[p]


@lru_cache(maxsize=4)
@torch.inference_mode(False)
def passes_of(channels: int, passes: int, height: int, width: int) -> Passes:
    """`Passes` of a chunk; shared, since the chunks of a picture have few sizes."""
    return Passes(channels, passes, height, width)
