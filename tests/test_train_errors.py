"""What training commands refuse, and the exit code of each kind."""

from __future__ import annotations

from pathlib import Path

import pytest
from train_files import BOTTLENECK, HYPERPRIOR, write_config, write_images

from aecodec.cli import main
from aecodec.model.weights import find_model
from aecodec.train.config import TrainConfig
from aecodec.train.loop import Trainer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, configs, an empty folder, a run, and files that are none."""
    folder = tmp_path_factory.mktemp("folder")
    for name in ("images", "empty", "run"):
        (folder / name).mkdir()
    write_images(folder / "images")
    config = write_config(folder, BOTTLENECK, 2)
    write_config(folder / "empty", HYPERPRIOR, 2).rename(folder / "hyperprior.toml")
    wide = f"{HYPERPRIOR}".replace("patch = 64", "patch = 192")
    write_config(folder / "empty", wide, 2).rename(folder / "large.toml")
    trainer = Trainer(TrainConfig.load(config), folder / "images", folder / "run")
    trainer.start()
    trainer.save()
    (folder / "text.safetensors").write_text("no weights")
    return folder


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("train none.toml --data images --out new", 3, "none.toml: cannot be read: no such file"),
        ("train config.toml --data none --out new", 3, "none: not a folder"),
        ("train config.toml --data empty --out new", 3, "empty: no images in it"),
        ("train large.toml --data images --out new", 3, "images: none of 1"),
        ("train config.toml --data images --out run", 6, "last.safetensors exists"),
        ("train config.toml --data images --out config.toml/new", 6, "cannot be made"),
        ("train config.toml --data images --out .", 6, "config.toml: the run would write over it"),
        ("train --resume none", 5, "last.safetensors: no such checkpoint"),
        ("train --resume run --data none", 3, "config.toml: cannot be read"),
        ("train config.toml --data images --out new --init none", 5, "none: no such weights"),
        ("train config.toml --data images --out new --init empty", 5, "is in this folder"),
        ("train config.toml --data images --out new --init text.safetensors", 5, "not a usable"),
        ("narrow RELEASE none.toml --data images --out x.safetensors", 3, "none.toml: cannot be"),
        ("narrow none config.toml --data images --out x.safetensors", 5, "no such file"),
        ("narrow RELEASE config.toml --data images --out x.pt", 6, "called .safetensors"),
        ("export none --data images --out x.safetensors", 5, "none: no such checkpoint"),
        ("export empty --data images --out x.safetensors", 5, "is in this folder"),
        ("export text.safetensors --data images --out x.safetensors", 5, "not a usable"),
        ("export run --data none --out x.safetensors", 3, "none: not a folder"),
        ("export run --data images --out x.txt", 6, "x.txt: weights files are called"),
        ("export run --data images --out x.safetensors --refined 1", 3, "run: the family"),
    ],
)
def test_exit_codes_say_what_cannot_be_used(
    line: str,
    code: int,
    message: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    found = main.run(line.replace("RELEASE", str(find_model("photo"))).split())
    said = capsys.readouterr().err.splitlines()
    assert (found, message in said[-1]) == (code, True), said
    assert not (folder / "new").exists()
