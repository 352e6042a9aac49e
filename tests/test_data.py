"""Folders of images as training data: preparation, splits, changes and repeatable batches."""

from __future__ import annotations

import builtins
import itertools
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data as pictures

from aecodec.errors import InputError, MissingDependencyError, TrainingError
from aecodec.imagefiles import find_images
from aecodec.train.augment import PROBABILITIES, AugmentConfig, change
from aecodec.train.dataset import Batch, FolderDataset, generator
from aecodec.train.files import classes, label, split
from aecodec.train.prepare import DataConfig, prepare, to_samples
from aecodec.train.source import FolderSource

DEPTH = DataConfig(8, 8, channels=1, bits=16, maximum=10000, invalid=0)


def save(path: Path, samples: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(samples).save(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crops of a photograph in two class folders, of several kinds of file, and damaged ones."""
    root = tmp_path_factory.mktemp("images")
    cat, suffixes = pictures.chelsea(), itertools.cycle((".png", ".jpg", ".webp", ".tif"))
    for i, suffix in zip(range(12), suffixes, strict=False):
        crop = cat[10 * i : 10 * i + 60, 20 * i : 20 * i + 80]
        save(root / ("fur" if i % 2 else "eyes") / f"{i:02d}{suffix}", crop)
    save(root / "fur" / "gray.png", cat[:60, :80, 0])
    (root / "fur" / "text.png").write_text("no picture")
    whole = save(root / "fur" / "cut.png", cat).read_bytes()
    (root / "fur" / "cut.png").write_bytes(whole[: len(whole) // 2])
    return root


def dataset(root: Path, augment: AugmentConfig | None = None, **options: object) -> FolderDataset:
    config = DataConfig.from_dict({"height": 24, "width": 32, **options})
    return FolderDataset(find_images(root), root, config, augment, seed=5)


def equal(a: Batch, b: Batch) -> bool:
    return all(torch.equal(x, y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True))


def test_all_kinds_of_files_become_batches(folder: Path) -> None:
    images = dataset(folder)
    (batch,) = images.batches(100)
    assert images.classes == ("eyes", "fur")
    assert batch.x.shape == (13, 3, 24, 32) and batch.x.dtype == torch.float32
    assert -0.5 <= batch.x.min() < -0.2 and 0.1 < batch.x.max() <= 0.5
    assert batch.mask.all() and batch.mask.shape == (13, 1, 24, 32)
    named = {
        images.paths[i].parent.name: int(x) for i, x in zip(batch.index, batch.label, strict=True)
    }
    assert named == {"eyes": 0, "fur": 1}


def test_values_are_exact_where_nothing_is_resized(tmp_path: Path) -> None:
    rgb = np.arange(8 * 9 * 3, dtype=np.uint8).reshape(8, 9, 3)
    gray = np.arange(8 * 9, dtype=np.uint16).reshape(8, 9) * 900
    for samples, config in (
        (rgb, DataConfig()),
        (gray, DataConfig(channels=1, bits=16)),
    ):
        save(tmp_path / "x.png", samples)
        x, mask, label = FolderDataset(find_images(tmp_path), tmp_path, config)[0]
        assert mask.all() and label == -1
        expected = torch.from_numpy(samples.astype(np.float32)) / config.maximum - 0.5
        torch.testing.assert_close(x.movedim(0, -1).squeeze(-1), expected)
        assert np.array_equal(to_samples(x, config), samples)


def test_gray_and_colour_become_each_other() -> None:
    rgb = np.zeros((4, 4, 3), np.uint8)
    rgb[..., 1] = 255
    x, _ = prepare(rgb, DataConfig(channels=1))
    assert x.shape == (1, 4, 4)
    assert torch.allclose(x, torch.tensor(0.087))
    x, _ = prepare(rgb[..., 1], DataConfig(channels=3))
    assert (x == 0.5).all() and x.shape == (3, 4, 4)


def test_crop_takes_the_centre_and_none_keeps_the_scale() -> None:
    wide = np.zeros((10, 40), np.uint8)
    wide[:, 15:25] = 255
    config = {"height": 5, "width": 5, "channels": 1}
    assert (prepare(wide, DataConfig(resize="crop", **config))[0] == 0.5).all()
    assert prepare(wide, DataConfig(resize="stretch", **config))[0].mean() < -0.1
    ramp = np.arange(100, dtype=np.uint8).reshape(10, 10)
    x, _ = prepare(ramp, DataConfig(resize="none", **config))
    assert np.array_equal(to_samples(x, DataConfig()), ramp[2:7, 2:7])


def test_invalid_samples_never_mix_into_valid_ones() -> None:
    depth = np.full((32, 32), 4000, np.uint16)
    depth[:, 13:] = 0
    depth[:5] = 20000  # out of range
    x, mask = prepare(depth, DEPTH)
    torch.testing.assert_close(x[mask], torch.full_like(x[mask], -0.1))
    assert (x[~mask] == -0.5).all()
    assert mask[0, 2:, :3].all() and not mask[0, :, 4:].any() and not mask[0, 0].any()
    plain, everywhere = prepare(depth, DataConfig(channels=1, bits=16, maximum=10000))
    assert everywhere.all() and (plain[0, :5] == 0.5).all()


def test_more_files_never_move_others(tmp_path: Path) -> None:
    paths = [tmp_path / "a" / f"{i}.png" for i in range(200)]
    config = DataConfig(validation=0.2, test=0.1)
    few, many = split(paths[:100], tmp_path, config), split(paths, tmp_path, config)
    for one, other in zip(few, many, strict=True):
        assert set(one) < set(other)
    assert sorted(itertools.chain(*many)) == sorted(paths)
    assert len(many.test) < len(many.validation) < len(many.train)
    moved = [Path("/elsewhere") / p.relative_to(tmp_path) for p in paths]
    assert {p.name for p in split(moved, Path("/elsewhere"), config).test} == {
        p.name for p in many.test
    }
    assert not any(split(paths, tmp_path, DataConfig(validation=0, test=0))[1:])


ALL = AugmentConfig(**dict.fromkeys(PROBABILITIES, 0.5))


def test_batches_depend_on_seed_step_and_rank_alone(folder: Path) -> None:
    sources = [FolderSource(dataset(folder, ALL), 5, seed=3, workers=w) for w in (0, 2)]
    alone, helped = ([s.batch_at(step) for step in range(4)] for s in sources)
    assert all(map(equal, alone, helped))
    assert equal(sources[1].batch_at(2), alone[2])  # any order
    sources[1].close()
    again = FolderSource(dataset(folder, ALL), 5, seed=3)
    assert equal(again.batch_at(3), alone[3])
    for other in (
        FolderSource(dataset(folder, ALL), 5, seed=4),
        FolderSource(dataset(folder, ALL), 5, seed=3, rank=1, world=2),
    ):
        assert not equal(other.batch_at(3), alone[3])


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    shown = tmp_path / "fur" / "cat.png"
    for path in (shown, tmp_path / ".thumbs" / "cat.png", tmp_path / "fur" / ".cat.png"):
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (4, 4)).save(path)
    (tmp_path / "fur" / "folder.png").mkdir()
    assert find_images(tmp_path) == [shown]
    assert label(shown, tmp_path, classes(tmp_path)) == 0
    assert label(tmp_path / ".thumbs" / "cat.png", tmp_path, classes(tmp_path)) == -1


def test_workers_leave_the_random_numbers_of_training_alone(folder: Path) -> None:
    state = torch.get_rng_state()
    source = FolderSource(dataset(folder, ALL), 2, seed=3, workers=1)
    source.batch_at(0)
    source.close()
    assert torch.equal(torch.get_rng_state(), state)


def test_an_epoch_has_every_image_once_over_all_ranks(folder: Path) -> None:
    paths = [p for p in find_images(folder) if p.stem.isdigit()]
    images = FolderDataset(paths, folder, DataConfig(16, 16))
    ranks = [FolderSource(images, 2, seed=1, rank=r, world=3) for r in range(3)]
    for epoch in range(2):
        seen = [i for s in (0, 1) for r in ranks for i in r.batch_at(2 * epoch + s).index.tolist()]
        assert sorted(seen) == list(range(12))


def test_the_cache_changes_nothing(folder: Path) -> None:
    kept, fresh = (FolderSource(dataset(folder, ALL, cache=c), 4, seed=1) for c in (1024, 0))
    for step in range(5):
        batch = kept.batch_at(step)
        assert equal(batch, fresh.batch_at(step))
        batch.x.zero_()  # the caller's own


@pytest.mark.parametrize("workers", [0, 1])
def test_damaged_files_are_skipped_and_reported_once(
    folder: Path, caplog: pytest.LogCaptureFixture, workers: int
) -> None:
    caplog.set_level(logging.WARNING)
    images = dataset(folder)
    source = FolderSource(images, 7, seed=1, workers=workers)
    cut = next(i for i, path in enumerate(images.paths) if path.name == "cut.png")
    for step in range(6):
        assert cut not in source.batch_at(step).index
    source.close()
    list(images.batches(4))
    for name in ("cut.png", "text.png"):
        assert sum(name in record.getMessage() for record in caplog.records) == 1
    with pytest.raises(InputError, match=r"cut\.png.*damaged"):
        images[cut]


@pytest.mark.parametrize("name", PROBABILITIES)
def test_every_change_changes_and_can_be_made_again(folder: Path, name: str) -> None:
    plain = FolderSource(dataset(folder), 6, seed=2)
    changed, again = (
        FolderSource(dataset(folder, AugmentConfig(**{name: 1.0})), 6, seed=2) for _ in range(2)
    )
    before, after = plain.batch_at(0), changed.batch_at(0)
    assert equal(after, again.batch_at(0))
    assert torch.equal(before.index, after.index)
    assert after.x.shape == before.x.shape and after.x.abs().max() <= 0.5
    assert not torch.equal(after.x, before.x)
    assert (after.x - before.x).abs().mean() < 0.3
    assert equal(FolderSource(dataset(folder, AugmentConfig()), 6, seed=2).batch_at(0), before)


@pytest.mark.parametrize("name", PROBABILITIES)
def test_masks_move_along(tmp_path: Path, name: str) -> None:
    """Valid samples of two depths, 3000 and 4000, and holes: no change makes a third one."""
    depth = np.full((24, 24), 3000, np.uint16)
    depth[4:9, 4:20] = 4000
    depth[12:, 2:9] = 0
    for i in range(4):
        save(tmp_path / f"{i}.png", np.roll(depth, 3 * i, axis=1))
    data = DataConfig(24, 24, channels=1, bits=16, maximum=10000, invalid=0)
    config = AugmentConfig(**{name: 1.0}, crop_scale=1.0, mixup_alpha=5.0)
    images = FolderDataset(find_images(tmp_path), tmp_path, data, config, seed=1)
    batch = FolderSource(images, 4, seed=1).batch_at(0)
    assert (batch.x[~batch.mask] == -0.5).all()
    assert 0.05 < (~batch.mask).float().mean() < 0.5
    if name not in ("noise", "colour_jitter", "mixup"):
        assert set(((batch.x[batch.mask] + 0.5) * 10000).round().tolist()) == {3000, 4000}
    assert batch.x[batch.mask].min() > -0.5


def test_quarter_turns_and_flips_are_exact() -> None:
    x = torch.arange(12.0).view(1, 3, 4) / 24
    mask = torch.ones(1, 3, 4, dtype=torch.bool)
    for name, expected in (
        ("flip_horizontal", x.flip(2)),
        ("flip_vertical", x.flip(1)),
        ("rotate90", x.flip(1, 2)),  # half a turn: the sides differ
    ):
        found, _ = change(x, mask, AugmentConfig(**{name: 1.0}), DataConfig(), generator(0))
        assert torch.equal(found, expected), name
    square = x[:, :, :3]
    found = {
        tuple(
            change(square, mask[:, :, :3], AugmentConfig(rotate90=1.0), DataConfig(), generator(i))[
                0
            ]
            .flatten()
            .tolist()
        )
        for i in range(20)
    }
    assert found == {tuple(square.rot90(k, (1, 2)).flatten().tolist()) for k in (1, 2, 3)}


def test_random_crops_are_parts_of_the_image(tmp_path: Path) -> None:
    ramp = np.arange(40 * 50, dtype=np.uint16).reshape(40, 50)
    save(tmp_path / "ramp.png", ramp)
    data = DataConfig(16, 24, channels=1, bits=16, resize="none")
    images = FolderDataset(find_images(tmp_path), tmp_path, data, AugmentConfig(crop=1.0))
    corners = set()
    for x in FolderSource(images, 8, seed=1).batch_at(0).x:
        crop = to_samples(x, data)
        top, left = divmod(int(crop[0, 0]), 50)
        assert np.array_equal(crop, ramp[top : top + 16, left : left + 24])
        corners.add((top, left))
    assert len(corners) > 4


def test_changes_that_need_kornia_say_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def without(name: str, *args: object, **options: object) -> object:
        if name.startswith("kornia"):
            raise ModuleNotFoundError("No module named 'kornia'", name="kornia")
        return found(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    simple = AugmentConfig(flip_horizontal=1.0, rotate90=1.0, crop=1.0, noise=1.0, cutmix=1.0)
    FolderSource(dataset(folder, simple), 4, seed=1).batch_at(0)
    for name in ("rotate", "elastic", "colour_jitter"):
        with pytest.raises(MissingDependencyError, match=r"kornia.*aecodec\[train\]"):
            dataset(folder, AugmentConfig(**{name: 0.1}))


def test_folders_that_cannot_be_used_say_why(folder: Path, tmp_path: Path) -> None:
    def used(root: Path, **options: object) -> FolderDataset:
        return FolderDataset(find_images(root), root, DataConfig.from_dict(dict(options)))

    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: no images"):
        used(tmp_path / "empty")
    small = tmp_path / "small"
    save(small / "a.png", pictures.chelsea()[:60, :80])
    with pytest.raises(InputError, match=r"small: none of 1 .*a\.png: 80 x 60 .*100 x 90"):
        used(small, height=90, width=100, resize="none")
    with pytest.raises(InputError, match=r"a\.png: 8 bits .* bits = 16"):
        used(small, bits=16)
    save(small / "a.png", np.ones((9, 9), np.uint16))
    with pytest.raises(InputError, match=r"a\.png: 16 bits .* bits = 8"):
        used(small)
    Image.fromarray(np.ones((9, 9), np.float32)).save(small / "b.tif")
    (small / "a.png").unlink()
    with pytest.raises(InputError, match=r"b\.tif: 32 bits"):
        used(small, bits=16)
    (small / "b.tif").write_text("")
    with pytest.raises(InputError, match=r"small: none of 1 .*b\.tif"):
        used(small)
    mixed = used(folder)
    with pytest.raises(InputError, match=r"pixels.*height and width in \[data\]"):
        FolderSource(FolderDataset(_odd(tmp_path), tmp_path, DataConfig()), 2, seed=0).batch_at(0)
    assert len(mixed) == 14


def _odd(folder: Path) -> list[Path]:
    sides = ((20, 30), (30, 20))
    return [save(folder / f"{i}.png", np.zeros((*s, 3), np.uint8)) for i, s in enumerate(sides)]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hight": 3}, "'hight' in \\[data\\]; did you mean 'height'"),
        ({"height": 3}, "both"),
        ({"channels": 2}, "1 or 3"),
        ({"bits": 12}, "8 or 16"),
        ({"resize": "squash"}, "stretch, crop, none"),
        ({"maximum": 300}, "at most 255"),
        ({"validation": 0.5, "test": 0.5}, "below 1"),
        ({"workers": 1.5}, "workers in .data. must be a whole number, not 1.5"),
    ],
)
def test_bad_data_configs_say_what_is_wrong(values: dict[str, object], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        DataConfig.from_dict(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"flip": 0.5}, "did you mean 'flip_"),
        ({"mixup": 1.5}, "mixup is a probability"),
        ({"crop_scale": 0.0}, "crop_scale is more than 0"),
        ({"hue": 0.6}, "hue is at most 0.5"),
        ({"noise": True}, "noise in .augment. must be a number"),
    ],
)
def test_bad_changes_say_what_is_wrong(values: dict[str, object], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        AugmentConfig.from_dict(values)
