"""Weights files: found, loaded, and refused by name."""

from __future__ import annotations

import os
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
from aecodec.model.weights import data_of, load_weights, save_weights


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


def test_the_section_data_is_an_object() -> None:
    assert data_of({}) == {}
    assert data_of({"data": '{"bits": 16}'}) == {"bits": 16}
    for bad in ("[1]", "{", "3"):
        with pytest.raises(WeightsError, match="`data` is not a JSON object"):
            data_of({"data": bad})


@pytest.mark.parametrize(
    ("key", "value", "cause"),
    [
        ("config", "{", "not JSON"),
        ("config", '{"wat": 1}', "unknown keys: wat"),
        ("config", '{"latent_channels": "x"}', "do not fit their config"),
        ("config", '{"synthesis_inner": [48]}', "synthesis_inner must have 2 entries"),
        ("data", "[]", "`data` is not a JSON object"),
        ("deadzone", "abc", "do not fit their config"),
        ("tables.y", torch.zeros(64, 9, dtype=torch.int32), "malformed"),
        ("tables.skip", torch.zeros(2, dtype=torch.int32), "do not fit their config"),
        ("tables.skip", torch.tensor(300, dtype=torch.int32), "below the scale index 300"),
        ("scale_head.fixed_point", torch.zeros(7, dtype=torch.int32), "fixed-point"),
        ("scale_head.weight.0", torch.zeros(9, 9, dtype=torch.int16), r"has the shape \(9, 9\)"),
        ("scale_head.bias.1", torch.zeros(7, 256, dtype=torch.int32), "scale_head.bias.1 has"),
        ("tables.z", torch.full((8, 50, 2), 2**23, dtype=torch.int32), "differ in number"),
        ("tables.y_bound", torch.zeros(3, dtype=torch.int32), "differ in number"),
        ("config", '{"scale_min": 3, "scale_max": 3}', "scale_max must be a number above"),
        ("config", '{"lambda_max": Infinity}', "lambda_max must be a number above"),
        ("deadzone", "nan", "deadzone must be from 0 to 1"),
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


def test_tables_of_another_model_are_refused(tmp_path: Path) -> None:
    tensors, info = load_weights(WEIGHTS)
    path, meta = tmp_path / "odd.safetensors", {k: info.meta[k] for k in ("config", "deadzone")}
    for rows, channels in ((8, 50), (3, 128)):
        cut = {n: tensors[n][:rows, :channels].clone() for n in ("tables.z", "tables.z_bound")}
        save_weights(path, tensors | cut, meta)
        with pytest.raises(WeightsError, match=rf"tables for \(64, {rows}, {channels}\)"):
            Codec(path)


def test_a_loaded_model_stays_what_it_is_when_its_file_changes(
    tmp_path: Path, cat: np.ndarray
) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(WEIGHTS.read_bytes())
    codec = Codec(path)
    expected = codec.encode(cat[:64, :64])
    with path.open("r+b") as file:  # as `cp` does it, over the same file
        file.write(bytes(path.stat().st_size))
        file.flush()
        assert codec.encode(cat[:64, :64]) == expected
        file.truncate(100)
        assert codec.encode(cat[:64, :64], quality=20) != expected


def test_functions_see_that_a_weights_file_was_replaced(
    tmp_path: Path, cat: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for folder, name in ((first, "photo"), (second, "depth")):
        folder.mkdir()
        copy = folder / "mine.safetensors"
        copy.write_bytes(WEIGHTS.with_name(f"{name}.safetensors").read_bytes())
    tile = np.ascontiguousarray(cat[:64, :64, 0]).astype(np.uint16)
    monkeypatch.chdir(first)
    photo = aecodec.encode(tile, model="mine.safetensors")
    monkeypatch.chdir(second)
    depth = aecodec.encode(tile, model="mine.safetensors")
    os.replace(second / "mine.safetensors", first / "mine.safetensors")
    again = aecodec.encode(tile, model=first / "mine.safetensors")
    assert photo[12:20] != depth[12:20] == again[12:20]


def test_a_header_of_nested_lists_is_damage(tmp_path: Path) -> None:
    header = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    path = tmp_path / "deep.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(WeightsError, match=r"deep\.safetensors: damaged"):
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
