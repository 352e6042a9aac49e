"""The parts of a loss: their values, what masks leave out, and what they need."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from aecodec.errors import MissingDependencyError, TrainingError
from aecodec.train.losses import Distortion, LossConfig, kl_divergence

CPU = torch.device("cpu")


def distortion(shape: tuple[int, int] = (64, 64), **weights: float) -> Distortion:
    return Distortion(LossConfig(**{"mse": 0.0, **weights}), shape, CPU)


@pytest.fixture
def pair(photo: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Two images (2, 3, 64, 64), and noisy ones."""
    x = torch.from_numpy(photo[:64, :128].reshape(64, 2, 64, 3)).permute(1, 3, 0, 2) / 255 - 0.5
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    return x + 0.05 * noise, x


def test_values_are_those_of_the_formulas(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    pixels, x = pair
    total, parts = distortion(mse=2.0, l1=0.5)(pixels, x)
    torch.testing.assert_close(parts["mse"], (pixels - x).square().mean(dim=(1, 2, 3)))
    torch.testing.assert_close(parts["l1"], (pixels - x).abs().mean(dim=(1, 2, 3)))
    torch.testing.assert_close(total, 2 * parts["mse"] + 0.5 * parts["l1"])


@pytest.mark.parametrize("name", ["mse", "l1", "ms_ssim"])
def test_masked_pixels_do_not_count(name: str, pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    pixels, x = pair
    mask = torch.ones(2, 1, 64, 64, dtype=torch.bool)
    mask[0, :, 10:30] = False
    mask[1] = False
    measure = distortion(**{name: 1.0})
    wrong = torch.where(mask, pixels, 7.0).requires_grad_()
    total, _ = measure(wrong, x, mask)
    torch.testing.assert_close(total, measure(torch.where(mask, pixels, -3.0), x, mask)[0])
    assert total[1] == 0  # nothing is valid, nothing is wrong
    total.sum().backward()
    assert wrong.grad is not None
    assert torch.isfinite(wrong.grad).all()
    assert (wrong.grad * ~mask).abs().max() == 0
    assert (wrong.grad * mask)[0].abs().max() > 0


def test_a_mask_of_valid_pixels_changes_nothing(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    mask = torch.ones(2, 1, 64, 64, dtype=torch.bool)
    measure = distortion(mse=1.0, l1=1.0, ms_ssim=1.0)
    torch.testing.assert_close(measure(*pair, mask)[0], measure(*pair)[0])


@pytest.mark.parametrize("side", [33, 64, 160, 161, 200])
def test_ms_ssim_of_small_images(side: int) -> None:
    x = torch.rand(2, 1, side, side, generator=torch.Generator().manual_seed(1)) - 0.5
    measure = distortion((side, side + 3), ms_ssim=1.0)
    assert measure(x, x)[0].abs().max() < 1e-5
    slightly, much = (measure(x + a * x.flip(3), x)[0] for a in (0.1, 0.5))
    assert (slightly < much).all() and (slightly > 0).all()


def test_ms_ssim_has_a_gradient_where_images_have_nothing_in_common() -> None:
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) - 0.5
    pixels = (-x).requires_grad_()
    distortion(ms_ssim=1.0, mse=1.0)(pixels, x)[0].sum().backward()
    assert pixels.grad is not None and torch.isfinite(pixels.grad).all()
    assert pixels.grad.abs().max() > 0


def test_images_too_small_for_ms_ssim_are_refused() -> None:
    with pytest.raises(TrainingError, match="at least 33 pixels each way, not 32"):
        distortion((32, 200), ms_ssim=1.0)


def test_kl_divergence_and_its_warm_up() -> None:
    torch.manual_seed(0)
    mean, log_variance = torch.randn(5, 3), torch.randn(5, 3)
    posterior = torch.distributions.Normal(mean, (log_variance / 2).exp())
    prior = torch.distributions.Normal(torch.zeros(5, 3), torch.ones(5, 3))
    expected = torch.distributions.kl_divergence(posterior, prior).sum(dim=1)
    torch.testing.assert_close(kl_divergence(mean, log_variance), expected)
    config = LossConfig(kl=0.5, kl_warmup=10)
    assert [config.kl_weight(step) for step in (0, 4, 9, 50)] == [0.05, 0.25, 0.5, 0.5]
    assert LossConfig(kl=0.5).kl_weight(0) == 0.5


def without(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a package impossible to import."""
    monkeypatch.setitem(sys.modules, name, None)


def test_missing_packages_name_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    without("lpips", monkeypatch)
    with pytest.raises(MissingDependencyError, match=r"pip install 'aecodec\[perceptual\]'"):
        distortion(lpips=1.0)
    without("pytorch_msssim", monkeypatch)
    with pytest.raises(MissingDependencyError, match=r"pip install 'aecodec\[train\]'"):
        distortion(ms_ssim=1.0)


def fake_lpips(monkeypatch: pytest.MonkeyPatch, network: object) -> None:
    module = types.ModuleType("lpips")
    module.LPIPS = network  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lpips", module)


def test_backbone_weights_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    from urllib.error import URLError

    def offline(**options: object) -> nn.Module:
        raise URLError("Name or service not known")

    fake_lpips(monkeypatch, offline)
    with pytest.raises(TrainingError, match=r"AlexNet.*Name or service not known.*leave lpips"):
        distortion(lpips=1.0)


def test_the_perceptual_distance_sees_rgb_in_its_range(monkeypatch: pytest.MonkeyPatch) -> None:
    class Distance(nn.Module):
        def __init__(self, **options: object) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            assert a.shape == b.shape == (2, 3, 16, 16)
            assert b.min() == -1 and b.max() == 1
            return self.weight * (a - b).abs().mean(dim=(1, 2, 3), keepdim=True)

    fake_lpips(monkeypatch, Distance)
    x = torch.linspace(-0.5, 0.5, 512).reshape(2, 1, 16, 16)
    total, parts = distortion(lpips=3.0)((x + 0.1).requires_grad_(), x)
    torch.testing.assert_close(parts["lpips"], torch.full((2,), 0.2))
    torch.testing.assert_close(total, 3 * parts["lpips"])
