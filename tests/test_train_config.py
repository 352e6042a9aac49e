"""Configs: what they take, what they refuse, and how they come back from a file."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from train_files import BOTTLENECK, HYPERPRIOR, write_config

from aecodec.errors import InputError, TrainingError
from aecodec.model.bottleneck_config import BottleneckConfig
from aecodec.model.config import ModelConfig
from aecodec.train import toml
from aecodec.train.config import TrainConfig
from aecodec.train.schedules import Course, learning_rate


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.toml")), ids=lambda p: p.name)
def test_the_configs_of_the_project_are_valid(path: Path, tmp_path: Path) -> None:
    config = TrainConfig.load(path)
    (tmp_path / "again.toml").write_text(config.to_toml())
    assert TrainConfig.load(tmp_path / "again.toml") == config


@pytest.mark.parametrize("text", [BOTTLENECK, HYPERPRIOR])
def test_configs_come_back_from_toml_and_json(text: str, tmp_path: Path) -> None:
    config = TrainConfig.load(write_config(tmp_path, text, 7))
    assert config.steps == 7
    assert TrainConfig.from_dict(toml.loads(config.to_toml())) == config
    assert TrainConfig.from_dict(config.to_dict()) == config


def test_the_family_decides_the_model(tmp_path: Path) -> None:
    config = TrainConfig.load(write_config(tmp_path, BOTTLENECK, 7))
    assert isinstance(config.model, BottleneckConfig)
    assert config.model.widths == (8, 48)
    assert isinstance(TrainConfig().model, ModelConfig)


def test_the_size_of_images_is_said_once() -> None:
    for sections in ({"data": {"height": 96, "width": 64, "channels": 1}}, {"model": {}}):
        config = TrainConfig.from_dict({"family": "bottleneck", **sections})
        assert isinstance(config.model, BottleneckConfig)
        for key in ("height", "width", "channels", "bits"):
            assert getattr(config.model, key) == getattr(config.data, key)
    config = TrainConfig.from_dict({"family": "bottleneck", "model": {"height": 96}})
    assert config.data.height == 96
    with pytest.raises(TrainingError, match=r"height is 32 in \[model\], but 64 in \[data\]"):
        TrainConfig.from_dict(
            {"family": "bottleneck", "model": {"height": 32}, "data": {"height": 64, "width": 64}}
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rte = 1e-3", "unknown config key 'learning_rte'; did you mean 'learning_rate'"),
        ("[loss]\nmsssim = 1.0", r"'msssim' in \[loss\]; did you mean 'ms_ssim'"),
        ("[model]\nwidth8 = 1", r"'width8' in \[model\]; did you mean 'width_8'"),
        ('family = "bottleneck"\n[data]\nheigth = 1', r"'heigth' in \[data\].*'height'"),
        ('family = "bottleneck"\n[augment]\nmixp = 1', r"'mixp' in \[augment\].*'mixup'"),
        ('family = "bottleneck"\n[model]\nlatent = 1', r"'latent' in \[model\].*'latent_dim'"),
        ("patch = 100", "multiple of 64"),
        ("steps = 0", "steps must be positive"),
        ('steps = "many"', "steps must be a whole number, not 'many'"),
        ("batch = 1.5", "batch must be a whole number"),
        ("ema = true", "ema must be a number"),
        ("milestones = 0.5", "milestones must be a list"),
        ("learning_rate = nan", "learning_rate must be positive"),
        ('optimiser = "adan"', "one of muon, adamw, adam, sgd, lion, not 'adan'"),
        ('schedule = "linear"', "schedule must be one of"),
        ('family = "vae"', "family must be one of hyperprior, bottleneck"),
        ('family = "vae"\n[model]\nlatent_dim = 8', "family must be one of hyperprior"),
        ('family = ["vae"]', "family must be one of hyperprior"),
        ("[model]\ncontext_inner = -4", "context_inner must be at least 0, not -4"),
        ("[model]\nanalysis_blocks = [4, -1]", "analysis_blocks must be at least 0, not -1"),
        ("[model]\nwidth_8 = 1", "width_8 must be at least 2, not 1"),
        ("[model]\nlambda_min = 0.0", "lambda_min must be positive, not 0"),
        ("[model]\nsynthesis_inner = [48]", "synthesis_inner must have 2 entries"),
        ('family = "bottleneck"\npatch = 128', "'patch' is for the family hyperprior"),
        ("[data]\nheight = 64\nwidth = 64", r"'height' in .data. is for the family bottleneck"),
        ("[data]\nbits = 16\nmaximum = 10000", "'maximum' in .data. is 10000.*invalid = 0"),
        ("[data]\nmaximum = 200", "'maximum' in .data. is 200.*it is 255"),
        ("[data]\nbits = 16\ninvalid = 65535", "'invalid' in .data. is 65535.*bits = 16"),
        ("[data]\ninvalid = 0", "'invalid' in .data. is 0.*bits = 16"),
        ("[loss]\nkl = 1.0", "variational = true"),
        ("[loss]\nmse = 0.0", "a weight over 0"),
        ("[loss]\nmse = -1.0", "must not be negative"),
        ("[sampling]\na = -1.0", "weight from 0"),
        ("[sampling]\na = inf", "weight from 0"),
        (f"[sampling]\na = {2**70}", "weight from 0"),
        ("model = 3", r"\[model\] must be a section"),
        ("steps 3", "config.toml"),
    ],
)
def test_mistakes_are_named(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(TrainingError, match=message) as caught:
        TrainConfig.load(path)
    assert str(caught.value).startswith(str(path))


def test_the_hyperprior_takes_the_scales_that_files_are_coded_at() -> None:
    for data in (
        {"bits": 8, "maximum": 255},
        {"bits": 16},
        {"bits": 16, "maximum": 5000, "invalid": 0},
    ):
        assert TrainConfig.from_dict({"data": data}).data.bits == data["bits"]
    TrainConfig.from_dict({"family": "bottleneck", "data": {"maximum": 200, "invalid": 7}})


def test_files_that_are_no_configs_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.toml: cannot be read"):
        TrainConfig.load(tmp_path / "missing.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"bytes\.toml: not a text file"):
        TrainConfig.load(tmp_path / "bytes.toml")


def test_a_search_space_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        "[tune]\nlearning_rate = { low = 1e-4, high = 1e-2, log = true }\n"
        '"model.width_8" = { choices = [64, 128] }\noptimiser = { choices = ["muon", "sgd"] }\n'
    )
    config = TrainConfig.load(path)
    assert config.tune["model.width_8"] == {"choices": [64, 128]}
    assert TrainConfig.from_dict(toml.loads(config.to_toml())) == config


scalars = (
    st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_subnormal=False)  # torch may flush those to 0
    | st.text(st.characters(exclude_categories=["Cs"]))
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner) | st.dictionaries(st.text('ab.-é"\n\x7f '), inner, min_size=1),
    max_leaves=4,
)


@given(st.dictionaries(st.text("abc_-.é "), values))
def test_toml_is_read_as_it_was_written(written: dict[str, object]) -> None:
    assert toml.loads(toml.dumps(written)) == written


def rates(config: TrainConfig, steps: list[int]) -> list[float]:
    return [learning_rate(config, step, step / config.steps, Course()) for step in steps]


def test_schedules() -> None:
    common = {"steps": 100, "warmup": 0, "learning_rate": 1.0}
    cosine = TrainConfig(**common, final_learning_rate=0.1)
    assert rates(cosine, [0, 50, 100]) == pytest.approx([1.0, 0.55, 0.1])
    assert rates(TrainConfig(**common, schedule="constant"), [0, 99]) == [1.0, 1.0]
    step = TrainConfig(**common, schedule="step", milestones=(0.3, 0.6), decay=0.1)
    assert rates(step, [0, 29, 30, 60]) == pytest.approx([1.0, 1.0, 0.1, 0.01])
    for schedule in ("cosine", "constant", "step", "plateau"):
        warm = TrainConfig(steps=10**6, warmup=4, learning_rate=1.0, schedule=schedule)
        assert rates(warm, [0, 1, 3]) == pytest.approx([0.25, 0.5, 1.0])


def test_a_plateau_is_cut_after_patience_and_again() -> None:
    config = TrainConfig(
        warmup=0, learning_rate=1.0, schedule="plateau", decay=0.5, final_learning_rate=0.2
    )
    course = Course()
    losses = [3.0, 2.0, 2.0, 2.5, 1.0, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5]
    found = []
    for step, loss in enumerate(losses):
        course.judge(loss, step, patience=2)
        found.append(learning_rate(config, step, 0.0, course))
    assert found == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2, 0.2]
    assert (course.best, course.best_step, course.waited) == (1.0, 4, 6)
    assert not course.judge(math.nan, 11, patience=2)
