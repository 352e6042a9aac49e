"""Exploring latents: tables, projections, clusters, strips, samples, traversals."""

from __future__ import annotations

import dataclasses
import math
import os
import subprocess
import sys
from pathlib import Path

import explored
import numpy as np
import pytest
import torch
from conftest import ROOT
from explored import EACH, signs
from PIL import Image

from aecodec import explore
from aecodec.errors import InputError, MissingDependencyError, ModelError, ModelMismatchError
from aecodec.explore.images import load_image
from aecodec.explore.interpolate import slerp
from aecodec.explore.latents import Latents
from aecodec.model.families import LatentModel, load_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return signs(tmp_path_factory.mktemp("data") / "signs")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LatentModel:
    return load_model(explored.model_file(tmp_path_factory.mktemp("model") / "small.safetensors"))


@pytest.fixture(scope="module")
def variational(tmp_path_factory: pytest.TempPathFactory) -> LatentModel:
    path = tmp_path_factory.mktemp("model") / "vae.safetensors"
    return load_model(explored.model_file(path, latent_dim=3, variational=True))


@pytest.fixture(scope="module")
def table(model: LatentModel, folder: Path) -> Latents:
    return explore.latents(model, folder)


def made(count: int, dimensions: int = 5, classes: int = 0) -> Latents:
    """A table without a model: normal numbers, apart by class."""
    labels = np.arange(count) % classes if classes else np.full(count, -1)
    vectors = np.random.default_rng(4).normal(size=(count, dimensions)) + 8 * labels[:, None]
    names = tuple(f"{i}.png" for i in range(count))
    known = tuple(f"c{i}" for i in range(classes))
    return Latents(vectors.astype(np.float32), names, labels.astype(np.int64), known, "made")


def test_latents_are_those_of_the_model_with_names_and_labels(model, folder, table):
    assert table.vectors.shape == (3 * EACH, 4) and table.vectors.dtype == np.float32
    assert table.names[0] == "blue/0.png" and table.names[-1] == "red/7.png"
    assert table.classes == ("blue", "green", "red")
    assert table.labels.tolist() == [0] * EACH + [1] * EACH + [2] * EACH
    assert (table.model, table.model_id) == ("small", model.info.id)
    one = model.encode_image(load_image(model, folder / "red/7.png")[0])
    assert np.allclose(one.numpy()[0], table.vectors[-1], atol=1e-5)


@pytest.mark.parametrize("name", ["x.npz", "x.npy"])
def test_a_table_comes_back_from_its_file(table, tmp_path, name):
    paths = table.save(tmp_path / name)
    assert [path.suffix for path in paths] == ([".npz"] if name == "x.npz" else [".npy", ".json"])
    back = Latents.load(tmp_path / name)
    assert np.array_equal(back.vectors, table.vectors)
    assert np.array_equal(back.labels, table.labels)
    assert (back.names, back.classes, back.model_id) == (
        table.names,
        table.classes,
        table.model_id,
    )
    assert np.load(tmp_path / name, allow_pickle=False) is not None


def test_an_array_alone_is_a_table_without_names(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((3, 2)))
    table = Latents.load(tmp_path / "x.npy")
    assert table.names == ("0", "1", "2") and not table.has_classes


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"z": np.ones((2, 2))}, "no array 'latents'"),
        ({"latents": np.ones(4)}, r"shape \(4,\)"),
        ({"latents": np.array([["a", "b"]])}, "numbers"),
        ({"latents": np.array([[1, np.nan]])}, "not finite"),
        ({"latents": np.ones((2, 2)), "names": ["a"]}, "1 names"),
        ({"latents": np.ones((2, 2)), "labels": [0, 5], "classes": ["a"]}, "label 5"),
        ({"latents": np.ones((2, 2)), "labels": [0.5, 1.0]}, "integers"),
        ({"latents": np.array([object()] * 2)}, "not a file of latents"),
    ],
)
def test_a_file_that_is_no_table_is_named(tmp_path, parts, message):
    path = tmp_path / "bad.npz"
    np.savez(path, **parts)
    with pytest.raises(InputError, match=message) as caught:
        Latents.load(path)
    assert "bad.npz" in str(caught.value)


