"""Checkpoints as files: which one a folder has, and what is said of damaged ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from aecodec.errors import UnknownModelError, WeightsError
from aecodec.model.checkpoint_files import checkpoint_in, read_tensors
from aecodec.model.families import load_model
from aecodec.train import checkpoint
from aecodec.train.export import export

META = [
    "no",
    "3",
    "[]",
    "{}",
    "[" * 100_000,
    '{"config": 3}',
    '{"config": {}}',
    '{"config": {"model": 3}}',
    '{"config": {"model": {"latent_channels": "x"}}}',
    '{"config": {"model": {"latent_channels": 0}}}',
    '{"config": {"model": {"latent_canals": 3}}}',
    '{"config": {"model": {}, "data": 3}}',
    '{"config": {"family": "other", "model": {}}}',
    '{"config": {"family": "bottleneck"}}',
    '{"config": {"family": "bottleneck", "model": {"latent_dim": "x"}}}',
    '{"config": {"family": "bottleneck", "model": {"latent_dims": 3}}}',
]


def test_the_best_checkpoint_of_a_folder_is_its_model(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match=r"neither best\.safetensors nor last"):
        checkpoint_in(tmp_path)
    for name in ("last.safetensors", "best.safetensors"):
        (tmp_path / name).touch()
        assert checkpoint_in(tmp_path) == tmp_path / name
    assert checkpoint_in(tmp_path / "other") == tmp_path / "other"


def test_tensors_are_read_by_their_prefix(tmp_path: Path) -> None:
    path = tmp_path / "some.safetensors"
    save_file({"a.x": torch.ones(2), "a.y": torch.zeros(1), "b.x": torch.zeros(1)}, path)
    assert set(read_tensors(path)) == {"a.x", "a.y", "b.x"}
    assert set(read_tensors(path, "a.")) == {"x", "y"}
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match=r"some\.safetensors: not a usable"):
        read_tensors(path)


@pytest.mark.parametrize("text", META, ids=range(len(META)))
def test_malformed_metadata_are_errors_that_name_the_file(text: str, tmp_path: Path) -> None:
    path, target = tmp_path / "last.safetensors", tmp_path / "target.safetensors"
    save_file({"ema.x": torch.zeros(1)}, path, metadata={"aecodec": text})
    for use in (
        lambda: load_model(path),
        lambda: export(tmp_path, tmp_path, target, description=""),
    ):
        with pytest.raises(WeightsError) as caught:
            use()
        assert str(caught.value).count(str(path)) == 1


@pytest.mark.parametrize("text", META[:6])
def test_metadata_without_a_config_are_no_checkpoint(text: str, tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    save_file({"ema.x": torch.zeros(1)}, path, metadata={"aecodec": text})
    with pytest.raises(WeightsError, match=r"last\.safetensors: not a usable checkpoint"):
        checkpoint.read_meta(path)


def test_what_a_release_needs_to_know_of_a_run_is_asked_for(tmp_path: Path) -> None:
    for data in ({"bit": 8}, {"bits": "x"}, 3):
        with pytest.raises(WeightsError, match=r"^last\.safetensors: "):
            checkpoint.data_config(Path("last.safetensors"), {"config": {"data": data}})
    assert checkpoint.data_config(Path("x"), json.loads('{"config": {}}')).bits == 8
