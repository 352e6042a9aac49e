"""The bottleneck family: its options, what it refuses, that it learns, how it is loaded."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import WEIGHTS
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from vector_models import TINY, blobs, checkpoint

from aecodec.errors import InputError, ModelError, UnknownModelError, WeightsError
from aecodec.model.bottleneck import BottleneckAutoencoder, BottleneckConfig
from aecodec.model.families import load_model

OPTIONS = list(
    itertools.product(
        ("plain", "separable", "dilated"), ("none", "batch", "group"), ("transposed", "shuffle")
    )
)


@pytest.mark.parametrize(("block", "norm", "upsampling"), OPTIONS)
def test_every_combination_keeps_shapes(block: str, norm: str, upsampling: str) -> None:
    for extra in ({"variational": True}, {"skips": True}, {"attention": True, "channels": 1}):
        config = BottleneckConfig.from_dict(
            {**TINY, "block": block, "norm": norm, "upsampling": upsampling, **extra}
        )
        model = BottleneckAutoencoder(config)
        x = blobs(2, config.channels)
        out = model(x)
        out.pixels.square().mean().backward()
        for name, parameter in model.named_parameters():
            if config.variational and name.startswith("to_latent"):
                continue
            assert parameter.grad is not None, name
        assert out.pixels.shape == x.shape
        assert out.latents.shape == out.mean.shape == (2, 3)
        assert (out.log_variance is not None) == config.variational
        out = model.eval()(x)
        assert torch.equal(out.latents, out.mean)
        assert out.pixels.abs().max() <= 0.5
        if not config.skips:
            assert torch.equal(model.decode_latent(model.encode_image(x)), out.pixels)


@settings(max_examples=15)
@given(
    height=st.integers(8, 70),
    width=st.integers(8, 70),
    stages=st.integers(1, 5),
    latent=st.integers(1, 40),
    features=st.integers(1, 300),
)
def test_any_size_fits_any_number_of_stages(
    height: int, width: int, stages: int, latent: int, features: int
) -> None:
    model = BottleneckAutoencoder(
        BottleneckConfig(
            height=height,
            width=width,
            latent_dim=latent,
            widths=(4,) * stages,
            bottleneck_features=features,
        )
    ).eval()
    x = blobs(1, 3, height, width)
    z = model.encode_image(x)
    assert z.shape == (1, latent)
    assert model.decode_latent(z).shape == x.shape


@pytest.mark.parametrize("widths", [(16, 32, 64), (16, 32, 64, 64, 64)])
def test_full_hd_has_few_parameters(widths: tuple[int, ...]) -> None:
    config = BottleneckConfig(height=1080, width=1920, latent_dim=256, widths=widths)
    with torch.device("meta"):
        model = BottleneckAutoencoder(config)
    assert sum(p.numel() for p in model.parameters()) < 10e6


def test_no_checkerboard_at_the_start() -> None:
    """A flat feature map gives a flat picture, away from its edges."""
    from aecodec.model.vector_blocks import initialise, upsample

    torch.manual_seed(0)
    layer = upsample(BottleneckConfig(upsampling="shuffle"), 4, 3)
    initialise(layer)
    out = layer(torch.ones(1, 4, 10, 10))[:, :, 4:-4, 4:-4]
    assert torch.allclose(out, out[:, :, :1, :1].expand_as(out), atol=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"latent_dims": 3}, "unknown key 'latent_dims' in .model.; did you mean 'latent_dim'"),
        ({"latent_dim": "3"}, "latent_dim in .model. must be of type int, not '3'"),
        ({"latent_dim": True}, "latent_dim in .model. must be of type int"),
        ({"widths": 3}, "widths in .model. must be a list of integers"),
        ({"widths": []}, "number of widths"),
        ({"channels": 2}, "channels in .model. must be one of 1, 3, not 2"),
        ({"height": 4}, "height in .model. must lie within 8..4096, not 4"),
        ({"norm": "layer"}, "norm in .model. must be one of none, batch, group"),
        ({"skips": True, "variational": True}, "skips and variational exclude each other"),
    ],
)
def test_bad_configs(values: dict[str, object], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        BottleneckConfig.from_dict(values)


def test_config_as_json() -> None:
    config = BottleneckConfig.from_dict({**TINY, "widths": [8, 12], "variational": True})
    assert json.loads(config.to_json())["family"] == "bottleneck"
    assert BottleneckConfig.from_json(config.to_json()) == config
    for text in ("no", "[]", "{}", '{"family": "hyperprior"}'):
        with pytest.raises(WeightsError, match="model config"):
            BottleneckConfig.from_json(text)


def test_skips_refuse_the_latent() -> None:
    model = BottleneckAutoencoder(BottleneckConfig(**TINY, skips=True)).eval()
    for call in (lambda: model.encode_image(blobs(1)), lambda: model.decode_latent(torch.zeros(1))):
        with pytest.raises(ModelError, match="skips, which bypass the latent"):
            call()


def test_other_shapes_are_refused() -> None:
    model = BottleneckAutoencoder(BottleneckConfig(**TINY)).eval()
    with pytest.raises(InputError, match=r"\(1, 1, 16, 24\) do not fit .* \(N, 3, 16, 24\)"):
        model.encode_image(blobs(1, channels=1))
    with pytest.raises(InputError, match=r"\(1, 4\) do not fit .* \(N, 3\)"):
        model.decode_latent(torch.zeros(1, 4))
    with pytest.raises(ModelError, match="only a variational model"):
        model.sample(2)


@pytest.mark.parametrize("extra", [{}, {"norm": "group", "attention": True, "variational": True}])
def test_it_learns(extra: dict[str, object]) -> None:
    torch.manual_seed(1)
    model = BottleneckAutoencoder(
        BottleneckConfig.from_dict({**TINY, "latent_dim": 8, "channels": 1, **extra})
    )
    x = blobs(32, channels=1)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)

    def error() -> float:
        with torch.no_grad():
            return float((model.eval()(x).pixels - x).square().mean())

    before = min(error(), float(x.var()))
    for _ in range(60):
        out = model.train()(x)
        optimiser.zero_grad()
        (out.pixels - x).square().mean().backward()
        optimiser.step()
    assert error() < before / 2


def test_variational_draws() -> None:
    torch.manual_seed(1)
    model = BottleneckAutoencoder(BottleneckConfig(**TINY, variational=True))
    x = blobs(1)
    first, second = model(x), model(x)
    assert torch.equal(first.mean, second.mean)
    assert not torch.equal(first.latents, second.latents)
    with torch.no_grad():
        model.to_latent.bias.fill_(1e4)
    assert model(x).log_variance.max() == 10
    drawn = [model.eval().sample(2, torch.Generator().manual_seed(s)) for s in (3, 3, 4)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_load_run_folder(tmp_path: Path, norm: str) -> None:
    torch.manual_seed(2)
    model = BottleneckAutoencoder(BottleneckConfig(**TINY, norm=norm, variational=True))
    model(blobs(4))  # batch statistics
    checkpoint(tmp_path / "last.safetensors", model, maximum=255)
    model.eval()
    x = blobs(2)
    for place in (tmp_path, str(tmp_path / "last.safetensors")):
        found = load_model(place)
        assert (found.family, found.image_shape) == ("bottleneck", (3, 16, 24))
        assert (found.config, found.data) == (model.config, {"maximum": 255})
        z = found.encode_image(x)
        assert torch.equal(z, model.encode_image(x))
        assert torch.equal(found.vectors(x), z)
        assert torch.equal(found.reconstruct(x), found.decode_latent(z))
        assert found.sample(2, seed=1).shape == x.shape
        assert not found.decode_latent(z).requires_grad
    other = BottleneckAutoencoder(BottleneckConfig(**TINY))
    checkpoint(tmp_path / "best.safetensors", other)  # is preferred
    assert not load_model(tmp_path).config.variational
    with pytest.raises(ModelError, match="can be sampled after"):
        load_model(tmp_path).sample(1)


def test_loaded_skips_reconstruct_only(tmp_path: Path) -> None:
    model = BottleneckAutoencoder(BottleneckConfig(**TINY, skips=True)).eval()
    checkpoint(tmp_path / "best.safetensors", model)
    found = load_model(tmp_path)
    assert found.reconstruct(blobs(1)).shape == (1, 3, 16, 24)
    with pytest.raises(ModelError, match="skips"):
        found.encode_image(blobs(1))
    with pytest.raises(ModelError, match="skips"):
        found.vectors(blobs(1))


def test_what_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match="neither best"):
        load_model(tmp_path)
    with pytest.raises(UnknownModelError, match="no model named"):
        load_model("nothing")
    path = tmp_path / "best.safetensors"
    path.write_bytes(b"x" * 40)
    with pytest.raises(WeightsError, match=r"best\.safetensors: not a usable safetensors file"):
        load_model(tmp_path)
    for meta in ("{}", '{"config": {"family": "other", "model": {}}}', "no"):
        save_file({"model.x": torch.zeros(1)}, path, metadata={"aecodec": meta})
        with pytest.raises(WeightsError, match=r"not a usable checkpoint|unknown family 'other'"):
            load_model(tmp_path)
    config = {"family": "bottleneck", "model": {"latent_dim": 3}}
    meta = json.dumps({"config": config})
    save_file({"model.x": torch.zeros(1)}, path, metadata={"aecodec": meta})
    with pytest.raises(WeightsError, match="do not fit their config"):
        load_model(tmp_path)
    for device in ("abacus", "meta", "hpu", "fpga", ""):
        with pytest.raises(InputError, match=f"device '{device}' cannot be used: [ a-z]*$"):
            load_model(WEIGHTS, device=device)


def test_release_weights(photo: np.ndarray) -> None:
    found = load_model(WEIGHTS)
    assert (found.family, found.image_shape) == ("hyperprior", None)
    assert found.info.name == "photo"
    x = torch.from_numpy(photo[:100, :120].copy()).permute(2, 0, 1)[None].float() / 255 - 0.5
    z = found.encode_image(x.expand(2, -1, -1, -1))
    assert z.shape == (2, found.config.latent_channels, 7, 8)
    assert found.vectors(x).shape == (1, found.config.latent_channels)
    assert found.decode_latent(z).shape == (2, 3, 112, 128)
    error = (found.reconstruct(x) - x).square().mean()
    # 28 dB; the latents are not quantised, where g_s expects what a dead zone has shrunk
    assert error < 10**-2.8
    assert found.encode_image(x[:, :1]).shape == z[:1].shape
    for bad in (x[0], x.expand(3, -1, -1, -1).transpose(1, 2)):
        with pytest.raises(InputError):
            found.encode_image(bad)
    with pytest.raises(InputError, match="latents of shape"):
        found.decode_latent(z[:, :5])


def test_samples_of_the_entropy_model() -> None:
    found = load_model(WEIGHTS)
    first, same, other = (found.sample(1, seed=s) for s in (1, 1, 2))
    assert first.shape == (1, 3, 256, 256)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert first.std() > 0.01  # not flat: residuals were drawn, too
