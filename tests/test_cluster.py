"""A batch on a real Dask cluster of two worker processes, which may die."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import chores
import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster
from PIL import Image

import aecodec
from aecodec import cluster, pixels
from aecodec.batch import Outcome, compress_many
from aecodec.processes import Lost

COUNT = 12


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of a scheduler that gives up a task when a worker has died of it."""
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            env={"OMP_NUM_THREADS": "1"},
        ) as made,
    ):
        assert made.scheduler_address.startswith("tcp://127.0.0.1:")
        yield made.scheduler_address


def test_a_worker_killed_in_the_middle(tmp_path, photo, scheduler, monkeypatch):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for number in range(COUNT):
        part = photo[8 * number : 8 * number + 96, 16 * number : 16 * number + 128]
        Image.fromarray(np.ascontiguousarray(part)).save(source / f"{number}.png")
    (source / "broken.png").write_bytes(b"no image")
    with Client(scheduler, set_as_default=False) as client:
        workers = client.run(os.getpid)
    killed = []

    def kill_one(outcome: Outcome, total: int) -> None:
        assert total == COUNT + 1
        if outcome.status == "done" and not killed:
            killed.append(workers.popitem()[1])
            os.kill(killed[0], signal.SIGKILL)

    monkeypatch.chdir(tmp_path)  # where the workers are not
    found = compress_many(["in"], "out", dask=scheduler, threads=1, progress=kill_one)
    assert killed
    assert len(found) == COUNT + 1
    assert len({outcome.output for outcome in found}) == COUNT + 1
    failed = [outcome for outcome in found if outcome.status != "done"]
    assert [Path(outcome.source).name for outcome in failed] == ["broken.png"]
    assert isinstance(failed[0].error, aecodec.InputError)
    assert {path.name for path in out.iterdir()} == {f"{n}.aec" for n in range(COUNT)}
    for path in out.iterdir():
        image = pixels.read_image(source / f"{path.stem}.png")
        assert path.read_bytes() == aecodec.encode(image, threads=1)


def test_what_kills_every_worker_is_given_up(scheduler):
    found = dict(cluster.run(chores.mortal, ["a", "kill", "b"], scheduler))
    assert isinstance(found.pop("kill"), Lost)
    assert found == {"a": "A", "b": "B"}


def test_what_the_cluster_cannot_run(scheduler):
    with pytest.raises(aecodec.WorkerError, match=f"{scheduler}: ZeroDivisionError"):
        list(cluster.run(chores.divide, [0], scheduler))


def test_no_scheduler_there(monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 0.2)
    with pytest.raises(aecodec.WorkerError, match="no Dask scheduler answers"):
        list(cluster.run(chores.mortal, ["a"], "tcp://127.0.0.1:1"))
