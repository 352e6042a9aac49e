"""The means that files are coded with are those of the network that was trained."""

import pytest
import torch

from aecodec.model.autoencoder import Autoencoder
from aecodec.model.config import ModelConfig
from aecodec.model.means import Means
from aecodec.model.passes import passes_of


def trained(context_blocks: tuple[int, ...], context_inner: int) -> Autoencoder:
    """A network whose every weight and bias counts."""
    config = ModelConfig(
        latent_channels=24,
        hyper_channels=12,
        hyper_width=16,
        context_width=32,
        context_blocks=context_blocks,
        context_inner=context_inner,
    )
    network = Autoencoder(config).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, dtype=torch.float64) * 0.2)
    return network


@pytest.mark.parametrize("size", [(8, 12), (7, 5), (1, 3)])
@pytest.mark.parametrize(
    ("context_blocks", "context_inner"),
    [((1, 1, 1, 1), 0), ((1, 1, 1, 1), 20), ((0, 3, 2, 1), 8), ((2, 0), 0), ((1,), 8)],
)
def test_folded_passes_give_the_means_of_the_network(
    context_blocks: tuple[int, ...], context_inner: int, size: tuple[int, int]
) -> None:
    torch.manual_seed(7)
    network = trained(context_blocks, context_inner)
    quality = torch.tensor([3.3], dtype=torch.float64)
    z = torch.randint(-5, 6, (1, 12, -(-size[0] // 4), -(-size[1] // 4))).double()
    y = torch.randn(1, 24, *size, dtype=torch.float64)
    with torch.inference_mode():
        features = network.hyper_synthesis(z, quality)[:, :, : size[0], : size[1]]
        passes = passes_of(24, len(context_blocks), *size)
        ordered = passes.sort(y[0])
        means = Means(network)
        start = means.start(z, size)
        for p, context in enumerate(network.context):
            known = y * (passes.index < p) if p else None
            expected = passes.sort(context(features, known)[0])[:, :, passes.of(p)]
            before = [ordered[:, :, passes.of(i)] for i in range(p)]
            found = means.of(p, means.ahead(p, start, quality), before, size)
            inside = passes.inside.expand_as(found)
            assert found.shape == expected.shape
            torch.testing.assert_close(found[inside], expected[inside])
            assert expected[inside].std() > 0.1
