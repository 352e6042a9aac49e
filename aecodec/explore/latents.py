"""Latents of many images, as one table with file names and labels."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aecodec.errors import InputError, OutputError
from aecodec.explore.figures import as_json
from aecodec.output import check_output, write_bytes, write_text

if TYPE_CHECKING:
    from aecodec.model.families import LatentModel

FORMATS = (".npz", ".npy")


@dataclass(frozen=True)
class Latents:
    """One vector an image.

    Attributes:
        vectors: (N, D) float32. Of a bottleneck model its latents (the mean if it is
            variational); of a hyperprior the latents averaged over positions, D channels.
        names: N paths relative to the folder, with forward slashes.
        labels: (N,) int64, indices into `classes`; -1 for an image in no class folder.
        classes: names of the class folders, sorted.
        model: name of the model.
        model_id: identity of its weights.
    """

    vectors: NDArray[np.float32]
    names: tuple[str, ...]
    labels: NDArray[np.int64]
    classes: tuple[str, ...] = ()
    model: str = ""
    model_id: str = ""

    def __len__(self) -> int:
        return len(self.names)

    @property
    def has_classes(self) -> bool:
        """Whether there are labels of at least two classes."""
        return len(np.unique(self.labels[self.labels >= 0])) >= 2

    def describe(self) -> dict[str, Any]:
        """All but the vectors."""
        return {
            "model": self.model,
            "model_id": self.model_id,
            "images": len(self),
            "dimensions": self.vectors.shape[1],
            "names": list(self.names),
            "labels": self.labels,
            "classes": list(self.classes),
        }

    def save(self, out: Path, *, overwrite: bool = False) -> list[Path]:
        """Write as `.npz`, or as `.npy` with a JSON of the same name beside it.

        The `.npz` holds `latents`, `names`, `labels`, `classes`, `model`, `model_id`.

        Returns:
            The files written.

        Raises:
            OutputError: another ending, an existing file, or writing fails.
        """
        paths = check_latents_output(out, overwrite=overwrite)
        buffer = io.BytesIO()
        if out.suffix.lower() == ".npy":
            np.save(buffer, self.vectors, allow_pickle=False)
            write_text(paths[1], as_json(self.describe()), overwrite=overwrite)
        else:
            np.savez(
                buffer,
                latents=self.vectors,
                names=np.array(self.names, dtype=np.str_),
                labels=self.labels,
                classes=np.array(self.classes, dtype=np.str_),
                model=np.array(self.model),
                model_id=np.array(self.model_id),
            )
        write_bytes(out, buffer.getvalue(), overwrite=overwrite)
        return paths

    @classmethod
    def load(cls, path: Path) -> Latents:
        """Read what `save` wrote, or any `.npy` or `.npz` with an array (N, D) of `latents`.

        Names and labels may be missing: images are then numbered, without classes.

        Raises:
            InputError: no such file, not of this kind, or the parts do not fit together.
        """
        try:
            if path.suffix.lower() == ".npz":
                with np.load(path, allow_pickle=False) as file:
                    parts: dict[str, Any] = {key: file[key] for key in file.files}
            elif path.suffix.lower() == ".npy":
                parts = {**_beside(path), "latents": np.load(path, allow_pickle=False)}
            else:
                raise InputError(f"{path}: latents are read from {' or '.join(FORMATS)}")
        except FileNotFoundError as error:
            raise InputError(f"{path}: no such file") from error
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            raise InputError(f"{path}: not a file of latents: {error}") from error
        return _fit(path, parts)


def check_latents_output(out: Path, *, overwrite: bool = False) -> list[Path]:
    """The files that `Latents.save` would write, once it is sure that it can.

    Raises:
        OutputError: another ending, or an existing file.
    """
    kind = out.suffix.lower()
    if kind not in FORMATS:
        raise OutputError(f"{out}: latents are written as {' or '.join(FORMATS)}")
    paths = [out, out.with_suffix(".json")] if kind == ".npy" else [out]
    for path in paths:
        check_output(path, overwrite=overwrite)
    return paths


def _beside(path: Path) -> dict[str, Any]:
    """What the JSON beside an `.npy` says; nothing if there is none."""
    beside = path.with_suffix(".json")
    if not beside.exists():
        return {}
    values = json.loads(beside.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise InputError(f"{beside}: not a JSON object")
    return values


def _fit(path: Path, parts: dict[str, Any]) -> Latents:
    """Check that the parts of a file belong together."""
    if "latents" not in parts:
        raise InputError(f"{path}: holds no array 'latents'")
    vectors = np.asarray(parts["latents"])
    if vectors.ndim != 2 or 0 in vectors.shape or vectors.dtype.kind not in "fiu":
        raise InputError(
            f"{path}: latents must be numbers of shape (images, dimensions), "
            f"not {vectors.dtype} of shape {vectors.shape}"
        )
    if not np.isfinite(vectors).all():
        raise InputError(f"{path}: latents are not finite")
    count = len(vectors)
    names = tuple(str(name) for name in parts.get("names", range(count)))
    classes = tuple(str(name) for name in parts.get("classes", ()))
    labels = np.asarray(parts.get("labels", np.full(count, -1)))
    if len(names) != count or labels.shape != (count,):
        raise InputError(
            f"{path}: {count} latents, but {len(names)} names and {labels.size} labels"
        )
    if labels.dtype.kind not in "iu" or labels.min() < -1:
        raise InputError(f"{path}: labels must be integers from -1")
    if not classes and labels.max() >= 0:
        classes = tuple(str(i) for i in range(int(labels.max()) + 1))
    if labels.max() >= len(classes):
        raise InputError(f"{path}: label {labels.max()}, but {len(classes)} classes")
    return Latents(
        vectors.astype(np.float32),
        names,
        labels.astype(np.int64),
        classes,
        str(parts.get("model", "")) or path.stem,
        str(parts.get("model_id", "")),
    )


def latents(
    model: LatentModel,
    data: Path,
    *,
    limit: int | None = None,
    test_files: Path | None = None,
    batch: int = 32,
) -> Latents:
    """Encode the images of a folder to one vector each.

    Args:
        model: from `aecodec.model.families.load_model`.
        data: a folder of images, perhaps with a folder for each class.
        limit: only so many images, spread evenly over the sorted list.
        test_files: a text file that lists the images to take, one path a line, relative to
            `data`, such as `test_files.txt` of a run.
        batch: how many images are encoded at a time, where all have one size.

    Returns:
        The vectors, in the order of the sorted paths; see `Latents`.

    Raises:
        InputError: no folder, no images in it, none that can be read, or a listed one is
            missing.
    """
    from aecodec.explore.images import ImageFolder

    folder = ImageFolder(model, data, limit=limit, test_files=test_files)
    vectors, names, labels = [], [], []
    for part in folder.batches(batch):
        vectors.append(model.vectors(part.x).float().cpu().numpy())
        names += part.names
        labels += part.labels
    return Latents(
        np.concatenate(vectors).astype(np.float32),
        tuple(names),
        np.array(labels, dtype=np.int64),
        folder.classes,
        model.info.name,
        model.info.id,
    )
