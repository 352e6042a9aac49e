"""Two processes that train one model, as `torchrun` starts them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file
from train_files import BOTTLENECK, write_config, write_images

from aecodec.train.config import TrainConfig
from aecodec.train.distributed import World
from aecodec.train.loop import Trainer
from aecodec.train.runfolder import RunFolder

STEPS = 3

#: What each process does: a run through the command line, then what it has itself.
PROCESS = """
import sys
import torch
from safetensors.torch import save_file
from aecodec.cli import main
from aecodec.train.loop import Trainer

kept = []
fit = Trainer.fit
Trainer.fit = lambda self: (fit(self), kept.append(self))[0]
code = main.run(sys.argv[2:])
state = {name: value.contiguous() for name, value in kept[0].model.state_dict().items()}
save_file(state, f"{sys.argv[1]}-{kept[0].world.rank}.safetensors")
sys.exit(code)
"""


def run_two(arguments: list[str], out: Path) -> str:
    """Two processes that find each other; gives what both wrote to stderr."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2"}
    env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(out), *arguments],
            env={**env, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
    assert "steps" not in errors[1]  # the first alone tells how it went
    return errors[0]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A config, images, and where two processes wrote what they had after a run."""
    folder = tmp_path_factory.mktemp("distributed")
    (folder / "images").mkdir()
    write_images(folder / "images")
    text = BOTTLENECK.replace('norm = "batch"', "").replace("variational = true", "")
    text = text.replace("kl = 1e-5", "").replace('"adamw"', '"muon"')
    config = write_config(folder, text.replace("[8, 48]", "[48, 64]"), STEPS)  # some matrices
    return config, folder / "images", folder / "out"


def test_two_processes_train_one_model(folders: tuple[Path, Path, Path]) -> None:
    """Their weights are the same, and those that averaged gradients give."""
    config_file, images, out = folders
    run = out.with_name("run")
    command = ["train", str(config_file), "--data", str(images), "--out", str(run)]
    assert f"{STEPS} steps" in run_two(command, out)
    ours, theirs = (load_file(f"{out}-{rank}.safetensors") for rank in range(2))
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name

    config = TrainConfig.load(config_file)
    alone = Trainer(config, images, out.with_name("alone"))
    other = Trainer(
        config, images, out.with_name("other"), world=World(torch.device("cpu"), rank=1, size=2)
    )
    first = Trainer(
        config, images, out.with_name("first"), world=World(torch.device("cpu"), rank=0, size=2)
    )
    alone.start()
    for step in range(STEPS):
        batches = [trainer.task.batch(step) for trainer in (first, other)]
        assert not torch.equal(batches[0].x, batches[1].x)
        both = type(batches[0])(
            *(torch.cat([getattr(b, key) for b in batches]) for key in vars(batches[0]))
        )
        alone.task.batch = lambda step, both=both: both  # type: ignore[method-assign]
        alone.train_step()
    for name, value in alone.model.state_dict().items():
        # a step moves a weight by up to 2e-3; sums in another order, near 0, by less
        torch.testing.assert_close(value, ours[name], rtol=1e-3, atol=1e-4)

    folder = RunFolder(run)
    assert [record["step"] for record in folder.records()] == [STEPS]
    assert folder.records()[0]["images"] == 2 * config.batch * STEPS
    saved = load_file(folder.last)
    for name, value in ours.items():
        assert torch.equal(value, saved[f"model.{name}"]), name
