"""Which arithmetic the transforms run in, and on which device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from aecodec.errors import InputError

PRECISIONS = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}


def find_device(name: str) -> torch.device:
    """The device of a name: "cpu", "cuda", ...

    Raises:
        InputError: torch does not know it, or cannot compute on it here.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device '{name}' cannot be used: torch knows no such device") from error
    try:
        torch.zeros(1, device=device).item()  # "meta" makes tensors, but without values
    except (RuntimeError, AssertionError, ImportError) as error:
        cause = "this torch cannot compute on it"
        if device.type == "cuda":  # of which it says why; of others it prints paragraphs
            cause = str(error).partition("\n")[0].partition(". ")[0]
        raise InputError(f"device '{name}' cannot be used: {cause}") from error
    return device


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 matrices faster than float32 ones."""
    if device.type == "cpu":
        supported = getattr(torch.cpu, "_is_amx_tile_supported", None)
        return bool(supported is not None and supported())
    return device.type == "cuda"


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """The dtype of a name; "auto" takes bfloat16 where it is fast, else float32.

    Raises:
        InputError: an unknown name.
    """
    if name == "auto":
        return torch.bfloat16 if has_fast_bfloat16(device) else torch.float32
    if name not in PRECISIONS:
        raise InputError(f"unknown precision '{name}' (auto, {', '.join(PRECISIONS)})")
    return PRECISIONS[name]


def exact_enough(name: str) -> str:
    """The precision for depth, whose bounds of the error need at least float32.

    Raises:
        InputError: one that is not enough.
    """
    if name == "bfloat16":
        raise InputError("models for depth run in float32 or float64, not in bfloat16")
    return "float32" if name == "auto" else name


@contextmanager
def undisturbed(*, inference: bool = True) -> Iterator[None]:
    """Compute as if the caller had set nothing: no autocast, no other default device.

    Files must not depend on what else a program does with torch. Threads of our own start
    without such settings.

    Args:
        inference: whether in inference mode, or, to make what gradients may pass through, not.

    Raises:
        MemoryError: there is not enough memory, of whatever device.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(inference))
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.empty(0).device.type != "cpu":  # get_default_device overlooks some in torch 2.6
            stack.enter_context(torch.device("cpu"))
        try:
            yield
        except RuntimeError as error:
            if is_lack_of_memory(error):
                raise MemoryError(str(error)) from error
            raise


def is_lack_of_memory(error: Exception) -> bool:
    """Whether torch says so by it: on a CPU by a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)