@pytest.mark.parametrize("name", ["none.npz", "text.npz", "text.npy", "text.txt"])
def test_other_files_are_no_tables(tmp_path, name):
    if name.startswith("text"):
        (tmp_path / name).write_text("not an array")
    with pytest.raises(InputError, match=name):
        Latents.load(tmp_path / name)


def test_a_table_cut_short_is_named(table, tmp_path):
    path = tmp_path / "cut.npz"
    table.save(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"cut\.npz: not a file of latents"):
        Latents.load(path)


def test_a_list_and_a_limit_choose_images(model, folder, tmp_path):
    listed = tmp_path / "test_files.txt"
    listed.write_text("red/3.png\nblue/1.png\n")
    assert explore.latents(model, folder, test_files=listed).names == ("blue/1.png", "red/3.png")
    spread = explore.latents(model, folder, limit=3)
    assert [name.split("/")[0] for name in spread.names] == ["blue", "green", "red"]
    for text, message in (("gone.png", "not there"), ("", "no images"), ("../x", "outside")):
        listed.write_text(text)
        with pytest.raises(InputError, match=message):
            explore.latents(model, folder, test_files=listed)


def test_folders_without_usable_images_are_refused(model, tmp_path, caplog):
    with pytest.raises(InputError, match="not a folder"):
        explore.latents(model, tmp_path / "none")
    with pytest.raises(InputError, match="no images"):
        explore.latents(model, tmp_path)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    with pytest.raises(InputError, match=r"broken\.png"):
        explore.latents(model, tmp_path)
    Image.fromarray(explored.sign("red", 0)).save(tmp_path / "whole.png")
    assert explore.latents(model, tmp_path).names == ("whole.png",)
    assert "broken.png" in caplog.text


def test_a_hyperprior_takes_any_size_and_averages(photo, tmp_path):
    Image.fromarray(photo[:40, :50]).save(tmp_path / "a.png")
    Image.fromarray(photo[:70, :33, 0]).save(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"")
    model = load_model("photo")
    table = explore.latents(model, tmp_path)
    assert table.vectors.shape == (2, 320) and table.names == ("a.png", "b.png")
    assert table.labels.tolist() == [-1, -1]
    x, _ = load_image(model, tmp_path / "a.png")
    assert x.shape == (1, 3, 32, 48)
    assert np.allclose(model.encode_image(x).mean(dim=(2, 3))[0], table.vectors[0], atol=1e-5)


def test_depth_goes_into_a_hyperprior_in_millimetres_without_holes(tmp_path):
    ramp = np.add.outer(np.arange(48) * 40, np.arange(64) * 15) + 1000
    ramp[10:20, 30:50] = 0
    Image.fromarray(ramp.astype(np.uint16)).save(tmp_path / "a.png")
    model = load_model("depth")
    x, mask = load_image(model, tmp_path / "a.png")
    millimetres = (x[0, 0].numpy() + 0.5) * 5000
    assert np.allclose(millimetres[ramp > 0], ramp[ramp > 0], atol=0.01)
    assert millimetres.min() > 900
    assert np.array_equal(mask[0, 0].numpy(), ramp > 0)
    found = explore.anomaly(model, tmp_path)
    assert found.maximum == 5000 and found.errors[0] < 300
    Image.fromarray(ramp.astype(np.uint8)).save(tmp_path / "b.png")
    with pytest.raises(InputError, match=r"b\.png: model depth is for depth"):
        load_image(model, tmp_path / "b.png")


def test_pca_keeps_distances_of_flat_latents():
    table = made(20)
    flat = np.zeros((20, 5), np.float32)
    flat[:, [1, 3]] = table.vectors[:, :2]
    plane = explore.project(Latents(flat, table.names, table.labels)).planes[0]
    assert sum(plane.explained) == pytest.approx(1)
    apart = np.linalg.norm(plane.points[3] - plane.points[9])
    assert apart == pytest.approx(np.linalg.norm(flat[3] - flat[9]), rel=1e-4)


