"""Exploring layers, curves, qualities and errors; pictures; the commands."""

from __future__ import annotations

import json
import math
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import explored
import numpy as np
import pytest
from conftest import psnr
from explored import numbers, signs
from PIL import Image

import aecodec
from aecodec import explore
from aecodec.cli import main
from aecodec.cli.explore import COMMANDS
from aecodec.errors import InputError, OutputError
from aecodec.explore.figures import as_json, write
from aecodec.model.families import LatentModel, load_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return signs(tmp_path_factory.mktemp("data") / "signs")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return explored.model_file(tmp_path_factory.mktemp("model") / "small.safetensors")


@pytest.fixture(scope="module")
def model(file: Path) -> LatentModel:
    return load_model(file)


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run that was validated three times, the second time again after a resume."""
    rows = [
        {
            "step": 10,
            "loss": 3.0,
            "train/loss": 2.5,
            "psnr/0.5": 20.0,
            "psnr/6.5": 30.0,
            "minutes": 1.0,
        },
        {"step": 20, "loss": 9.0, "psnr/0.5": 19.0, "psnr/6.5": 29.0, "minutes": 2.0},
        {"step": 20, "loss": 2.0, "psnr/0.5": 22.0, "psnr/6.5": 33.0, "minutes": 2.5},
        {"step": 30, "loss": math.nan, "psnr/0.5": 23.0, "psnr/6.5": 34.0, "minutes": 3.0},
    ]
    folder = tmp_path / "first"
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_features_are_the_outputs_of_the_layers(model, folder):
    image = folder / "red/0.png"
    found = explore.features(model, image, layers=["encoder.*"], channels=3)
    assert found.drawn and all(name.startswith("encoder.") for name in found.drawn)
    assert {one.layer.split(".")[0] for one in found.layers} == {"encoder", "decoder"}
    first = found.layers[0]
    spread = first.maps.std(axis=(1, 2))
    assert first.maps.shape == (3, *first.shape[1:]) and (np.diff(spread) <= 1e-6).all()
    assert not any(module._forward_hooks for module in model.module.modules())
    with pytest.raises(InputError, match=r"encoder\.stages"):
        explore.features(model, image, layers=["nothing"])


def test_features_of_the_codec_go_from_pixels_to_pixels(folder):
    ends = ["analysis.head", "synthesis.tail"]
    found = explore.features(load_model("photo"), folder / "red/0.png", layers=ends, channels=2)
    assert sorted(found.drawn) == ends
    assert [one.layer for one in (found.layers[0], found.layers[-1])] == ends
    assert found.layers[-1].shape[0] == 192


def test_weights_are_all_counted(model):
    found = explore.weights(model)
    assert found.count == sum(p.numel() for p in model.module.parameters())
    tail = next(layer for layer in found.layers if layer.name == "decoder.tail")
    values = dict(model.module.named_parameters())["decoder.tail.weight"].numpy()
    assert tail.shapes["weight"] == values.shape
    assert tail.histogram.sum() == tail.count and tail.maximum >= values.max()


def test_a_hyperprior_is_drawn_part_by_part_with_its_scale_head():
    found = explore.weights(load_model("photo"))
    assert len(found.drawn) < len(found.layers)
    assert sum(layer.count for layer in found.drawn) == found.count
    assert any(layer.name.startswith("scale_head") for layer in found.layers)


def test_curves_keep_the_last_of_what_was_done_twice(run_folder):
    found = explore.curves(run_folder)
    assert found.runs[0].series("loss", "step")[0] == [10, 20, 30]
    assert found.runs[0].series("psnr/0.5", "minutes") == ([1.0, 2.5, 3.0], [20, 22, 23])
    assert found.groups == {
        "loss": ["loss", "train/loss"],
        "psnr": ["psnr/0.5", "psnr/6.5"],
    }


def test_a_cut_off_last_line_is_left_out_and_a_damaged_one_named(run_folder, caplog):
    path = run_folder / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, '{"step": 40, "lo']))
    assert len(explore.curves(run_folder).runs[0].rows) == 3
    assert "cut off" in caplog.text
    path.write_text("\n".join(["[1]", *lines]))
    with pytest.raises(InputError, match=r"metrics\.jsonl: line 1 is damaged"):
        explore.curves(run_folder)


@pytest.mark.parametrize(
    ("text", "message"), [(None, "nothing was validated"), ("", "validated yet"), ("{}", "step")]
)
def test_runs_without_curves_say_why(tmp_path, text, message):
    if text is not None:
        (tmp_path / "metrics.jsonl").write_text(text)
    with pytest.raises(InputError, match=message):
        explore.curves(tmp_path)
    with pytest.raises(InputError, match="not a run folder"):
        explore.curves(tmp_path / "none")


def test_a_grid_is_made_of_real_files(photo, tmp_path):
    image = photo[:80, :96]
    Image.fromarray(image).save(tmp_path / "a.png")
    found = explore.grid(tmp_path / "a.png", "photo", [60, 10])
    assert [one.quality for one in found.coded] == [10, 60]
    for one in found.coded:
        data = aecodec.encode(image, quality=one.quality)
        assert one.size == len(data) and one.bpp == 8 * len(data) / (80 * 96)
        assert np.array_equal(one.pixels, aecodec.decode(data))
        assert one.psnr == pytest.approx(psnr(image, one.pixels))
    for options in ({"qualities": []}, {"qualities": [0]}, {"region": (90, 0, 20, 20)}):
        with pytest.raises(InputError):
            explore.grid(tmp_path / "a.png", **options)


def test_what_the_model_never_saw_is_flagged(model, folder, tmp_path):
    signs(tmp_path / "new")
    noise = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "new" / "red" / "odd.png")
    found = explore.anomaly(model, tmp_path / "new", mad=6, worst=2)
    assert found.flagged[0] == found.names[0] == "red/odd.png"
    assert (np.diff(found.errors) <= 0).all() and len(found.worst) == 2
    difference = (found.worst[0][0] - found.worst[0][1]).astype(np.float64) * 255
    assert found.errors[0] == pytest.approx(math.sqrt(np.mean(difference**2)), rel=1e-5)
    against = explore.anomaly(model, tmp_path / "new", quantile=0.9, reference=folder)
    usual = explore.anomaly(model, folder, quantile=0.9)
    assert against.threshold == pytest.approx(usual.threshold)
    assert len(usual.flagged) == 3  # of 24


def test_invalid_depth_does_not_count(tmp_path):
    depth = np.full((16, 16), 600, np.uint16)
    depth[:, 8:] = 0
    folder = tmp_path / "depth"
    folder.mkdir()
    Image.fromarray(depth).save(folder / "a.png")
    found = explore.anomaly(explored.depth_model(tmp_path / "depth.safetensors"), folder)
    image, back = found.worst[0]
    expected = np.sqrt(np.mean((image - back)[:, :, :8].astype(np.float64) ** 2)) * 1000
    assert found.maximum == 1000 and found.errors[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantile": 0.5, "mad": 3}, "not both"),
        ({"quantile": 1}, "below 1"),
        ({"mad": 0}, "above 0"),
        ({"worst": -1}, "cannot be drawn"),
    ],
)
def test_thresholds_that_make_no_sense_are_refused(model, folder, options, message):
    with pytest.raises(InputError, match=message):
        explore.anomaly(model, folder, **options)


def test_pictures_come_with_their_numbers_or_not_at_all(run_folder, tmp_path):
    found = explore.curves([run_folder, run_folder])
    assert write(found, tmp_path / "a.png") == [tmp_path / "a.png", tmp_path / "a.json"]
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.format == "PNG" and picture.width > 500
    assert numbers(tmp_path / "a.png")["runs"][0]["validations"][2]["loss"] is None
    first = write(found, tmp_path / "a.svg", overwrite=True)[0].read_bytes()
    assert ElementTree.fromstring(first).tag.endswith("svg")
    assert write(found, tmp_path / "a.svg", overwrite=True)[0].read_bytes() == first
    (tmp_path / "b.json").write_text("mine")
    for name, message in (("b.png", "exists already"), ("b.pdf", "png or .svg")):
        with pytest.raises(OutputError, match=message):
            write(found, tmp_path / name)
    assert not (tmp_path / "b.png").exists() and (tmp_path / "b.json").read_text() == "mine"


def test_json_holds_arrays_and_no_infinities():
    text = as_json({"a": np.float32(0.1), "b": [np.arange(2), math.inf], "c": Path("x")})
    assert json.loads(text) == {"a": 0.1, "b": [[0, 1], None], "c": "x"}


def explored_by(*args: object) -> int:
    return main.run(["explore", *map(str, args)])


def test_every_command_draws(file, folder, run_folder, photo, tmp_path, capsys):
    """As a user would: each picture and its numbers are there, and `--json` prints them."""
    red, blue, photo_file = folder / "red/0.png", folder / "blue/0.png", tmp_path / "p.png"
    Image.fromarray(photo[:64, :64]).save(photo_file)
    table, out = tmp_path / "t.npz", tmp_path / "x.png"
    vae = explored.model_file(tmp_path / "vae.safetensors", latent_dim=3, variational=True)
    commands = {
        "latents": [file, folder],
        "project": [table, file, "--data", folder],
        "cluster": [table, "-k", 2],
        "interpolate": [file, red, blue, "--steps", 3],
        "sample": [vae, "-n", 2],
        "traverse": [file, "--latents", table, "--dims", "1,0", "--steps", 3],
        "features": [file, red, "--channels", 2, "--layers", "decoder.t*"],
        "weights": [file],
        "curves": [run_folder, run_folder, "--axis", "minutes"],
        "grid": [photo_file, "--qualities", "20,50", "--region", "8,8,32,32"],
        "anomaly": [file, folder, "--quantile", 0.9, "--worst", 2],
    }
    assert set(commands) == set(COMMANDS)
    for name, args in commands.items():
        target = table if name == "latents" else out
        more = ["--quiet"] if name == "latents" else ["--quiet", "--json", "-f"]
        assert explored_by(name, *args, "--out", target, *more) == 0, name
        printed = capsys.readouterr().out
        assert target.stat().st_size > 1000, name
        if name != "latents":
            assert json.loads(printed) == numbers(out), name


def test_no_input_is_replaced(file, folder, tmp_path, capsys):
    """Not even with --force: neither by the picture nor by the numbers beside it."""
    table, image = tmp_path / "t.npy", tmp_path / "x.png"
    assert explored_by("latents", file, folder, "--out", table, "--quiet") == 0
    shutil.copy(folder / "red/0.png", image)
    for name, *args in (
        ("project", table, "--out", tmp_path / "t.png"),
        ("cluster", table, "-k", 2, "--out", tmp_path / "t.png"),
        ("traverse", file, "--latents", table, "--out", tmp_path / "t.png"),
        ("features", file, image, "--out", image),
        ("interpolate", file, folder / "blue/0.png", image, "--out", image),
        ("traverse", file, "--image", image, "--out", image),
    ):
        before = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
        assert explored_by(name, *args, "--force") == 6, name
        assert "is the input itself" in capsys.readouterr().err
        assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == before


def test_many_classes_are_drawn_too(tmp_path):
    labels = np.arange(60) % 20
    labels[:2] = -1
    vectors = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    names = tuple(map(str, range(60)))
    table = explore.Latents(vectors, names, labels, tuple(f"class {i}" for i in range(20)), "m")
    text = write(explore.project(table, "none"), tmp_path / "x.svg")[0].read_text()
    assert "class 19" in text


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["weights", "nothing", "--out", "x.png"], main.EXIT_MODEL, "nothing"),
        (["weights", "README.md", "--out", "x.png"], main.EXIT_MODEL, "README.md"),
        (["weights", "photo", "--out", "x.gif"], main.EXIT_OUTPUT, ".svg"),
        (["weights", "photo", "--out", "none/x.png"], main.EXIT_OUTPUT, "no folder"),
        (["project", "photo", "--out", "x.png"], main.EXIT_INPUT, "--data"),
        (["project", "a.npz", "--out", "x.png"], main.EXIT_INPUT, "a.npz: no such file"),
        (["project", "a.npz", "--data", "b", "--out", "x.png"], main.EXIT_INPUT, "no --data"),
        (["cluster", "a.npy", "--limit", "3", "--out", "x.png"], main.EXIT_INPUT, "no --limit"),
        (["curves", "none", "--out", "x.png"], main.EXIT_INPUT, "not a run folder"),
        (["grid", "none.png", "--out", "x.png"], main.EXIT_INPUT, "none.png"),
        (["grid", "a.png", "--region", "1,2", "--out", "x.png"], main.EXIT_USAGE, "X,Y,W,H"),
        (["sample", "photo", "-n", "0", "--out", "x.png"], main.EXIT_USAGE, "0"),
        (["latents", "photo", "none", "--out", "x.txt"], main.EXIT_OUTPUT, ".npz or .npy"),
        (["latents", "photo", "none", "--out", "x.npy"], main.EXIT_INPUT, "not a folder"),
    ],
)
def test_bad_input_ends_in_one_line_and_a_code(args, code, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert explored_by(*args) == code
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_a_traversal_doubts_latents_of_unknown_origin_once(file, tmp_path, capsys):
    values = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    np.save(tmp_path / "values.npy", values[:, : load_model(file).config.latent_dim])
    args = [
        "--latents",
        tmp_path / "values.npy",
        "--steps",
        2,
        "-n",
        1,
        "--out",
        tmp_path / "x.svg",
    ]
    assert explored_by("traverse", file, *args) == 0
    assert capsys.readouterr().err.count("the latents are those of values") == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_examples(name, capsys):
    assert explored_by(name, "--help") == 0
    text = capsys.readouterr().out
    assert f"aecodec explore {name} " in text and "--out" in text
