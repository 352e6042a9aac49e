"""Files of bottleneck models: exact integers, one vector a picture, clear refusals."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Run, psnr
from PIL import Image
from vector_models import TINY, checkpoint, trained_run

import aecodec
from aecodec import container
from aecodec.codec import Codec
from aecodec.errors import (
    FormatError,
    InputError,
    ModelError,
    ModelMismatchError,
    UnknownModelError,
    UnsupportedImageError,
    WeightsError,
)
from aecodec.model.bottleneck import BottleneckAutoencoder, BottleneckConfig
from aecodec.model.families import load_model
from aecodec.model.weights import load_weights, save_weights
from aecodec.train.export import export
from aecodec.train.prepare import DataConfig, prepare

RGB = DataConfig(height=16, width=24, validation=0.0, test=0.0)
DEPTH = DataConfig(
    height=16, width=24, channels=1, bits=16, maximum=4000, invalid=0, validation=0.0, test=0.0
)


@dataclasses.dataclass
class Trained:
    run: Path
    images: Path
    weights: Path
    samples: list[np.ndarray]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("vectors")
    run, images, weights = folder / "run", folder / "images", folder / "signs.safetensors"
    samples = trained_run(run, images, RGB, latent_dim=6, norm="batch")
    export(run, images, weights, description="spots")
    return Trained(run, images, weights, samples)


@pytest.fixture(scope="module")
def codec(trained: Trained) -> Codec:
    return Codec(trained.weights)


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Codec, np.ndarray]:
    """A codec for depth, and an image with holes."""
    folder = tmp_path_factory.mktemp("depth")
    samples = trained_run(folder / "run", folder / "images", DEPTH, variational=True)
    export(folder / "run", folder / "images", folder / "d.safetensors", description="")
    image = samples[0].copy()
    image[2:5, 3:9] = 0
    image[10:12, :4] = 5000  # beyond the range: not valid either
    return Codec(folder / "d.safetensors"), image


def test_round_trips(codec: Codec, trained: Trained) -> None:
    found = load_model(trained.weights)
    x = torch.stack([prepare(image, RGB)[0] for image in trained.samples[:8]])
    own = ((found.reconstruct(x) + 0.5) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    sizes, qualities = [], (1, 25, 50, 75, 100)
    losses = []
    for quality in qualities:
        files = [codec.encode(image, quality=quality) for image in trained.samples[:8]]
        decoded = codec.decode_batch(files)
        assert all(d.shape == (16, 24, 3) and d.dtype == np.uint8 for d in decoded)
        pairs = list(zip(trained.samples, decoded, strict=False))
        error = np.mean([psnr(image, d) for image, d in pairs])
        losses.append(np.mean([psnr(*p) for p in zip(trained.samples, own, strict=False)]) - error)
        sizes.append(np.mean([len(f) for f in files]))
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1] < 60
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > 1  # what the first quality gives up
    assert abs(losses[-1]) < 0.1  # the last keeps what the vector holds


def test_integers_are_those_that_were_coded(codec: Codec, trained: Trained) -> None:
    for quality, image in zip((3, 40, 99), trained.samples, strict=False):
        data = codec.encode(image, quality=quality)
        codec.verify(data)
        (found,) = codec.symbols(data)
        stored = container.parse_header(data).header.quality
        with torch.inference_mode():
            expected = codec.network.quantiser.quantise(codec.network.analyse(image), stored)
            y = codec.network.quantiser.dequantise(found.z, found.q, stored)
            assert np.array_equal(found.q, expected.q)
            assert np.array_equal(codec.network.synthesise(y, 0.0), codec.decode(data))
        assert found.q.shape == (6, 1, 1)


@pytest.mark.parametrize("threads", [1, 2])
def test_bytes_do_not_depend_on_threads(codec: Codec, trained: Trained, threads: int) -> None:
    image = trained.samples[3]
    assert Codec(trained.weights, threads=threads).encode(image) == codec.encode(image)


def test_one_chunk_and_the_model_by_its_identity(codec: Codec, trained: Trained) -> None:
    data = codec.encode(trained.samples[0])
    info = container.parse_header(data)
    assert len(info.entries) == 1
    assert info.header.model_id.hex() == codec.model_id
    with pytest.raises(ModelMismatchError, match="not with photo"):
        aecodec.decode(data, model="photo")
    assert info.header.chunk_log2 == 6


def test_depth(deep: tuple[Codec, np.ndarray]) -> None:
    """Invalid samples and the range are what they were in training."""
    codec, image = deep
    x, mask = prepare(image, DEPTH)
    assert np.array_equal(mask[0].numpy(), (image > 0) & (image <= 4000))
    assert 0 < mask.sum() < mask.numel()
    y = codec.network.analyse(np.repeat(image[:, :, None], 3, axis=2))
    assert torch.equal(y.flatten(), codec.network.net.encode_image(x[None])[0])
    decoded = codec.decode(codec.encode(image, quality=100))
    assert decoded.dtype == np.uint16
    assert decoded.shape == (16, 24)
    assert decoded.max() <= 4000
    valid = mask[0].numpy()
    error = np.abs(decoded.astype(float) - image)[valid].mean()
    assert error < np.abs(image - image[valid].mean())[valid].mean()


def test_damage_is_refused(codec: Codec, trained: Trained) -> None:
    data = codec.encode(trained.samples[0], quality=90)
    for place in range(len(data)):
        bad = bytearray(data)
        bad[place] ^= 1
        with pytest.raises((FormatError, ModelMismatchError, InputError)):
            codec.decode(bytes(bad))
        with pytest.raises(FormatError):
            codec.decode(data[:place])
    file = container.parse(data)
    payload = file.chunks[0].payload
    for place in range(len(payload)):  # damage that keeps the payload's checksum
        bad = bytearray(payload)
        bad[place] ^= 1
        chunk = dataclasses.replace(file.chunks[0], payload=bytes(bad))
        with pytest.raises(FormatError, match="chunk 0"):
            codec.decode(container.serialise(dataclasses.replace(file, chunks=(chunk,))))


@pytest.mark.parametrize(
    "change",
    [
        {"width": 25},
        {"height": 32},
        {"colour": container.ColourMode.GRAY},
        {"bit_depth": 16},
        {"chunk_log2": 7},
        {"softness": 1},
    ],
)
def test_a_header_that_does_not_fit_the_model(
    codec: Codec, trained: Trained, change: dict[str, Any]
) -> None:
    file = container.parse(codec.encode(trained.samples[0]))
    header = dataclasses.replace(file.header, **change)
    data = container.serialise(dataclasses.replace(file, header=header))
    with pytest.raises(FormatError, match=r"a\.aec: .*where model signs takes"):
        codec.decode(data, name="a.aec")
    with pytest.raises(FormatError):
        codec.recover(data)


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (np.zeros((16, 16, 3), np.uint8), {}, "16 x 16 pixels, where model signs takes 24 x 16"),
        (np.zeros((16, 24), np.uint8), {}, "gray, where model signs takes RGB"),
        (np.zeros((16, 24, 3), np.uint16), {}, "16 bits a sample, where model signs takes 8"),
        (np.zeros((16, 24, 3), np.uint8), {"preview": True}, "no preview"),
        (np.zeros((16, 24, 3), np.uint8), {"effort": 3}, "signs codes at effort 0 alone"),
        (np.zeros((16, 24, 3), np.uint8), {"target_size": 5}, "out of reach"),
    ],
)
def test_what_cannot_be_coded(
    codec: Codec, image: np.ndarray, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        codec.encode(image, **options)


def test_rgb_is_refused_by_a_gray_model(deep: tuple[Codec, np.ndarray]) -> None:
    with pytest.raises(UnsupportedImageError, match="RGB, where model d takes gray"):
        deep[0].encode(np.zeros((16, 24, 3), np.uint16))


def test_parts_of_a_picture(codec: Codec, trained: Trained) -> None:
    data = codec.encode(trained.samples[1])
    whole = codec.decode(data)
    assert np.array_equal(codec.decode(data, region=(5, 3, 11, 7)), whole[3:10, 5:16])
    small = codec.decode(data, preview=True)
    assert small.shape == (2, 3, 3)
    assert np.abs(small - whole.reshape(2, 8, 3, 8, 3).mean(axis=(1, 3))).max() <= 0.5
    image, lost = codec.recover(data[:-3])
    assert lost == [0]
    assert (image == 128).all()
    assert np.array_equal(codec.recover(data)[0], whole)


def test_alpha_is_kept(codec: Codec, trained: Trained) -> None:
    alpha = np.arange(16 * 24, dtype=np.uint8).reshape(16, 24, 1)
    image = np.concatenate([trained.samples[2], alpha], axis=2)
    decoded = codec.decode(codec.encode(image))
    assert np.array_equal(decoded[:, :, 3:], alpha)


def test_targets(codec: Codec, trained: Trained) -> None:
    image = trained.samples[4]
    low, high = (psnr(image, codec.decode(codec.encode(image, quality=q))) for q in (1, 100))
    wanted = (low + high) / 2
    assert psnr(image, codec.decode(codec.encode(image, target_psnr=wanted))) >= wanted
    sizes = [len(codec.encode(image, quality=q)) for q in (1, 100)]
    middle = sum(sizes) // 2
    assert sizes[0] <= len(codec.encode(image, target_size=middle)) <= middle


def test_precision_and_batches(codec: Codec, trained: Trained) -> None:
    image = trained.samples[5]
    exact = Codec(trained.weights, precision="float64")
    data = exact.encode(image)
    assert np.abs(exact.decode(data).astype(int) - codec.decode(data)).max() <= 1
    many = codec.encode_batch(trained.samples[:3])
    assert many == [codec.encode(image) for image in trained.samples[:3]]


def test_command_line(run: Run, trained: Trained, tmp_path: Path) -> None:
    weights, out, back = tmp_path / "my.safetensors", tmp_path / "a.aec", tmp_path / "a.png"
    made = run("export", trained.run, "--data", trained.images, "--out", weights, "--images", 20)
    assert made.returncode == 0, made.stderr
    picture = trained.images / "00.png"
    for arguments in (
        ("compress", picture, out, "--model", weights, "-q", 90),
        ("decompress", out, back, "--model", weights),
    ):
        found = run(*arguments)
        assert found.returncode == 0, found.stderr
    expected = aecodec.decode(out.read_bytes(), model=weights)
    assert np.array_equal(np.asarray(Image.open(back)), expected)
    Image.new("RGB", (40, 30)).save(tmp_path / "large.png")
    bad = run("compress", tmp_path / "large.png", tmp_path / "b.aec", "--model", weights)
    assert bad.returncode != 0
    assert "large.png: 40 x 30 pixels, where model my takes 24 x 16: resize" in bad.stderr
    assert not (tmp_path / "b.aec").exists()
    with pytest.raises(UnknownModelError, match="made with another model"):
        aecodec.decode(out.read_bytes())


def test_export_keeps_the_model(trained: Trained) -> None:
    before, after = load_model(trained.run), load_model(trained.weights)
    assert (after.config, after.data) == (before.config, before.data)
    x = torch.stack([prepare(image, RGB)[0] for image in trained.samples[:4]])
    torch.testing.assert_close(before.reconstruct(x), after.reconstruct(x), atol=5e-3, rtol=0)
    assert after.sample(2, seed=3).shape == (2, 3, 16, 24)
    names = [k for k in load_weights(trained.weights)[0] if k.endswith("running_var")]
    assert names
    assert all(load_weights(trained.weights)[0][k].dtype == torch.float32 for k in names)


def test_weights_of_elements_are_those_of_the_jacobian(trained: Trained) -> None:
    from aecodec.train.export_bottleneck import element_weights

    model = load_model(trained.weights).module
    x = torch.stack([prepare(image, RGB)[0] for image in trained.samples])
    mask = torch.rand(len(x), 1, 16, 24, generator=torch.Generator().manual_seed(3)) < 0.7
    with torch.no_grad():
        z = model.encode_image(x)
    found = element_weights(model, z, mask, torch.Generator().manual_seed(2)).mean(dim=0)
    exact = torch.zeros_like(found)
    for d in range(z.shape[1]):
        unit = torch.zeros_like(z)
        unit[:, d] = 1
        change = torch.func.jvp(model.decode_latent, (z,), (unit,))[1] * mask
        exact[d] = change.double().square().sum(dim=(1, 2, 3)).mean()
    torch.testing.assert_close(found, exact, rtol=0.3, atol=0)


def test_export_refusals(trained: Trained, tmp_path: Path) -> None:
    target = tmp_path / "x.safetensors"
    with pytest.raises(InputError, match=rf"{trained.run}: the family bottleneck has no deadzone"):
        export(trained.run, trained.images, target, description="", deadzone=0.5)
    run = tmp_path / "run"
    run.mkdir()
    model = BottleneckAutoencoder(BottleneckConfig(**TINY))
    checkpoint(run / "last.safetensors", model, height=8, width=8)
    with pytest.raises(InputError, match="do not fit the model"):
        export(run, trained.images, target, description="")
    assert not target.exists()


def test_skips_can_be_exported_but_code_nothing(trained: Trained, tmp_path: Path) -> None:
    target = tmp_path / "skips.safetensors"
    (tmp_path / "run").mkdir()
    model = BottleneckAutoencoder(BottleneckConfig(**TINY, skips=True))
    checkpoint(tmp_path / "run" / "last.safetensors", model)
    export(tmp_path / "run", trained.images, target, description="")
    assert load_model(target).reconstruct(torch.zeros(1, 3, 16, 24)).shape == (1, 3, 16, 24)
    with pytest.raises(ModelError, match="skips, which bypass the latent vector"):
        Codec(target)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.pop("latent.index"),
        lambda t: t.update({"latent.index": t["latent.index"] + 64}),
        lambda t: t.update({"latent.mean": torch.zeros(7)}),
        lambda t: t.update({"latent.log_step": torch.zeros(3, 6)}),
        lambda t: t.update({"tables.y": t["tables.y"] + 1}),
        lambda t: t.pop("net.to_latent.bias"),
    ],
)
def test_weights_that_do_not_fit(
    trained: Trained, tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    tensors, info = load_weights(trained.weights)
    change(tensors)
    save_weights(tmp_path / "bad.safetensors", tensors, info.meta)
    with pytest.raises(WeightsError):
        Codec(tmp_path / "bad.safetensors")
