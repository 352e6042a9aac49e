"""Many files at once: planning, coding, failures; paths behind fsspec."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import fsspec
import numpy as np
import pytest
from chores import Deadly
from PIL import Image

import aecodec
from aecodec import pixels, storage
from aecodec.batch import Job, compress_many, cores, decompress_many, run
from aecodec.errors import InputError, UnknownModelError
from aecodec.jobs import Work
from aecodec.planning import Plan, plan
from aecodec.processes import Lost


@pytest.fixture
def tree(tmp_path: Path, photo: np.ndarray) -> Path:
    """photos/ with one.png, sub/two.jpg, sub/deep/three.webp, and what is no image."""
    folder = tmp_path / "photos"
    (folder / "sub" / "deep").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    image = Image.fromarray(photo[:64, :96])
    image.save(folder / "one.png")
    image.transpose(Image.Transpose.ROTATE_180).save(folder / "sub" / "two.jpg")
    image.crop((0, 0, 50, 40)).save(folder / "sub" / "deep" / "three.webp", lossless=True)
    image.save(folder / ".hidden" / "four.png")
    (folder / "notes.txt").write_text("no image")
    (folder / "old.aec").write_text("no image either")
    return folder


@pytest.fixture
def memory() -> fsspec.AbstractFileSystem:
    system = fsspec.filesystem("memory")
    system.store.clear()
    return system


def outputs(made: Plan, folder: Path | str) -> list[str]:
    return sorted(job.output.removeprefix(f"{folder}/") for job in made.jobs)


# ---- what is to be done ----


def test_folders_keep_their_tree(tree, tmp_path):
    out = tmp_path / "out"
    assert outputs(plan("compress", [tree], out), out) == ["one.aec"]
    made = plan("compress", [tree], out, recursive=True)
    assert outputs(made, out) == ["one.aec", "sub/deep/three.aec", "sub/two.aec"]
    made = plan("compress", [tree, tree / "sub"], out, recursive=True)
    assert "photos/sub/two.aec" in outputs(made, out)
    assert "sub/two.aec" in outputs(made, out)
    assert not out.exists()


def test_patterns_keep_what_they_leave_open(tree, tmp_path):
    out = tmp_path / "out"
    made = plan("compress", [f"{tree}/**/*.[jpw]*"], out)
    assert outputs(made, out) == ["one.aec", "sub/deep/three.aec", "sub/two.aec"]
    made = plan("compress", [f"{tree}/sub/*"], out)
    assert outputs(made, out) == ["two.aec"]
    odd = tree / "a[1].png"
    (tree / "one.png").rename(odd)
    assert plan("compress", [odd], out).jobs == (Job(str(odd), f"{out}/a[1].aec"),)


def test_relative_patterns_and_this_folder(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tree)
    assert plan("compress", ["*.png"], "out").jobs == (Job("one.png", "out/one.aec"),)
    made = plan("compress", ["."], "out", recursive=True)
    assert outputs(made, "out") == ["one.aec", "sub/deep/three.aec", "sub/two.aec"]
    (job,) = plan("compress", ["one.png"], "out", shared=True).jobs
    assert job == Job(str(tree / "one.png"), str(tree / "out" / "one.aec"))


def test_files_are_taken_as_they_are_and_once(tree, tmp_path):
    made = plan("compress", [tree / "notes.txt", tree / "one.png", tree], tmp_path / "out")
    assert outputs(made, tmp_path / "out") == ["notes.aec", "one.aec"]


def test_of_folders_decompress_takes_aec_files(tree, tmp_path):
    made = plan("decompress", [tree], tmp_path / "out", ending=".webp", recursive=True)
    assert outputs(made, tmp_path / "out") == ["old.webp"]


def test_names_that_clash(tree, tmp_path):
    (tree / "one.jpg").write_bytes((tree / "one.png").read_bytes())
    with pytest.raises(aecodec.InputError, match=r"one\.jpg and .*one\.png would both become"):
        plan("compress", [tree], tmp_path / "out")
    (tree / "sub" / "one.png").write_bytes((tree / "one.png").read_bytes())
    with pytest.raises(aecodec.InputError, match="would both become"):
        plan("compress", [tree / "one.png", tree / "sub" / "one.png"], tmp_path / "out")
    with pytest.raises(aecodec.OutputError, match="is an input itself"):
        plan("decompress", [tree / "one.png"], tree, ending=".png")


def test_plans_that_make_no_sense(tree, tmp_path):
    out = tmp_path / "out"
    for sources in ([tmp_path / "*.png"], [tree / ".hidden" / "empty*"], [tree / "sub" / "*.png"]):
        with pytest.raises(aecodec.InputError, match="no files to code"):
            plan("compress", sources, out)
    with pytest.raises(aecodec.InputError, match="single files"):
        plan("compress", ["-", tree], out)
    with pytest.raises(aecodec.InputError, match="not both"):
        plan("compress", [tree], out, overwrite=True, skip_existing=True)
    with pytest.raises(aecodec.OutputError, match="is not a folder"):
        plan("compress", [tree], tree / "one.png")
    with pytest.raises(aecodec.OutputError, match="unknown extension"):
        plan("decompress", [tree], out, ending=".xyz")
    with pytest.raises(aecodec.InputError, match="bogus://x"):
        plan("compress", ["bogus://x"], out)


def test_links_to_folders_are_not_followed(tree, tmp_path):
    (tree / "sub" / "again").symlink_to(tree, target_is_directory=True)
    assert len(plan("compress", [tree], tmp_path / "out", recursive=True).jobs) == 3


# ---- doing it ----


def test_there_and_back_as_one_by_one(tree, tmp_path):
    calls = []
    found = compress_many(
        [tree],
        tmp_path / "out",
        recursive=True,
        quality=40,
        progress=lambda outcome, total: calls.append((outcome, total)),
    )
    assert [outcome.status for outcome in found] == ["done"] * 3
    assert sorted(calls, key=lambda c: c[0].output) == sorted(
        ((outcome, 3) for outcome in found), key=lambda c: c[0].output
    )
    for outcome in found:
        made = Path(outcome.output)
        assert made.read_bytes() == aecodec.encode(pixels.read_image(outcome.source), quality=40)
        assert outcome.info == aecodec.info(made)
        assert outcome.source_bytes == os.path.getsize(outcome.source)
        assert outcome.output_bytes == made.stat().st_size
    back = decompress_many([tmp_path / "out"], tmp_path / "back", format="ppm", recursive=True)
    assert outputs_of(back) == {"one.ppm", "two.ppm", "three.ppm"}
    for outcome in back:
        expected = aecodec.decode(Path(outcome.source).read_bytes())
        np.testing.assert_array_equal(pixels.read_image(outcome.output), expected)


def outputs_of(outcomes: list[aecodec.jobs.Outcome]) -> set[str]:
    return {Path(outcome.output).name for outcome in outcomes}


def test_failures_do_not_stop_the_others(tree, tmp_path):
    (tree / "broken.png").write_bytes((tree / "one.png").read_bytes()[:900])
    found = compress_many([tree, tree / "missing.png"], tmp_path / "out")
    assert {Path(outcome.source).name: outcome.status for outcome in found} == {
        "broken.png": "failed",
        "missing.png": "failed",
        "one.png": "done",
    }
    for outcome in found:
        if outcome.status == "failed":
            assert isinstance(outcome.error, aecodec.InputError)
            assert outcome.source in str(outcome.error)
            assert outcome.info is None
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"one.aec"}


def test_pipes_in_a_folder_are_left_out(tree, tmp_path):
    os.mkfifo(tree / "pipe.png")
    (tree / "lost.png").symlink_to(tmp_path / "nowhere.png")
    found = compress_many([tree], tmp_path / "out")
    assert [(Path(o.source).name, o.status) for o in found] == [
        ("lost.png", "failed"),
        ("one.png", "done"),
    ]


def test_a_region_outside_of_a_picture_names_its_file(tree, tmp_path):
    compress_many([tree], tmp_path / "coded", recursive=True)
    found = decompress_many(
        [tmp_path / "coded"], tmp_path / "out", recursive=True, region=(0, 0, 60, 60)
    )
    for outcome in found:
        if "three" in outcome.source:  # 50 x 40 pixels
            assert str(outcome.error).startswith(f"{outcome.source}: region 0,0,60,60")
        else:
            assert outcome.status == "done"


def test_existing_outputs(tree, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "one.aec").write_text("precious")
    (failed,) = compress_many([tree], out)
    assert isinstance(failed.error, aecodec.OutputError)
    assert "exists" in str(failed.error)
    (skipped,) = compress_many([tree], out, skip_existing=True)
    assert (skipped.status, skipped.error) == ("skipped", None)
    assert (out / "one.aec").read_text() == "precious"
    (done,) = compress_many([tree], out, overwrite=True)
    assert done.status == "done"
    aecodec.verify(out / "one.aec")


def test_times_are_kept(tree, tmp_path):
    os.utime(tree / "one.png", ns=(10**18, 11 * 10**17))
    (done,) = compress_many([tree], tmp_path / "out", keep_times=True)
    stat = os.stat(done.output)
    assert (stat.st_atime_ns, stat.st_mtime_ns) == (10**18, 11 * 10**17)


def test_notes_are_part_of_the_outcome(tree, tmp_path, caplog):
    caplog.set_level("INFO", "aecodec")
    with Image.open(tree / "one.png") as image:
        image.convert("P").save(tree / "one.png")
    (done,) = compress_many([tree], tmp_path / "out")
    assert any("mode P" in note for note in done.notes)


def test_a_second_attempt_may_replace_what_the_first_one_made(tree, tmp_path):
    """Its worker may have died with the file complete, but before saying so."""
    work, job = Work("compress"), Job(str(tree / "one.png"), str(tmp_path / "one.aec"))
    assert work.attempt(job).status == "done"
    assert isinstance(work.attempt(job).error, aecodec.OutputError)
    assert work.attempt(job, again=True).status == "done"


def test_workers_of_another_release_do_nothing(tree, tmp_path):
    job = Job(str(tree / "one.png"), str(tmp_path / "one.aec"))
    assert isinstance(Work("compress", version="0").attempt(job).error, aecodec.WorkerError)
    assert not (tmp_path / "one.aec").exists()


def test_a_killed_worker_fails_its_file_and_leaves_nothing(tmp_path):
    names = ["a", "kill", "b", "c"]
    jobs = tuple(Job(name, str(tmp_path / "out" / f"{name}.aec")) for name in names)
    found = {o.source: o for o in run(Plan(Deadly("compress", tag="t-"), jobs), jobs=2)}
    assert {name: found[name].status for name in names} == {
        "a": "done",
        "b": "done",
        "c": "done",
        "kill": "failed",
    }
    assert isinstance(found["kill"].error, aecodec.WorkerError)
    assert "kill: " in str(found["kill"].error)
    assert str(Lost(-signal.SIGKILL)) in str(found["kill"].error)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.aec", "b.aec", "c.aec"}


def test_cores_follow_the_environment(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert cores() == 7
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    assert 1 <= cores() <= (os.cpu_count() or 1)


# ---- fsspec ----


def test_memory_there_and_back(tree, memory):
    for path in sorted(tree.rglob("*.*")):
        if path.is_file():
            memory.pipe_file(f"/in/{path.relative_to(tree)}", path.read_bytes())
    found = compress_many(["memory://in"], "memory://out/", recursive=True)
    assert [outcome.status for outcome in found] == ["done"] * 3
    made = {name: memory.cat_file(name) for name in memory.find("/out")}
    assert set(made) == {"/out/one.aec", "/out/sub/two.aec", "/out/sub/deep/three.aec"}
    assert made["/out/one.aec"] == aecodec.encode(pixels.read_image(tree / "one.png"))
    assert {o.status for o in compress_many(["memory://in"], "memory://out")} == {"failed"}
    (skipped,) = compress_many(["memory://in/*.png"], "memory://out", skip_existing=True)
    assert (skipped.source, skipped.status) == ("memory:///in/one.png", "skipped")
    (done,) = decompress_many(["memory://out/one.aec"], "memory://back")
    assert done.output == "memory://back/one.png"
    assert memory.cat_file("/back/one.png")[:4] == b"\x89PNG"


def test_between_memory_and_disk(tree, tmp_path, memory):
    (done,) = compress_many([tree], "memory://out")
    assert done.status == "done"
    (back,) = decompress_many(["memory://out/one.aec"], (tmp_path / "back").as_uri())
    assert back.output == str(tmp_path / "back" / "one.png")
    assert pixels.read_image(back.output).shape == (64, 96, 3)


def test_remote_failures_bear_the_remote_name(memory, tmp_path):
    memory.pipe_file("/in/bad.png", b"no image")
    memory.pipe_file("/in/bad.aec", b"no image")
    found = compress_many(["memory://in/bad.png", "memory://in/gone.png"], tmp_path)
    found += decompress_many(["memory://in/bad.aec"], "memory://out")
    for outcome in found:
        assert outcome.status == "failed"
        assert str(outcome.error).startswith(f"{outcome.source}: "), outcome.error
    assert isinstance(found[2].error, aecodec.SignatureError)
    assert memory.find("/out") == []
    assert list(tmp_path.iterdir()) == []


def test_names_that_lead_out_of_the_folder_are_refused(memory, tmp_path):
    memory.pipe_file("/in/a.png", b"")
    memory.store["/in/../../evil.png"] = memory.store["/in/a.png"]
    with pytest.raises(aecodec.InputError, match="leads out"):
        plan("compress", ["memory://in"], tmp_path, recursive=True)


def test_memory_stays_in_this_process(tmp_path, memory):
    memory.pipe_file("/in/a.png", b"")
    with pytest.raises(aecodec.InputError, match="worker processes"):
        compress_many(["memory://in/a.png"], tmp_path, jobs=2)


def test_a_failed_upload_leaves_nothing(tree, memory, monkeypatch):
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage.shutil, "copyfileobj", full)
    (failed,) = compress_many([tree], "memory://out")
    assert isinstance(failed.error, aecodec.OutputError)
    assert "no space" in str(failed.error)
    assert memory.find("/") == []


def test_what_is_wrong_for_every_file_is_said_once(tree, tmp_path):
    for wrong, message in (
        ({"quality": 30, "target_bpp": 1.0}, "give one of"),
        ({"target_bpp": float("nan")}, "finite"),
        ({"quality": 101}, "1..100"),
    ):
        with pytest.raises(InputError, match=message):
            compress_many(tree, tmp_path / "out", **wrong)
    with pytest.raises(UnknownModelError, match="nope"):
        compress_many(tree, tmp_path / "out", model="nope")
    with pytest.raises(TypeError, match="qualty"):
        compress_many(tree, tmp_path / "out", qualty=20)
    assert not (tmp_path / "out").exists()


def test_one_name_instead_of_many_and_an_ending_with_its_dot(tree, tmp_path):
    (coded,) = compress_many(str(tree / "one.png"), tmp_path / "coded", quality=10)
    (back,) = decompress_many(tmp_path / "coded", tmp_path / "back", format=".webp")
    assert (coded.status, back.output) == ("done", str(tmp_path / "back" / "one.webp"))


def test_links_that_lead_nowhere_fail_by_name(tree, tmp_path):
    (tree / "gone.png").symlink_to(tree / "nothing.png")
    outcomes = compress_many(str(tree / "*.png"), tmp_path / "out", quality=10)
    failed = [outcome for outcome in outcomes if outcome.error]
    assert [Path(outcome.source).name for outcome in failed] == ["gone.png"]
