"""Weights made narrower still code, and lose nothing where nothing was needed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from conftest import Run
from safetensors.torch import load_file
from train_files import write_images

from aecodec.errors import TrainingError
from aecodec.model.autoencoder import Autoencoder
from aecodec.model.config import ModelConfig
from aecodec.model.weights import find_model, read_info
from aecodec.train.config import TrainConfig
from aecodec.train.initial import load_initial
from aecodec.train.narrow import narrow

WIDE = ModelConfig(
    latent_channels=16,
    hyper_channels=8,
    width_8=16,
    width_16=24,
    analysis_blocks=(1, 1),
    synthesis_blocks=(2, 1),
    synthesis_inner=(11, 13),
    hyper_width=8,
    context_width=16,
    context_blocks=(1, 1),
    context_inner=9,
    scale_width=10,
    scale_context_width=7,
)
SPARE = 3


def with_spare_channels(network: Autoencoder) -> dict[str, torch.Tensor]:
    """The last `SPARE` channels of every inner layer repeat the first; who takes them, halves."""
    state = dict(network.state_dict())

    def repeat(name: str, axis: int, each: int = 1) -> None:
        value = state[name].transpose(0, axis).clone()
        value[-SPARE * each :] = value[: SPARE * each]
        state[name] = value.transpose(0, axis).contiguous()

    def halve(name: str) -> None:
        value = state[name].clone()
        value[:, :SPARE] /= 2
        value[:, -SPARE:] = value[:, :SPARE]
        state[name] = value

    stacks = ["synthesis.blocks_8.0", "synthesis.blocks_8.1", "synthesis.blocks_16.0"]
    for block in [*stacks, "context.0.blocks.0", "context.1.blocks.0"]:
        for maker, user in (("reduce", "spatial"), ("spatial", "expand")):
            repeat(f"{block}.{maker}.weight", 0)
            repeat(f"{block}.{maker}.bias", 0)
            halve(f"{block}.{user}.weight")
    for i in range(2):
        repeat(f"scale_head.weights.{i}", 0, 4)
        repeat(f"scale_head.biases.{i}", 1, 4)
        halve(f"scale_head.weights.{i + 1}")
    halve("scale_context.0.weights.1")
    for i, axis in (("weights.0", 0), ("weights.1", 0), ("biases.0", 1)):
        repeat(f"scale_context.0.{i}", axis)
    halve("scale_context.0.weights.2")
    repeat("scale_context.0.weights.2", 0)
    repeat("scale_context.0.biases.1", 1)
    halve("scale_context.0.weights.3")
    return state


def wide_network() -> Autoencoder:
    torch.manual_seed(3)
    network = Autoencoder(WIDE)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    network.load_state_dict(with_spare_channels(network))
    return network.eval()


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(5)
    smooth = torch.nn.AvgPool2d(5, 1, 2)
    return [
        (smooth(torch.rand(2, 3, 128, 128, generator=generator)) * 2 - 1, torch.tensor([1.0, 4.0]))
        for _ in range(3)
    ]


def test_channels_that_repeat_others_are_not_needed() -> None:
    network = wide_network()
    fewer = dataclasses.replace(
        WIDE,
        synthesis_inner=(11 - SPARE, 13 - SPARE),
        context_inner=9 - SPARE,
        scale_width=10 - SPARE,
        scale_context_width=7 - SPARE,
    )
    found = narrow(network, fewer, batches())
    assert found.config == fewer
    assert found.synthesis.blocks_8[0].spatial.weight.shape == (8, 8, 3, 3)
    x, quality = batches()[0]
    with torch.no_grad():
        before, after = network(x, quality), found(x, quality)
    torch.testing.assert_close(after.pixels, before.pixels, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(after.y_bits, before.y_bits, atol=1, rtol=1e-3)
    torch.testing.assert_close(after.z_bits, before.z_bits)


@pytest.mark.parametrize(
    ("other", "cause"),
    [
        ({"latent_channels": 12}, "only inner widths may differ; latent_channels is 12, not 16"),
        ({"synthesis_blocks": (1, 1)}, "only inner widths may differ; synthesis_blocks"),
        ({"scale_width": 12}, "scale_width must be from 1 to 10, not 12"),
        ({"scale_context_width": 0}, "scale_context_width must be from 1 to 7, not 0"),
        ({"context_inner": -2}, "context_inner must be from 1 to 9, not -2"),
        ({"synthesis_inner": (11, 14)}, r"synthesis_inner\[1\] must be from 1 to 13, not 14"),
    ],
)
def test_nothing_else_may_differ(other: dict[str, object], cause: str) -> None:
    with pytest.raises(TrainingError, match=cause):
        narrow(wide_network(), dataclasses.replace(WIDE, **other), batches())


def test_a_channel_that_others_add_up_to_is_not_needed() -> None:
    """With a constant, where a bias can take it: it is not one of the first or the last."""
    network = wide_network()
    block = network.context[1].blocks[0]
    with torch.no_grad():
        block.expand.weight *= 10  # all others count
        network.scale_head.weights[2].mul_(20)
        block.spatial.weight[4], block.spatial.bias[4] = 0.0, 1.5
        block.expand.weight[:, 4] = 0.7
        network.scale_head.weights[1][4 * 5 : 4 * 6] = 0
        network.scale_head.biases[1][:, 4 * 5 : 4 * 6] = 2.0
        network.scale_head.weights[2][:, 5] = 0.05
        network.scale_context[0].weights[1][:, 5] = 0.03
    fewer = dataclasses.replace(WIDE, context_inner=5, scale_width=6)
    found = narrow(network, fewer, batches())
    x, quality = batches()[0]
    with torch.no_grad():
        before, after = network(x, quality), found(x, quality)
    torch.testing.assert_close(after.y_bits, before.y_bits, atol=1, rtol=1e-3)


def test_narrower_release_weights_are_where_training_starts(tmp_path: Path, run: Run) -> None:
    images = tmp_path / "images"
    images.mkdir()
    write_images(images)
    release = find_model("photo")
    wide = ModelConfig.from_json(read_info(release).meta["config"])
    fewer = dataclasses.replace(
        wide, synthesis_inner=(48, 88), context_inner=72, scale_width=56, scale_context_width=40
    )
    config = tmp_path / "fewer.toml"
    config.write_text(TrainConfig(model=fewer, patch=64, batch=2, steps=2, warmup=1).to_toml())
    start = tmp_path / "start.safetensors"
    arguments = ("narrow", release, config, "--data", images, "--out", start)
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    assert run(*arguments).returncode != 0  # it exists
    foreign = tmp_path / "foreign.toml"
    foreign.write_text(config.read_text().replace("hyper_channels = ", "hyper_channels = 1"))
    named = run("narrow", release, config, "--data", images, "--out", tmp_path / "start.pt")
    assert named.returncode == 6
    assert "start.pt: weights files are called .safetensors" in named.stderr
    refused = run("narrow", release, foreign, "--data", images, "--out", f"{start}-2.safetensors")
    assert refused.returncode != 0
    assert "foreign.toml: only inner widths may differ; hyper_channels" in refused.stderr

    old, new = Autoencoder(wide).eval(), Autoencoder(fewer).eval()
    load_initial(release, old)
    load_initial(start, new)
    x, _ = batches()[0]
    quality = torch.tensor([2.0, 4.0])
    with torch.no_grad():
        before, after = old(x, quality), new(x, quality)
    assert after.y_bits.sum() < 1.1 * before.y_bits.sum()
    errors = [(out.pixels - x).square().mean() for out in (before, after)]
    assert errors[1] < 1.3 * errors[0]

    begun = run("train", config, "--data", images, "--out", tmp_path / "run", "--init", start)
    assert begun.returncode == 0, begun.stderr
    kept = load_file(tmp_path / "run" / "last.safetensors")
    assert kept["ema.context.0.blocks.0.reduce.weight"].shape == (72, 192, 1, 1)