def test_tsne_is_decided_by_its_seed():
    table = made(12)
    first, again, other = (explore.project(table, "tsne", seed=s) for s in (1, 1, 2))
    assert np.array_equal(first.planes[0].points, again.planes[0].points)
    assert first.settings["perplexity"] == pytest.approx(11 / 3)
    assert other.settings["seed"] == 2


def test_umap_separates_classes_and_is_decided_by_its_seed():
    code = """
import numpy as np, test_explore as t
from aecodec import explore
table = t.made(8, classes=2)
a, b = (explore.project(table, "umap", seed=5, neighbours=3).planes[0].points for _ in range(2))
assert a.shape == (8, 2) and np.array_equal(a, b)
near = np.linalg.norm(a[0] - a[2::2], axis=1).mean()
assert near < np.linalg.norm(a[0] - a[1::2], axis=1).mean()
"""
    env = {**os.environ, "NUMBA_DISABLE_JIT": "1"}  # compiling would take 20 s
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_latents_of_two_dimensions_are_drawn_as_they_are():
    table = made(3, dimensions=2)
    assert np.array_equal(explore.project(table, "none").planes[0].points, table.vectors)


@pytest.mark.parametrize(
    ("count", "method", "options", "message"),
    [
        (1, "tsne", {}, "at least 4 images, not 1"),
        (1, "umap", {}, "at least 4 images, not 1"),
        (1, "pca", {}, "at least 2 images, not 1"),
        (6, "tsne", {"perplexity": 6}, "less than the 6 images"),
        (6, "umap", {"neighbours": 6}, "less than the 6 images"),
        (6, "none", {}, "must have 2"),
        (6, "magic", {}, "pca, tsne, umap, none"),
    ],
)
def test_a_projection_that_makes_no_sense_is_refused(count, method, options, message):
    with pytest.raises(InputError, match=message):
        explore.project(made(count), method, **options)


def test_equal_latents_and_one_dimension_cannot_be_projected():
    names, labels = ("a", "b"), np.array([-1, -1])
    with pytest.raises(InputError, match="equal"):
        explore.project(Latents(np.ones((2, 3), np.float32), names, labels))
    with pytest.raises(InputError, match="one dimension"):
        explore.project(Latents(np.ones((2, 1), np.float32), names, labels))


def test_two_models_stand_side_by_side_only_with_the_same_images():
    both = explore.project([made(6), made(6, dimensions=9)])
    assert [plane.latents.vectors.shape[1] for plane in both.planes] == [5, 9]
    with pytest.raises(InputError, match="different images"):
        explore.project([made(6), made(7)])


def test_clusters_of_distinct_classes_are_the_classes(table):
    found = explore.cluster(table)
    assert found.centres.shape == (3, 4) and found.ari == 1 and found.nmi == pytest.approx(1)
    again = explore.cluster(table, seed=0)
    assert np.array_equal(found.clusters, again.clusters)


def test_clusters_without_classes_need_a_number_and_have_no_scores():
    found = explore.cluster(made(9), 2)
    assert found.ari is None and found.nmi is None and set(found.clusters) == {0, 1}
    for k, message in ((None, "how many"), (0, "out of range"), (10, "out of range")):
        with pytest.raises(InputError, match=message):
            explore.cluster(made(9), k)


