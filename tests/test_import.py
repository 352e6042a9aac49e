"""Importing is cheap, and the flat API is what it says."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

import aecodec
from aecodec import errors

HEAVY = ("torch", "numpy", "PIL", "safetensors", "constriction", "click")

WHAT_IS_LOADED = """
import sys
{code}
print(*(name for name in {heavy!r} if name in sys.modules))
print(sum(name.startswith('aecodec') for name in sys.modules))
"""


def loaded(code: str, heavy: tuple[str, ...] = HEAVY) -> tuple[list[str], int]:
    """Heavy modules loaded by a snippet in a new interpreter, and how many of ours."""
    text = WHAT_IS_LOADED.format(code=code, heavy=heavy)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    names, count = done.stdout.splitlines()[-2:]
    return names.split(), int(count)


def test_importing_the_package_loads_nothing_heavy():
    names, ours = loaded("import aecodec; aecodec.AecError, aecodec.__version__, dir(aecodec)")
    assert names == []
    assert ours <= 4


def test_info_loads_neither_torch_nor_numpy():
    code = "import aecodec\ntry: aecodec.info(b'x')\nexcept aecodec.FormatError: pass"
    names, _ = loaded(code)
    assert names == []


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, "20000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "active"}, "None"),
    ],
)
def test_how_threads_wait_is_said_unless_it_has_been(given: dict[str, str], found: str):
    code = "import os, aecodec; print(os.environ.get('GOMP_SPINCOUNT'))"
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    env = {k: v for k, v in os.environ.items() if k not in names} | given
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == found


@pytest.mark.parametrize(
    "args",
    [
        ["--help"],
        ["--version"],
        ["compress", "--help"],
        ["decompress", "--help"],
        ["info", "--help"],
        ["verify", "--help"],
        ["models", "--help"],
        ["compare", "--help"],
        ["bench", "--help"],
        ["train", "--help"],
        ["export", "--help"],
        ["explore", "--help"],
        ["explore", "latents", "--help"],
        ["info", "no-such-file.aec"],
        ["models"],
        ["completion", "bash"],
        ["compress", "nowhere/*.png", "--out", "nowhere", "--jobs", "2"],
    ],
)
def test_commands_that_only_tell_something_do_not_load_torch(args):
    names, _ = loaded(f"from aecodec.cli.main import run; run({args!r})", ("torch", "constriction"))
    assert names == []


def test_every_public_name_is_there_and_documented():
    for name in aecodec.__all__:
        value = getattr(aecodec, name)
        assert name == "__version__" or value.__doc__, name
        assert name in dir(aecodec)


def test_every_error_is_public():
    found = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.AecError)
    }
    assert found <= set(aecodec.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'compresss'"):
        _ = aecodec.compresss


def test_imports_go_down_the_table_in_contributing() -> None:
    """Every module stands in the table, and imports none of a row above its own."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    table = [re.findall(r"`(\w+)(?:\.py|/)`", cells) for cells in rows]
    place = {name: number for number, names in enumerate(table) for name in names}
    package = ROOT / "aecodec"
    for path in package.rglob("*.py"):
        here = path.relative_to(package).with_suffix("").parts[0]
        assert here in place, f"{path.name} is not in the table"
        for other in imported(path, package):
            assert place[other] >= place[here], f"{path} imports {other} from above it"


def imported(path: Path, package: Path) -> Iterator[str]:
    """The modules and folders of the package that a file imports anything from."""
    below = path.relative_to(package).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom):
            continue
        module = (node.module or "").split(".") if node.module else []
        if node.level:
            module = [*below[: len(below) + 1 - node.level], *module]
        elif module[0] == "aecodec":
            del module[0]
        else:
            continue
        yield from module[:1] or [alias.name for alias in node.names]
