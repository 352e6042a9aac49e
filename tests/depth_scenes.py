"""Depth maps to test with."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40))


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A floor, a box before it and its shadow, with the noise of a sensor, in mm."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    depth = 1000 + 20.0 * (height - y) + 3 * x
    box = (abs(x - width * 0.6) < width / 5) & (abs(y - height / 2) < height / 4)
    depth = np.where(box, 800, depth) + rng.normal(0, 2, depth.shape)
    depth = 40000 / np.rint(40000 / depth * 8) * 8  # steps that grow with the distance
    shadow = (abs(x - width * 0.35) < width / 20) & (abs(y - height / 2) < height / 4)
    depth[shadow | (rng.random(depth.shape) < 0.01)] = 0
    return np.rint(depth).astype(np.uint16)


@st.composite
def depth_maps(draw: st.DrawFn) -> np.ndarray:
    """Noise, steps, planes, with holes; all valid, none valid; the ends of the range."""
    height, width = draw(SHAPES)
    rng = np.random.default_rng(draw(st.integers(0, 9999)))
    y, x = np.mgrid[:height, :width]
    kind = draw(st.sampled_from(["noise", "steps", "plane", "ends", "flat"]))
    depth = {
        "noise": rng.integers(1, 65536, (height, width)),
        "steps": 500 + 700 * (x // 7 + y // 5),
        "plane": 300 + 11 * x + 7 * y,
        "ends": rng.choice([1, 65535], (height, width)),
        "flat": np.full((height, width), draw(st.integers(1, 65535))),
    }[kind]
    holes = draw(st.sampled_from([0.0, 0.1, 0.9, 1.0]))
    return np.where(rng.random((height, width)) < holes, 0, depth).astype(np.uint16)


def error(depth: np.ndarray, back: np.ndarray) -> int:
    """The largest error of a reading; holes must be the same."""
    assert back.dtype == np.uint16
    np.testing.assert_array_equal(back > 0, depth > 0)
    return int(np.abs(back.astype(int) - depth).max())


def golden_depth() -> np.ndarray:
    """(20, 24), by arithmetic alone: a slope, a step, holes."""
    y, x = np.mgrid[:20, :24]
    depth = 900 + 13 * x + 7 * y + (x * x + 5 * y) % 11 + 400 * (x > 15)
    return np.where((x * 7 + y * 5) % 17 < 2, 0, depth).astype(np.uint16)