def test_a_missing_package_names_the_extra(monkeypatch):
    for module, method in (("umap", "umap"), ("sklearn.manifold", "tsne")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(MissingDependencyError, match=r"pip install 'aecodec\[explore\]'"):
            explore.project(made(8), method)


def test_a_strip_begins_at_a_and_ends_at_b(model, folder):
    a, b = folder / "red/0.png", folder / "blue/0.png"
    found = explore.interpolate(model, a, b, steps=5)
    for strip in found.strips.values():
        assert strip.shape == (5, 3, 16, 16)
        for path, frame in ((a, strip[0]), (b, strip[-1])):
            whole = model.reconstruct(load_image(model, path)[0])[0]
            assert np.allclose(frame, whole, atol=1e-5)
    middle = found.strips["linear"][2].mean(axis=(1, 2))
    assert np.abs(middle - found.ends.mean(axis=(0, 2, 3))).max() < 0.25
    assert list(explore.interpolate(model, a, b, mode="spherical").strips) == ["spherical"]
    for options, message in (({"steps": 1}, "too few"), ({"mode": "cubic"}, "linear")):
        with pytest.raises(InputError, match=message):
            explore.interpolate(model, a, b, **options)


def test_images_of_two_sizes_are_cropped_to_one(photo, tmp_path):
    Image.fromarray(photo[:64, :32]).save(tmp_path / "a.png")
    Image.fromarray(photo[:32, :48]).save(tmp_path / "b.png")
    found = explore.interpolate(
        load_model("photo"), tmp_path / "a.png", tmp_path / "b.png", steps=2
    )
    assert found.ends.shape == (2, 3, 32, 32)


def test_spherical_interpolation_keeps_the_length():
    a, b = torch.tensor([[2.0, 0, 0]]), torch.tensor([[0, 2.0, 0]])
    middle = slerp(a, b, 0.5)
    assert torch.allclose(middle, torch.tensor([[math.sqrt(2), math.sqrt(2), 0]]))
    assert torch.allclose(slerp(a, 3 * a, 0.5), 2 * a)
    assert torch.allclose(slerp(0 * a, a, 0.5), a / 2)


def test_samples_are_decided_by_their_seed(variational):
    first, again, other = (explore.sample(variational, 3, seed=s).images for s in (1, 1, 2))
    assert first.shape == (3, 3, 16, 16)
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert explore.sample(variational, 1).source == "standard normal prior"
    with pytest.raises(InputError, match="1 to 400"):
        explore.sample(variational, 0)


def test_a_model_without_a_distribution_cannot_be_sampled(model):
    with pytest.raises(ModelError):
        explore.sample(model, 1)


def test_a_traversal_moves_one_dimension_by_its_deviations(model, table, folder):
    image = folder / "green/2.png"
    found = explore.traverse(model, image, latents=table, dimensions=[2, 0], steps=3, extent=2)
    assert found.dimensions == (2, 0) and found.offsets.tolist() == [-2, 0, 2]
    start = model.encode_image(load_image(model, image)[0])
    assert np.allclose(found.strips[0, 1], model.decode_latent(start)[0], atol=1e-5)
    start[0, 2] += 2 * float(table.vectors[:, 2].std())
    assert np.allclose(found.strips[0, 2], model.decode_latent(start)[0], atol=1e-4)
    assert found.change[0, 1] == pytest.approx(0, abs=1e-6) and found.change[0, 2] > 0


def test_what_varies_most_is_moved_first(model, table):
    found = explore.traverse(model, latents=table, count=2, steps=3)
    spread = table.vectors.std(axis=0)
    assert found.dimensions[0] == spread.argmax() and len(found.dimensions) == 2
    assert found.start == "the mean latent"


def test_a_variational_model_has_the_deviations_of_its_prior(variational):
    found = explore.traverse(variational)
    assert found.start == "zero" and found.deviations.tolist() == [1, 1, 1]


def test_a_traversal_that_lacks_something_says_what(model, variational, table, folder):
    image = folder / "red/0.png"
    with pytest.raises(InputError, match="explore latents"):
        explore.traverse(model, image)
    with pytest.raises(InputError, match="give one to start from"):
        explore.traverse(load_model("photo"))
    with pytest.raises(InputError, match="there are 0 to 3"):
        explore.traverse(model, latents=table, dimensions=[4])
    with pytest.raises(ModelMismatchError, match="small"):
        explore.traverse(variational, latents=table)
    with pytest.raises(InputError, match="at least 2 steps"):
        explore.traverse(model, latents=table, steps=1)


def test_latents_of_an_unknown_model_are_taken_with_a_warning(model, table, caplog):
    unknown = dataclasses.replace(table, model="run2", model_id="")
    explore.traverse(model, latents=unknown, dimensions=[0])
    assert "those of run2" in caplog.text


def test_a_hyperprior_moves_channels_of_an_image(photo, tmp_path):
    Image.fromarray(photo[:32, :32]).save(tmp_path / "a.png")
    found = explore.traverse(load_model("photo"), tmp_path / "a.png", count=1, steps=3)
    assert found.strips.shape == (1, 3, 3, 32, 32) and found.unit == "its positions"
    assert found.change[0, 2] > 0.05
