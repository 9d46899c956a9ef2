"""Every example runs with no argument and prints what its docstring promises."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "examples"
LINES_MAX = 80
# What an example may need beyond zdl, which its docstring says in the first paragraph.
NEEDS = re.compile(r"Needs (\w+)\.")


def needs(path: Path) -> list[str]:
    """Packages beyond zdl that an example needs."""
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return NEEDS.findall(doc.partition("\n\n")[0])


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_prints_what_it_promises(path: Path) -> None:
    for package in needs(path):
        if find_spec(package) is None:
            pytest.skip(f"needs {package}: pip install 'zdl[{package}]'")
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == promised(path)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_is_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LINES_MAX


@pytest.mark.parametrize("path", [path for path in sorted(FOLDER.glob("*.py")) if needs(path)], ids=lambda path: path.stem)
def test_an_example_that_needs_more_than_zdl_says_so_where_that_is_missing(path: Path) -> None:
    code = f"import runpy, sys; sys.modules[{needs(path)[0]!r}] = None; runpy.run_path({str(path)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr == f"this example needs {needs(path)[0]}: pip install 'zdl[{needs(path)[0]}]'\n"


def promised(path: Path) -> str:
    """What stands below ``Prints::`` in the docstring."""
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    _, found, block = doc.partition("Prints::\n")
    assert found, f"{path.name} promises nothing"
    return textwrap.dedent(block).strip() + "\n"
