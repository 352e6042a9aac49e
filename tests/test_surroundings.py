"""What a program does with torch beside the codec changes no byte of a file, and no pixel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import pytest
import torch

from aecodec.codec import Codec
from aecodec.model.precision import undisturbed


@contextmanager
def doubles() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


SURROUNDINGS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "default dtype": doubles,
    "default device": lambda: torch.device("meta"),
    "inference mode": torch.inference_mode,
}


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(precision="float32")


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_the_callers_settings_change_nothing(codec: Codec, photo: np.ndarray, name: str) -> None:
    image = photo[:64, :96]
    files = {effort: codec.encode(image, quality=50, effort=effort) for effort in (0, 1, 4)}
    shown = codec.decode(files[0])
    with SURROUNDINGS[name]():
        loaded = Codec(precision="float32")
        for one in (codec, loaded):
            for effort, data in files.items():
                assert one.encode(image, quality=50, effort=effort) == data
            np.testing.assert_array_equal(one.decode(files[0]), shown)
    assert loaded.encode(image, quality=50, effort=1) == files[1]  # afterwards, too


def test_a_bound_of_the_error_holds_under_autocast(photo: np.ndarray) -> None:
    codec = Codec("depth")
    depth = photo[:64, :96].astype(np.uint16).sum(axis=2, dtype=np.uint16) * 4 + 500
    with torch.autocast("cpu", dtype=torch.bfloat16):
        data = codec.encode(depth, quality=80, max_error=3)
        inside = codec.decode(data)
    for decoded in (inside, codec.decode(data)):
        assert np.abs(decoded.astype(int) - depth).max() <= 3


def test_too_little_memory_is_called_that() -> None:
    with pytest.raises(MemoryError), undisturbed():
        torch.empty(2**50, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="multiplied"), undisturbed():
        torch.zeros(2, 3) @ torch.zeros(2, 3)
