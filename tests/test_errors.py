"""What errors say."""

from __future__ import annotations

import importlib
import re
import sys

import pytest

from aecodec.errors import MissingDependencyError, needing


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("sklearn", "scikit-learn"),
        ("sklearn.cluster", "scikit-learn"),
        ("skimage.metrics", "scikit-image"),
        ("umap", "umap-learn"),
        ("lion_pytorch", "lion-pytorch"),
        ("bjontegaard", "bjontegaard"),
    ],
)
def test_a_missing_package_is_called_as_pip_calls_it(
    module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    message = f"this needs {package}: pip install 'aecodec[some]'"
    with (
        pytest.raises(MissingDependencyError, match=f"^{re.escape(message)}$"),
        needing("some", "this"),
    ):
        importlib.import_module(module)
