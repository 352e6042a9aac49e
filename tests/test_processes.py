"""Worker processes: every item once, whatever happens to the workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import chores
import pytest
from conftest import ROOT

from aecodec.errors import WorkerError
from aecodec.processes import Lost, run


def until(true: Callable[[], object], seconds: float = 60) -> None:
    """Wait for something that happens in another process."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has buried yet does not."""
    try:
        os.kill(pid, 0)
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    except ProcessLookupError:
        return False
    except OSError:  # no /proc here
        return True


def pids(folder: Path, what: str) -> set[int]:
    return {int(path.name.partition("-")[2]) for path in folder.glob(f"{what}-*")}


def test_every_item_once_in_few_processes():
    found = dict(run(chores.double, range(20), count=3))
    assert {item: result[0] for item, result in found.items()} == {i: 2 * i for i in range(20)}
    workers = {result[2] for result in found.values()}
    assert len(workers) <= 3
    assert os.getpid() not in workers
    assert not any(alive(pid) for pid in workers)


def test_nothing_to_do_starts_nothing():
    assert list(run(chores.double, [], count=2)) == []


def test_threads_are_set_before_anything_reads_them():
    assert [result for _, result in run(chores.threads, [0], count=1, threads=3)] == ["3"]


def test_workers_that_die_cost_their_item_alone():
    items = ["a", "kill", "b", "once", "c", "exit", "d", "e"]
    found = list(run(chores.die, items, count=2))
    assert sorted(item for item, _ in found) == sorted(items)
    results = dict(found)
    for item in ("a", "b", "c", "d", "e", "once"):
        assert results[item] == item.upper()
    assert results["kill"] == Lost(-signal.SIGKILL)
    assert "SIGKILL" in str(results["kill"])
    assert results["exit"] == Lost(3)
    assert "exit code 3" in str(results["exit"])


def test_closing_ends_workers_gently(tmp_path):
    results = run(chores.linger, [None, tmp_path, tmp_path], count=3)
    assert next(results) == (None, None)
    until(lambda: len(pids(tmp_path, "begun")) == 2)
    results.close()
    assert pids(tmp_path, "tidied") == pids(tmp_path, "begun")
    assert not any(alive(pid) for pid in pids(tmp_path, "begun"))


def test_functions_that_no_worker_can_load():
    with pytest.raises(WorkerError, match="__main__"):
        list(run(unloadable(), [1], count=1))


def unloadable() -> Callable[[int, bool], int]:
    """A function of a module that exists in this process alone."""
    import types

    module = types.ModuleType("nowhere")
    exec("def function(item, again): return item", module.__dict__)
    module.function.__module__ = "nowhere"
    sys.modules["nowhere"] = module
    return module.function


def test_workers_end_with_their_parent(tmp_path):
    code = (
        "import chores, pathlib, sys\n"
        "from aecodec.processes import run\n"
        "if __name__ == '__main__':\n"
        "    list(run(chores.nap, [pathlib.Path(sys.argv[1])] * 1000, count=2))\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    parent = subprocess.Popen(
        [sys.executable, script, tmp_path],
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.PIPE,
    )
    until(lambda: len(pids(tmp_path, "begun")) == 2)
    parent.kill()
    _, said = parent.communicate()
    assert b"Traceback" not in said
    until(lambda: not any(alive(pid) for pid in pids(tmp_path, "begun")))


def test_every_end_of_a_worker_has_words() -> None:
    assert "SIGKILL, perhaps for lack of memory" in str(Lost(-signal.SIGKILL))
    assert "signal 35" in str(Lost(-35))  # one for real time, which has no name
    assert "exit code 3" in str(Lost(3))
    assert "several workers" in str(Lost(None))
