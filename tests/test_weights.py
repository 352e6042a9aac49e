"""Weights files: found, loaded, and refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import WEIGHTS
from safetensors.numpy import save_file

import aecodec
from aecodec import api
from aecodec.codec import Codec
from aecodec.errors import UnknownModelError, WeightsError
from aecodec.model import weights
from aecodec.model.weights import load_weights, save_weights


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    short = tmp_path / "short.safetensors"
    short.write_bytes(WEIGHTS.read_bytes()[:-10])
    with pytest.raises(WeightsError, match=r"short\.safetensors"):
        Codec(short)
    empty = tmp_path / "empty.safetensors"
    empty.touch()
    with pytest.raises(WeightsError):
        Codec(empty)
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": np.zeros(3)}, foreign)
    with pytest.raises(WeightsError, match="not aecodec weights"):
        Codec(foreign)


@pytest.mark.parametrize(
    ("key", "value", "cause"),
    [
        ("config", "{", "not JSON"),
        ("config", '{"wat": 1}', "unknown keys: wat"),
        ("config", '{"latent_channels": "x"}', "do not fit their config"),
        ("config", '{"synthesis_inner": [48]}', "synthesis_inner must have 2 entries"),
        ("data", "[]", "`data` is malformed"),
        ("deadzone", "abc", "do not fit their config"),
        ("tables.y", torch.zeros(64, 9, dtype=torch.int32), "malformed"),
        ("tables.skip", torch.zeros(2, dtype=torch.int32), "do not fit their config"),
        ("tables.skip", torch.tensor(300, dtype=torch.int32), "below the scale index 300"),
        ("scale_head.fixed_point", torch.zeros(7, dtype=torch.int32), "fixed-point"),
    ],
)
def test_weights_that_fit_nothing_are_named(
    key: str, value: str | torch.Tensor, cause: str, tmp_path: Path
) -> None:
    tensors, info = load_weights(WEIGHTS)
    meta = {k: v for k, v in info.meta.items() if k != "format"}
    if isinstance(value, str):
        meta[key] = value
    else:
        assert key in tensors
        tensors[key] = value
    path = tmp_path / "odd.safetensors"
    save_weights(path, tensors, meta)
    with pytest.raises(WeightsError, match=rf"odd\.safetensors: .*{cause}"):
        Codec(path)


def test_a_tensor_without_a_dtype_is_damage(tmp_path: Path) -> None:
    path, data = tmp_path / "odd.safetensors", WEIGHTS.read_bytes()
    path.write_bytes(data.replace(b'"dtype":"F16"', b'"etype":"F16"', 1))
    with pytest.raises(WeightsError, match=r"odd\.safetensors: damaged"):
        Codec(path)


def test_a_damaged_neighbour_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A model is found by name without a look at others, by identity with a warning."""
    (tmp_path / "photo.safetensors").symlink_to(WEIGHTS.resolve())
    (tmp_path / "broken.safetensors").write_bytes(b"junk")
    monkeypatch.setattr(weights, "_folders", lambda: [tmp_path])
    assert weights.find_model("photo").name == "photo.safetensors"
    assert not caplog.records
    identity = weights.read_info(WEIGHTS).id
    assert weights.find_model(identity).name == "photo.safetensors"
    assert "broken.safetensors" in caplog.text
    with pytest.raises(UnknownModelError, match="nothing"):
        weights.find_model("nothing")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo").touch()
    (tmp_path / "weights.bin").touch()
    assert weights.find_model("photo").name == "photo.safetensors"
    with pytest.raises(UnknownModelError, match=r"weights\.bin: weights files are called"):
        weights.find_model("weights.bin")


def test_weights_are_loaded_once_however_they_are_named(cat: np.ndarray) -> None:
    api._loaded.cache_clear()
    decoded = aecodec.decode(aecodec.encode(cat[:64, :64]))
    aecodec.decode(aecodec.encode(decoded, model=WEIGHTS), model="photo")
    assert api._loaded.cache_info().misses == 1
    with pytest.raises(UnknownModelError, match="nothing"):
        Codec("nothing")
