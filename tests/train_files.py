"""Small configs and pictures to train on."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

HYPERPRIOR = """
seed = 3
steps = {steps}
batch = 4
patch = 64
warmup = 5
learning_rate = 2e-3
validate_every = 20
validation_fraction = 0.2

[model]
latent_channels = 64
hyper_channels = 48
width_8 = 48
width_16 = 64
analysis_blocks = [1, 1]
synthesis_blocks = [1, 1]
hyper_width = 48
context_width = 48
context_blocks = [1, 1]
scale_width = 48
scale_context_width = 48
"""

BOTTLENECK = """
family = "bottleneck"
steps = {steps}
batch = 4
optimiser = "adamw"
warmup = 5
learning_rate = 2e-3
validate_every = 5

[model]
latent_dim = 8
widths = [8, 48]
norm = "batch"
variational = true

[data]
height = 32
width = 32
validation = 0.3
test = 0.2

[augment]
flip_horizontal = 0.5

[loss]
kl = 1e-5
"""


def write_images(folder: Path) -> None:
    """Crops of real photographs, 160 × 150, and a file that is none."""
    from skimage import data

    for name in ("astronaut", "chelsea", "coffee"):
        picture = getattr(data, name)()
        for i, (top, left) in enumerate([(0, 0), (40, 100), (150, 150), (20, 180)]):
            Image.fromarray(picture[top : top + 150, left : left + 160]).save(
                folder / f"{name}-{i}.png"
            )
    (folder / "broken.png").write_bytes(b"not a picture")


def write_config(folder: Path, text: str, steps: int) -> Path:
    """A config file with so many steps."""
    path = folder / "config.toml"
    path.write_text(text.format(steps=steps))
    return path
